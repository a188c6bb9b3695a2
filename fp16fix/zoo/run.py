"""``ZooConfig`` → a ``Batch``: what is known is found, what is not is worked on, and every row is on disk as soon as it is made."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fp16fix.config import ZooConfig
from fp16fix.config.urls import is_url, url_of
from fp16fix.config.zoo import Failure
from fp16fix.errors import ConfigError, Fp16fixError
from fp16fix.progress import Crowd
from fp16fix.report.batch import Batch, Content, Row
from fp16fix.report.words import duration
from fp16fix.zoo import storage
from fp16fix.zoo.cache import Cache
from fp16fix.zoo.content import content_of
from fp16fix.zoo.executors import Load, Opened
from fp16fix.zoo.executors.local import Local, Room
from fp16fix.zoo.holding import holding
from fp16fix.zoo.lockfile import Lock, external_of, read_lock, refuse_changed, since, write_lock
from fp16fix.zoo.paper import Paper
from fp16fix.zoo.plan import Job, jobs_of, ledger_key, refuse_foreign
from fp16fix.zoo.standing import Standing, begin, restore, settle, standing
from fp16fix.zoo.task import Task

BASE_MIB, TIMES = 350.0, 4.0
"""Memory of a repair, before any was seen: of the libraries, and for every byte of the model (measured: notes/zoo.md)."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of a run."""

    jobs: int | None = None
    fail_on: tuple[Failure, ...] | None = None
    only: tuple[str, ...] = ()
    """Names of rows; empty is all."""
    locked: bool = False
    """Refuse inputs that are not as locked."""
    lock: bool = False
    """Lock what this run gives; also done where there is no lock yet."""
    wait_s: float = 0.0
    """For another run on the same folder."""
    executor: str = "local"
    address: str | None = None


def run_zoo(zoo: ZooConfig, crowd: Crowd, options: Options = Options(), command: Sequence[str] = ()) -> Batch:
    """Repair every model whose result is not in place; write ``summary.json``, ``index.html`` and ``summary.junit.xml``.

    Args:
        zoo: models with complete configs; those without an output get ``<output_dir>/<name>.onnx`` or ``.plan``.
        crowd: told how it goes on.
        options: see there.
        command: what reproduces this.

    Raises:
        ConfigError: outputs collide, or somebody else's files are in the way.
        InputError: another run works on the folder, it cannot be made, or ``--locked`` finds a change.
    """
    zoo = zoo if options.jobs is None else zoo.model_copy(update={"jobs": options.jobs})
    with holding(zoo, options.wait_s):
        run = prepared(zoo, crowd, options, command)
        try:
            for found in run.standings:
                run.settle_known(found)
            run.paper.write()
            run.work(options)
        except BaseException:
            # Rows that were made are told, whatever ends the batch.
            run.paper.write()
            raise
        return run.ended(options)


@dataclass(slots=True)
class Run:
    """One batch that goes on."""

    zoo: ZooConfig
    crowd: Crowd
    cache: Cache
    lock: Lock | None
    paper: Paper
    standings: list[Standing]
    waiting: dict[str, Standing] = field(default_factory=dict)
    """By name, those to be worked on."""

    def settle_known(self, found: Standing) -> None:
        """A row whose result is in place, or can be put there; any other waits."""
        row = found.row
        if row is None or not (found.in_place or found.kept):
            self.waiting[found.job.name] = found
            return
        row = replace(row, work="unchanged") if found.in_place else restore(found, self.cache)
        self.add(found.job, replace(row, name=found.job.name, model=url_of(found.job.entry.model or "")))

    def work(self, options: Options) -> None:
        """Work on what waits."""
        if not self.waiting:
            return
        self.crowd.expect(len(self.waiting))
        loads = [self.load(found) for found in self.waiting.values()]
        with opened(options, self.zoo) as executor:
            for task, row in executor.run(loads, self):
                self.crowd.done(task.name, words_of(row))
                self.add(self.waiting[task.name].job, row)

    def load(self, found: Standing) -> Load:
        """The task of a job, and what it is expected to take."""
        job, entry = found.job, found.job.entry
        assert entry.output is not None
        task = Task(
            job.name,
            entry.model_dump_json(by_alias=True),
            entry.output,
            self.zoo.cache,
            ("fp16fix", "batch", str(self.zoo.path), "--only", job.name),
            str(Path.cwd()),
            self.zoo.scratch.folder,
            self.zoo.scratch.limit_mib,
        )
        return Load(task, entry.threads or Room(0).cores, found.peak_mib or estimate_mib(found), entry.limits.gpus)

    def started(self, task: Task) -> None:
        """A task begins: what was damaged of its files goes, and whatever stands at its paths from now on is ours."""
        job = self.waiting[task.name].job
        for path in job.damaged:
            storage.remove(path)
        begin(job, self.cache)
        self.crowd.start(task.name)

    def event(self, task: Task, event: Mapping[str, Any]) -> None:
        """Progress of a task."""
        if "stage" in event:
            self.crowd.stage(task.name, event["stage"], event.get("total"))
        elif "ticks" in event:
            self.crowd.ticks(task.name, event["ticks"])

    def add(self, job: Job, row: Row) -> None:
        """A row that is made."""
        row = since(self.lock, row)
        settle(job, row, self.cache)
        self.paper.add(row)

    def ended(self, options: Options) -> Batch:
        """All papers, and the lock."""
        batch = self.paper.write(whole=True)
        if options.lock or (self.lock is None and not options.only):
            write_lock(self.zoo, batch, self.lock.raw if self.lock is not None and options.only else {})
        for row in batch.rows:
            for line in row.worse:
                self.crowd.say(f"{row.name}: {line} since the locked run")
        self.crowd.say(f"{', '.join(f'{count} {kind}' for kind, count in batch.counts().items())}, {duration(batch.seconds)}")
        return batch


def prepared(zoo: ZooConfig, crowd: Crowd, options: Options, command: Sequence[str]) -> Run:
    """Everything that is found out before any work.

    Raises:
        ConfigError, InputError: see ``run_zoo``.
    """
    cache, lock = Cache(zoo.cache), read_lock(zoo)
    jobs = refuse_foreign(zoo, chosen(jobs_of(zoo), options.only), cache)
    standings = [standing(job, cache) for job in jobs]
    if options.locked:
        refuse_changed(lock, standings, contents(standings, lock))
    for job in jobs:
        clear_litter(job, cache)
    fail_on = options.fail_on or zoo.fail_on
    paper = Paper(zoo, tuple(command), fail_on, [job.name for job in jobs], lock.made if lock is not None else "")
    return Run(zoo, crowd, cache, lock, paper, standings)


def chosen(jobs: Sequence[Job], only: Sequence[str]) -> list[Job]:
    """Those asked for.

    Raises:
        ConfigError: a name that is none's.
    """
    names = [job.name for job in jobs]
    if unknown := [name for name in only if name not in names]:
        raise ConfigError(f"no model is called {', '.join(unknown)}", where="--only", hint=f"there are {', '.join(names)}")
    return [job for job in jobs if not only or job.name in only]


def contents(standings: Sequence[Standing], lock: Lock | None) -> dict[str, Content]:
    """What every job is made of now; where no run told the names of a model's weight files, the lock does."""
    found = {}
    for each in standings:
        names = external_of(lock, each.job.name)
        if each.content is not None:
            found[each.job.name] = each.content
        elif names is not None:
            with suppress(Fp16fixError):  # it is told as one that cannot be read
                found[each.job.name] = content_of(each.job.entry, names)
    return found


def clear_litter(job: Job, cache: Cache) -> None:
    """Hidden files that a run which was killed left beside a product."""
    output, ledger = job.entry.output, cache.noted("rows", ledger_key(job)) or {}
    if output is None or is_url(output) or not ledger.get("in_flight"):
        return
    for each in output.parent.glob(".fp16fix-*"):
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def opened(options: Options, zoo: ZooConfig) -> Opened:
    """The executor that was asked for.

    Raises:
        ConfigError: there is none of that name, or its package is not installed.
    """
    if options.executor == "local":
        return Local(zoo.jobs)
    if options.executor == "ray":
        from fp16fix.zoo.executors.ray import Cluster

        return Cluster(options.address)
    raise ConfigError(f"there is no executor {options.executor!r}", where="--executor", hint="local or ray")


def estimate_mib(found: Standing) -> float:
    """Memory of a repair that was never seen, from the sizes of its files."""
    entry = found.job.entry
    assert entry.model is not None
    names = [entry.model.name] if found.content is None else list(found.content.model)
    held = sum(size_or_nothing(entry.model.parent / name) for name in names)
    return BASE_MIB + TIMES * held / MIB


def size_or_nothing(path: Path) -> int:
    """Bytes; 0 of what cannot be looked at, as working on it will say."""
    try:
        return storage.size(path)
    except Fp16fixError:
        return 0


def words_of(row: Row) -> str:
    """``verified, 3.2 s``."""
    return f"{row.status}, {duration(row.seconds)}"
