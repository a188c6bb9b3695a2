"""When memory that nobody uses is given back: the heap's, to the system (glibc, mallopt(3)); circles of objects, to the heap."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import psutil

from fp16fix.process.family import resident

M_MMAP_THRESHOLD = -3
"""Bytes from which a block is a mapping of its own, which goes when it is freed."""
LOW, HIGH = 1 << 20, 32 << 20
"""The threshold inside, and the one that glibc arrives at by itself once large blocks have been freed."""


SELDOM = 50_000
"""Objects made before the youngest are looked through for circles. Graphs are made of millions that live; at Python's 700 to 2,000, a
repair of a thousand nodes looks for a fifth of its time, and what it would find is some ten MiB."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """For work on graphs, the garbage collector comes seldom; whoever has more patience than ``SELDOM``, or has it off, keeps that.

    What was there before is looked through with the rest: where Python computes an operator (onnxruntime-extensions 0.15), a collection
    after ``gc.freeze`` ends the process.
    """
    least, *others = gc.get_threshold()
    if least and least < SELDOM:
        gc.set_threshold(SELDOM, *others)
    try:
        yield
    finally:
        gc.set_threshold(least, *others)


GROWN = 32 << 20
"""Bytes by which memory has grown when it is worth a tenth of a second to look for circles that hold some of it."""


@dataclass(slots=True)
class Circles:
    """Looks for circles of objects, which hold weights until somebody looks, once there may be many."""

    least: int = 0
    """Bytes resident: the fewest since the last look."""

    def look(self) -> None:
        """If memory has grown since."""
        now = resident(psutil.Process())
        if now - self.least > GROWN:
            gc.collect()
            self.least = resident(psutil.Process())
        else:
            self.least = min(self.least, now)


CIRCLES = Circles()
"""Of this process."""


@contextmanager
def given_back() -> Iterator[None]:
    """For work whose large blocks come and go between small ones that stay: the heap would keep holes of hundreds of MiB."""
    tell(LOW)
    try:
        yield
    finally:
        tell(HIGH)


def tell(threshold: int) -> None:
    """Set it, where there is such a thing."""
    library = libc()
    if library is not None and hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, threshold)


@cache
def libc() -> ctypes.CDLL | None:
    """Of this process; None where there is no asking for it."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
