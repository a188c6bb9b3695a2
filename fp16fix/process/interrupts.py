"""Ctrl-C and SIGTERM: the same to the work that they end, and never in the middle of a step that must be whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_placed: dict[Path, None] = {}
"""Files that this process has put in place, for whoever must say so when it is stopped."""


def placed(*paths: Path) -> None:
    """Remember that these are where they belong."""
    _placed.update(dict.fromkeys(paths))


def in_place() -> list[Path]:
    """What this process has put in place and is there still; scratch files come and go."""
    return [path for path in _placed if path.exists()]


@contextmanager
def terminable() -> Iterator[list[int]]:
    """Within the block SIGTERM does what Ctrl-C does, and is in the list that the block is given.

    Outside the main thread, where no handler can be set, it stays what it was.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within the block, which must be short, signals that would end it wait for its end; in another thread none ever come."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    handlers = {number: signal.signal(number, lambda came, _: waiting.append(came)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for came in waiting[:1]:
            signal.raise_signal(came)
