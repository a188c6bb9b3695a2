"""``ZooConfig`` → jobs: one a model, each with every path that it will write, none of them another's or a stranger's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fp16fix.config import Entry, ZooConfig
from fp16fix.config.urls import is_url, url_of
from fp16fix.engines import PLANS
from fp16fix.errors import ConfigError
from fp16fix.report.delivery import SNIFFED
from fp16fix.zoo import storage
from fp16fix.zoo.cache import Cache

SUMMARY, INDEX, JUNIT, RUNNING = "summary.json", "index.html", "summary.junit.xml", ".fp16fix.lock"
"""What a batch writes itself, in its output folder."""
MARKS = {"outcome": b'"tool"', "report": b"fp16fix", "summary": b'"batch"', "index": b"fp16fix", "junit": b"fp16fix"}
"""What files of ours hold near their beginning."""


@dataclass(frozen=True, slots=True)
class Job:
    """One model, and what working on it writes."""

    name: str
    """Of its output, below the output folder, without the ending: unique."""
    entry: Entry
    paths: dict[str, Path]
    """By kind, as outcomes name them; what may be there, not what must."""
    damaged: tuple[Path, ...] = field(default=(), compare=False)
    """Files of ours that were cut short: to be taken away before the work."""


def jobs_of(zoo: ZooConfig) -> list[Job]:
    """A job for every model.

    Raises:
        ConfigError: an output that is no name of a product; two that write one path; one that would overwrite a model.
    """
    jobs = [job_of(zoo, entry) for entry in with_outputs(zoo)]
    refuse_collisions(zoo, jobs)
    return jobs


def job_of(zoo: ZooConfig, entry: Entry) -> Job:
    """One of them."""
    assert entry.output is not None
    output = entry.output
    inside = output.is_relative_to(zoo.output_dir)
    name = (output.relative_to(zoo.output_dir) if inside else output).with_suffix("").as_posix()
    if zoo.jobs != 1 and not entry.threads:
        # Several at once share the cores.
        entry = entry.model_copy(update={"threads": 1})
    return Job(name, entry, derived(output, entry.precision))


def derived(output: Path, precision: str) -> dict[str, Path]:
    """Every path that a repair with this output may write.

    Raises:
        ConfigError: its ending says neither plan nor graph.
    """
    if output.suffix not in {*PLANS, ".onnx"}:
        hint = "end it in .plan for an engine or .onnx for the repaired graph"
        raise ConfigError(f"cannot tell from {output.name!r} what to make", where=str(output), hint=hint)
    stem = output.with_suffix("")
    graph = {"onnx": output} if output.suffix == ".onnx" else {"plan": output, "onnx": Path(f"{stem}.{precision}.onnx")}
    unverified = {f"{kind} (unverified)": path.with_suffix(f".unverified{path.suffix}") for kind, path in graph.items()}
    return {**graph, **unverified, "outcome": Path(f"{stem}.outcome.json"), "report": Path(f"{stem}.report.html")}


def with_outputs(zoo: ZooConfig) -> list[Entry]:
    """Every entry with its own output path; models of one name are told apart by their folder, then by number."""
    taken = {path for entry in zoo.models if entry.output is not None for path in derived(entry.output, entry.precision).values()}
    found = []
    for entry in zoo.models:
        if entry.output is None and entry.model is not None:
            stem, suffix = entry.model.stem, ".plan" if entry.build.targets else ".onnx"
            names = [stem, f"{entry.model.parent.name}-{stem}", *(f"{stem}-{n}" for n in range(2, len(zoo.models) + 2))]
            outputs = (zoo.output_dir / f"{name}{suffix}" for name in names)
            output = next(path for path in outputs if not taken & {*derived(path, entry.precision).values()})
            taken |= {*derived(output, entry.precision).values()}
            found.append(entry.model_copy(update={"output": output}))
        else:
            found.append(entry)
    return found


def own_paths(zoo: ZooConfig) -> dict[str, Path]:
    """What the batch writes beside its rows."""
    files = {"summary": SUMMARY, "index": INDEX, "junit": JUNIT}
    return {**{kind: zoo.output_dir / name for kind, name in files.items()}, "lock": zoo.lock}


def refuse_collisions(zoo: ZooConfig, jobs: Sequence[Job]) -> None:
    """Every path has one writer, and no model is written to. Raises ConfigError, with all of them."""
    writers = {place(path): f"the batch's {kind}" for kind, path in own_paths(zoo).items()}
    faults = []
    for number, job in enumerate(jobs):
        mine = f"model {number + 1} ({job.name})"
        for path in job.paths.values():
            other = writers.setdefault(place(path), mine)
            if other != mine:
                faults.append(f"{mine} and {other} would both write {url_of(path)}")
    models = {place(job.entry.model): job.name for job in jobs if job.entry.model is not None}
    faults += [f"{writers[path]} would overwrite the model of {name}: {path}" for path, name in models.items() if path in writers]
    if faults:
        raise ConfigError("\n  ".join(["outputs collide:", *faults]), where=str(zoo.path), hint="give each model an output of its own")


def place(path: Path) -> str:
    """One name for one file."""
    return url_of(path) if is_url(path) else str(path.resolve())


def refuse_foreign(zoo: ZooConfig, jobs: Sequence[Job], cache: Cache) -> list[Job]:
    """The jobs, with what was damaged of their files, once nothing that stands in their way is somebody else's.

    Raises:
        ConfigError: with every file that is.
    """
    found, strangers = [], []
    for job in jobs:
        damaged = []
        ledger = cache.noted("rows", ledger_key(job)) or {}
        named = names_in(job.paths["outcome"])
        for kind, path in job.paths.items():
            if place(path) == place(job.entry.model or Path()) or not storage.exists(path):
                continue
            if cut_short(path, ledger, cache):
                damaged.append(path)
            elif not ours(kind, path, ledger, named):
                strangers.append(url_of(path))
        found.append(Job(job.name, job.entry, job.paths, tuple(damaged)))
    for kind, path in own_paths(zoo).items():
        if kind in MARKS and storage.exists(path) and not marked(kind, path):
            strangers.append(url_of(path))
    if strangers:
        said = "\n  ".join(["these files are in the way, and no run of fp16fix wrote them:", *strangers])
        raise ConfigError(said, where=str(zoo.path), hint="move them away, or choose another output")
    return found


def ledger_key(job: Job) -> str:
    """Under which the cache keeps what was last delivered for a job."""
    return storage.key(place(job.entry.output or Path()))


def ours(kind: str, path: Path, ledger: Mapping[str, Any], named: Sequence[str]) -> bool:
    """Whether a run of ours wrote what stands at ``path``: one that was killed there, one that says so, or one whose mark it bears."""
    if ledger.get("in_flight"):
        return True
    known = ledger.get("files", {}).get(url_of(path))
    if known is not None and storage.digest(path) == known["digest"]:
        return True
    return marked(kind, path) if kind in MARKS else path.name in named


def marked(kind: str, path: Path) -> bool:
    """Whether it begins like a file of ours, or holds nothing."""
    found = storage.read(path, SNIFFED)
    return not found or MARKS[kind] in found


def names_in(outcome: Path) -> list[str]:
    """Names of the files that the outcome beside says it wrote."""
    try:
        files = json.loads(storage.read(outcome) or b"")["files"].values()
        return [Path(str(file)).name for file in files]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def cut_short(path: Path, ledger: Mapping[str, Any], cache: Cache) -> bool:
    """Whether it is only the beginning of what was delivered there: what a power cut leaves."""
    known = ledger.get("files", {}).get(url_of(path))
    if known is None or storage.size(path) >= known["bytes"]:
        return False
    length = storage.size(path)
    return length == 0 or storage.digest(path) == storage.digest(cache.object(known["digest"]), length)
