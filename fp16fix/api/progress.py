"""Whoever looks on from Python: a callback, or bars by rich."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fp16fix.progress import Silent, Watcher


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of long work, as a callback is told it."""

    stage: str
    """``measure ranges``, ``strict run``, ``build``, …; as in the outcome's ``stages``."""
    done: int
    """Steps of the stage that are done; 0 as it begins."""
    total: int | None
    """Steps that are expected; None where that cannot be known."""
    seconds: float
    """Since the stage began."""
    ended: bool = False
    """The stage is over."""
    line: str = ""
    """Something worth a line now; else empty."""


Onlooker = bool | Callable[[Progress], object]
"""True for bars, a callback, or False for neither."""


class Caller:
    """A watcher that calls back, in the thread that works; what the callback raises ends the work."""

    def __init__(self, callback: Callable[[Progress], object]) -> None:
        self._callback = callback
        self._stage, self._done, self._began = "", 0, time.perf_counter()
        self._total: int | None = None

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts."""
        self._stage, self._done, self._total, self._began = stage, 0, total, time.perf_counter()
        self._tell()

    def tick(self) -> None:
        """One step is done."""
        self._done += 1
        self._tell()

    def end(self, stage: str, seconds: float) -> None:
        """The stage is over."""
        self._callback(Progress(stage, self._done, self._total, seconds, ended=True))

    def say(self, line: str) -> None:
        """A line."""
        self._tell(line)

    def _tell(self, line: str = "") -> None:
        self._callback(Progress(self._stage, self._done, self._total, time.perf_counter() - self._began, line=line))


@contextmanager
def watching(progress: Onlooker) -> Iterator[Watcher]:
    """The watcher for whoever looks on."""
    if callable(progress):
        yield Caller(progress)
    elif progress:
        from fp16fix.console.watch import Bars

        bars = Bars()
        try:
            yield bars
        finally:
            bars.close()
    else:
        yield Silent()
