"""Safe mode: after a library ended the process, the same work once more with every graph optimiser off."""

from __future__ import annotations

import os

VARIABLE = "FP16FIX_SAFE"
"""Environment variable that switches it on, so that it holds in child processes too; its value says why."""


def why() -> str:
    """What made it necessary; empty where it is off."""
    return os.environ.get(VARIABLE, "")


def is_on() -> bool:
    """Whether graph optimisers stay off."""
    return bool(why())
