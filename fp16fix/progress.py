"""``Watcher``: how long work tells whoever is looking that it moves on. The pipeline talks to one; only ``cli`` draws."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

Tick = Callable[[], None]


class Watcher(Protocol):
    """Receives what is going on."""

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts; ``total`` ticks are expected, None if that cannot be known."""
        ...

    def tick(self) -> None:
        """One step of the stage is done."""
        ...

    def end(self, stage: str, seconds: float) -> None:
        """The stage is over."""
        ...

    def say(self, line: str) -> None:
        """Something worth a line now."""
        ...


class Silent:
    """Nobody is looking."""

    def begin(self, stage: str, total: int | None) -> None:
        """Ignore."""

    def tick(self) -> None:
        """Ignore."""

    def end(self, stage: str, seconds: float) -> None:
        """Ignore."""

    def say(self, line: str) -> None:
        """Ignore."""


class Crowd(Protocol):
    """Receives how many models go on, from several threads."""

    def expect(self, total: int) -> None:
        """So many are to be worked on."""
        ...

    def start(self, name: str) -> None:
        """Work on one begins."""
        ...

    def stage(self, name: str, stage: str, total: int | None) -> None:
        """A stage of one begins; ``total`` ticks are expected, None if that cannot be known."""
        ...

    def ticks(self, name: str, count: int) -> None:
        """So many ticks of its stage are done."""
        ...

    def done(self, name: str, words: str) -> None:
        """One is done, with what came of it."""
        ...

    def say(self, line: str) -> None:
        """Something worth a line now."""
        ...


class SilentCrowd:
    """Nobody is looking."""

    def expect(self, total: int) -> None:
        """Ignore."""

    def start(self, name: str) -> None:
        """Ignore."""

    def stage(self, name: str, stage: str, total: int | None) -> None:
        """Ignore."""

    def ticks(self, name: str, count: int) -> None:
        """Ignore."""

    def done(self, name: str, words: str) -> None:
        """Ignore."""

    def say(self, line: str) -> None:
        """Ignore."""


class Stages:
    """Times every stage and passes it on to a watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Tick]:
        """``with stages.stage("measure", 8) as tick:``; time adds up over stages of one name."""
        began = time.perf_counter()
        self.watcher.begin(name, total)
        try:
            yield self.watcher.tick
        finally:
            spent = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
            self.watcher.end(name, spent)
