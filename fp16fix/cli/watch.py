"""Progress: bars on a terminal, plain lines in a pipe, nothing with ``--json``."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from fp16fix.progress import Silent, Watcher
from fp16fix.report.words import visible


class Bars:
    """One bar a stage, drawn on standard error."""

    def __init__(self) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
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
    """One line a stage on standard error."""

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing yet."""

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


def watcher(*, quiet: bool) -> Bars | Lines | Closing:
    """The watcher that fits where standard error goes."""
    if quiet:
        return Closing()
    return Bars() if sys.stderr.isatty() else Lines()


__all__ = ["Watcher", "watcher"]
