"""Where tasks are worked on: ``local``, processes of this machine, or ``ray``, a cluster. Each yields rows as they are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from fp16fix.report.batch import Row
from fp16fix.zoo.task import Task


@dataclass(frozen=True, slots=True)
class Load:
    """What a task is expected to take."""

    task: Task
    cores: int
    memory_mib: float
    gpus: float


class Told(Protocol):
    """Who is told how tasks go on; from any thread."""

    def started(self, task: Task) -> None:
        """Work on one begins."""
        ...

    def event(self, task: Task, event: Mapping[str, Any]) -> None:
        """What its worker said."""
        ...


class Executor(Protocol):
    """One way to work on many tasks; ended, with all that runs, when the block is left."""

    def run(self, loads: Sequence[Load], told: Told) -> Iterator[tuple[Task, Row]]:
        """Rows in the order in which they are made."""
        ...


Opened = AbstractContextManager[Executor]
