"""What is freed goes back to the system at once, where the C library can be told so (glibc, mallopt(3))."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

M_MMAP_THRESHOLD = -3
"""Bytes from which a block is a mapping of its own, which goes when it is freed."""
LOW, HIGH = 1 << 20, 32 << 20
"""The threshold inside, and the one that glibc arrives at by itself once large blocks have been freed."""


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
