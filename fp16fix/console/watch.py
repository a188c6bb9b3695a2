"""Progress: bars on a terminal, plain lines in a pipe, nothing with ``--json``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fp16fix.console.manner import manner
from fp16fix.progress import Silent, SilentCrowd, Watcher
from fp16fix.report.words import duration, visible


class Bars:
    """One bar a stage, drawn on standard error."""

    def __init__(self) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=manner().console(sys.stderr), transient=True)
        self._progress.start()
        self._task: TaskID | None = None

    def begin(self, stage: str, total: int | None) -> None:
        """A new bar."""
        self._task = self._progress.add_task(stage, total=total)

    def tick(self) -> None:
        """One step."""
        if self._task is not None:
            self._progress.advance(self._task)

    def end(self, stage: str, seconds: float) -> None:
        """Replace the bar by a line."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self._progress.console.print(f"  [green]✓[/green] {stage} [dim]{seconds:.1f} s[/dim]", highlight=False)

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._progress.console.print(f"  {visible(line)}", highlight=False, markup=False)

    def close(self) -> None:
        """Give the terminal back."""
        self._progress.stop()


class Lines:
    """A line when a stage begins, and one when it is over, on standard error."""

    def begin(self, stage: str, total: int | None) -> None:
        """What is done now, and in how many steps."""
        sys.stderr.write(f"  {stage}{f' ({total})' if total is not None and total > 1 else ''} …\n")

    def tick(self) -> None:
        """Nothing."""

    def end(self, stage: str, seconds: float) -> None:
        """The stage and its time."""
        sys.stderr.write(f"  {stage}: {seconds:.1f} s\n")

    def say(self, line: str) -> None:
        """The line."""
        sys.stderr.write(f"  {visible(line)}\n")

    def close(self) -> None:
        """Nothing to give back."""


class Closing(Silent):
    """A silent watcher that can be closed like the others."""

    def close(self) -> None:
        """Nothing to give back."""


class Logged:
    """Another watcher, and the log."""

    def __init__(self, watcher: Bars | Lines | Closing) -> None:
        self._watcher = watcher

    def begin(self, stage: str, total: int | None) -> None:
        """A stage begins."""
        manner().noted(f"{stage} …")
        self._watcher.begin(stage, total)

    def tick(self) -> None:
        """One step."""
        self._watcher.tick()

    def end(self, stage: str, seconds: float) -> None:
        """It is over."""
        manner().noted(f"{stage}: {seconds:.1f} s")
        self._watcher.end(stage, seconds)

    def say(self, line: str) -> None:
        """A line."""
        manner().noted(visible(line))
        self._watcher.say(line)

    def close(self) -> None:
        """Give the terminal back."""
        self._watcher.close()


class CrowdBars:
    """One bar for all, with a time left, and one for each that is worked on, with its stage."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=manner().console(sys.stderr), transient=True)
        self._progress.start()
        self._all: TaskID | None = None
        self._each: dict[str, TaskID] = {}

    def expect(self, total: int) -> None:
        """The bar for all."""
        self._all = self._progress.add_task("all", total=total)

    def start(self, name: str) -> None:
        """A bar for one."""
        self._each[name] = self._progress.add_task(escape(visible(name)), total=None)

    def stage(self, name: str, stage: str, total: int | None) -> None:
        """Its stage."""
        self._progress.reset(self._each[name], total=total, description=escape(visible(f"{name}: {stage}")))

    def ticks(self, name: str, count: int) -> None:
        """So far."""
        self._progress.update(self._each[name], completed=count)

    def done(self, name: str, words: str) -> None:
        """Its bar becomes a line."""
        if name in self._each:
            self._progress.remove_task(self._each.pop(name))
        self.say(f"{name}: {words}")
        if self._all is not None:
            self._progress.advance(self._all)

    def say(self, line: str) -> None:
        """A line above the bars."""
        self._progress.console.print(f"  {visible(line)}", highlight=False, markup=False)

    def close(self) -> None:
        """Give the terminal back."""
        self._progress.stop()


class CrowdLines:
    """A line when a stage of one begins, and one when it is done, with how many are left and about how long they take."""

    def __init__(self) -> None:
        self._left, self._total, self._began = 0, 0, 0.0

    def expect(self, total: int) -> None:
        """How many."""
        self._left = self._total = total
        self._began = time.monotonic()

    def start(self, name: str) -> None:
        """Nothing yet: its first stage says it."""

    def stage(self, name: str, stage: str, total: int | None) -> None:
        """The stage that begins."""
        self.say(f"{name}: {stage}{f' ({total})' if total is not None and total > 1 else ''}")

    def ticks(self, name: str, count: int) -> None:
        """Nothing."""

    def done(self, name: str, words: str) -> None:
        """What came of it, and what is left."""
        self._left -= 1
        ended = self._total - self._left
        left = (time.monotonic() - self._began) / ended * self._left
        self.say(f"{name}: {words} ({ended} of {self._total}{f', about {duration(left)} left' if self._left else ''})")

    def say(self, line: str) -> None:
        """The line."""
        sys.stderr.write(f"  {visible(line)}\n")

    def close(self) -> None:
        """Nothing to give back."""


class ClosingCrowd(SilentCrowd):
    """A silent crowd that can be closed like the others."""

    def close(self) -> None:
        """Nothing to give back."""


def crowd(*, quiet: bool) -> CrowdBars | CrowdLines | ClosingCrowd:
    """Who watches many, as fits where standard error goes; the log has the rows."""
    if quiet or manner().quiet:
        return ClosingCrowd()
    return CrowdBars() if sys.stderr.isatty() else CrowdLines()


def watcher(*, quiet: bool) -> Logged:
    """The watcher that fits where standard error goes."""
    if quiet or manner().quiet:
        return Logged(Closing())
    return Logged(Bars() if sys.stderr.isatty() else Lines())


@contextmanager
def watching(quiet: bool) -> Iterator[Watcher]:
    """A display that fits where standard error goes, and is always closed."""
    eyes = watcher(quiet=quiet)
    try:
        yield eyes
    finally:
        eyes.close()
