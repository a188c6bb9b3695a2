"""A Ray cluster: the same work as Ray tasks. A task whose worker or machine dies is worked on again elsewhere.

Everything a task reads and writes must be reachable from every machine: a folder that all of them share, or URLs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fp16fix.errors import BackendError, BackendMissingError, first_line
from fp16fix.report.batch import CRASHED, OUT_OF_MEMORY, Row
from fp16fix.zoo.executors import Load, Told
from fp16fix.zoo.task import Task, nothing, perform

if TYPE_CHECKING:
    from typing_extensions import Self

RETRIES = 3
"""How often a task is begun again whose worker died."""
POLL_S = 1.0
"""How long one wait for results takes, so that Ctrl-C is heard."""
MIB = 1 << 20


class Cluster:
    """See the module. ``address`` is what ``ray.init`` takes; None starts a cluster of this machine, or joins the one that was joined."""

    def __init__(self, address: str | None) -> None:
        # Read when Ray starts: nothing here talks to a network that was not named.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
        except ImportError as error:
            hint = "pip install 'fp16fix[ray]'"
            raise BackendMissingError("Ray is not installed", where="--executor ray", hint=hint) from error
        self._ray = ray
        self._address = address
        self._joined = False
        self._tasks: dict[Any, Load] = {}

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            try:
                self._ray.init(address=self._address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            except Exception as error:  # Ray's own kinds differ between releases
                hint = "is the cluster up (ray status)?"
                raise BackendError(f"no cluster to join ({first_line(error)})", where=f"--address {self._address}", hint=hint) from error
            self._joined = True
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks:
            self._ray.cancel(task, force=True)
        if self._joined:
            self._ray.shutdown()

    def run(self, loads: Sequence[Load], told: Told) -> Iterator[tuple[Task, Row]]:
        """Rows as they come back. Ray starts a task where its cores, memory and GPUs are free."""
        remote = self._ray.remote(performed)
        for load in loads:
            told.started(load.task)
            self._tasks[self._started(remote, load)] = load
        while self._tasks:
            for done in self._ray.wait(list(self._tasks), timeout=POLL_S)[0]:
                load = self._tasks.pop(done)
                yield load.task, self._row(done, load.task)

    def _started(self, remote: Any, load: Load) -> Any:
        wanted = {"num_cpus": load.cores, "num_gpus": load.gpus, "memory": int(load.memory_mib * MIB)}
        return remote.options(name=load.task.name, max_retries=RETRIES, **wanted).remote(load.task)

    def _row(self, done: Any, task: Task) -> Row:
        """What came back, or a row that says what became of the workers."""
        try:
            row: Row = self._ray.get(done)
        except self._ray.exceptions.OutOfMemoryError as error:
            return replace(nothing(task.name, task.parsed, OUT_OF_MEMORY, "on Ray"), reasons=(first_line(error),))
        except self._ray.exceptions.RayError as error:
            said = f"no worker lived to the end, {RETRIES + 1} times: {first_line(error)}"
            return replace(nothing(task.name, task.parsed, CRASHED, "on Ray"), reasons=(said,))
        return row


def performed(task: Task) -> Row:
    """One task on a worker; nobody there looks at its progress. A worker that is ended takes what it started along."""
    return perform(task, lambda _event: None, lambda _guard: None)
