"""A process and all that descends from it: how it ends with its parent, is counted, and is ended. Linux where it matters."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Linux, prctl(2)."""
MIB = 1 << 20
ENDING_S = 10.0
"""How long a process that was killed may take to go; one that waits for a disk takes a while."""


def end_with_parent(number: signal.Signals) -> None:
    """This process gets ``number`` when its parent ends; nothing happens where the system has no such thing."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """What a descendant leaves behind becomes a child of this process, so that ``descendants`` sees all of them."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def descendants() -> list[psutil.Process]:
    """All that live now."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process().children(recursive=True)
    return []


def memory_mib(limit: float | None = None) -> float:
    """What all descendants hold, MiB.

    Resident pages are summed, in which pages that several share count for each; only where that passes ``limit`` are shares counted
    exactly, which is slow.
    """
    family = descendants()
    held = sum(resident(each) for each in family) / MIB
    return sum(proportional(each) for each in family) / MIB if limit is not None and held > limit else held


def resident(process: psutil.Process) -> int:
    """Bytes; 0 of one that has left."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def proportional(process: psutil.Process) -> int:
    """Bytes, of shared pages its share; resident ones where the system does not tell."""
    try:
        return int(getattr(process.memory_full_info(), "pss", 0)) or resident(process)
    except psutil.Error:
        return resident(process)


def end_descendants() -> None:
    """Kill all of them, and those that they start meanwhile, and wait until they are gone."""
    until = time.monotonic() + ENDING_S
    while (family := descendants()) and time.monotonic() < until:
        for each in family:
            with suppress(psutil.Error):
                each.kill()
        psutil.wait_procs(family, timeout=0.2)
        reap()


def reap() -> None:
    """Adopted processes that have ended are let go."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
