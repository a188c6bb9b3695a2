"""Processes of this machine: as many at once as cores and memory allow."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fp16fix.process.family import cores
from fp16fix.report.batch import Row
from fp16fix.zoo.executors import Load, Told
from fp16fix.zoo.task import Guarded, Task, perform

if TYPE_CHECKING:
    from typing_extensions import Self

CGROUP = Path("/sys/fs/cgroup")
"""Linux: what a container may take, which no other call tells."""
MIB = 1 << 20
SHARE = 0.9
"""Of the memory that is free; the rest is for what was not foreseen."""


class Local:
    """See the module. ``jobs`` is the most at once; 0 leaves it to cores and memory."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._guards: set[Guarded] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            for guard in self._guards:
                guard.leave()
        for thread in self._threads:
            thread.join()

    def run(self, loads: Sequence[Load], told: Told) -> Iterator[tuple[Task, Row]]:
        """Rows as they are made. The first in order that fits is started next; one that never fits is started alone."""
        ended: queue.Queue[tuple[Load, Row]] = queue.Queue()
        waiting, running, room = list(loads), list[Load](), Room(self._jobs)
        while waiting or running:
            while (load := room.next(waiting, running)) is not None:
                waiting.remove(load)
                running.append(load)
                told.started(load.task)
                self._start(load, told, ended)
            load, row = ended.get()
            running.remove(load)
            yield load.task, row

    def _start(self, load: Load, told: Told, ended: queue.Queue[tuple[Load, Row]]) -> None:
        def work() -> None:
            ended.put((load, perform(load.task, lambda event: told.event(load.task, event), self._hold)))

        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _hold(self, guard: Guarded) -> None:
        """Remember what runs; what starts while all is being left is let go at once."""
        with self._lock:
            self._guards = {each for each in self._guards if each.runs} | {guard}
            if self._closed:
                guard.leave()


class Room:
    """Cores and memory of this machine."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.cores = cores()
        self.memory_mib = available_mib() * SHARE

    def next(self, waiting: Sequence[Load], running: Sequence[Load]) -> Load | None:
        """What to start now."""
        if not running:
            return waiting[0] if waiting else None
        if self.jobs:
            return waiting[0] if waiting and len(running) < self.jobs and self._fits(waiting[0], running) else None
        cores = self.cores - sum(each.cores for each in running)
        return next((each for each in waiting if each.cores <= cores and self._fits(each, running)), None)

    def _fits(self, load: Load, running: Sequence[Load]) -> bool:
        return load.memory_mib + sum(each.memory_mib for each in running) <= self.memory_mib


def available_mib() -> float:
    """Memory that is free: of the machine, and of the container if that is less."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, limit - used)
    except (OSError, ValueError):  # no container, or one without a limit
        pass
    return free / MIB
