"""Safe mode: after a library ended the process, the same work once more with every graph optimiser off."""

from __future__ import annotations

import os
import signal

VARIABLE = "FP16FIX_SAFE"
"""Environment variable that switches it on, so that it holds in child processes too; its value says why."""


DEADLY = frozenset({"SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE"})
"""How native code ends a process; SIGKILL and SIGTERM come from outside and are obeyed."""


def ended_by_library(code: int) -> str:
    """What to say of a process with this exit code (minus a signal); empty unless native code ended it and safe mode may help."""
    name = signal.Signals(-code).name if code < 0 else ""
    return f"A library ended the process ({name})" if name in DEADLY and not is_on() else ""


def why() -> str:
    """What made it necessary; empty where it is off."""
    return os.environ.get(VARIABLE, "")


def is_on() -> bool:
    """Whether graph optimisers stay off."""
    return bool(why())
