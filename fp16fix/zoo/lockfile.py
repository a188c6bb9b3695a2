"""``fp16fix.lock``: what a run was given and gave, in YAML that people read and diffs show line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import yaml

import fp16fix
from fp16fix.config import ZooConfig
from fp16fix.config.file import value_of
from fp16fix.config.urls import url_of
from fp16fix.errors import InputError, ReplayError
from fp16fix.report.batch import Batch, Content, Measure, Row
from fp16fix.report.compare import Judged, changes, judged
from fp16fix.report.document import adapter, portable
from fp16fix.zoo import storage
from fp16fix.zoo.standing import Standing

VERSION = 1
"""Of the file."""
HEAD = "# What `fp16fix batch` was given and gave; made by `fp16fix batch --lock`, compared with by every run. Keep it beside the YAML.\n"


@dataclass(frozen=True, slots=True)
class Locked:
    """One model."""

    content: Content | None
    judged: Judged
    products: dict[str, str]
    """SHA-256 by kind."""


@dataclass(frozen=True, slots=True)
class Lock:
    """All of them, by name."""

    made: str
    """When, ISO 8601, UTC."""
    models: dict[str, Locked]
    raw: dict[str, Any]
    """As they stand in the file."""


def read_lock(zoo: ZooConfig) -> Lock | None:
    """The lock beside the YAML; None where there is none.

    Raises:
        ReplayError: it is not a lock, or of another version.
    """
    text, where = storage.read(zoo.lock), url_of(zoo.lock)
    if text is None:
        return None
    raw = value_of(text.decode("utf-8", "replace"), where)
    if not isinstance(raw, dict) or raw.get("version") != VERSION:
        raise ReplayError(f"this is no lock of version {VERSION}", where=where, hint="make it again with --lock")
    try:
        models = {name: locked_from(each) for name, each in raw["models"].items()}
        return Lock(str(raw["made"]), models, raw["models"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ReplayError(
            f"this lock was damaged ({type(error).__name__}: {error})", where=where, hint="make it again with --lock"
        ) from error


def locked_from(raw: Mapping[str, Any]) -> Locked:
    """One model of the file."""
    given = raw["given"]
    content = None if given is None else adapter(Content).validate_python(given)
    figures = [{"output": output, "unit": "", **figures} for output, figures in raw["figures"].items()]
    measures = tuple(adapter(Measure).validate_python(each) for each in figures)
    return Locked(content, Judged(raw["verdict"], measures, tuple(raw["conditions"]), bool(raw["made_up"])), dict(raw["products"]))


def write_lock(zoo: ZooConfig, batch: Batch, kept: Mapping[str, Any]) -> None:
    """Lock what a run gave, beside what is ``kept`` of models that it was not asked about.

    Raises:
        InputError: the folder is not writable or full.
    """
    raw = {
        "version": VERSION,
        "made": batch.ended,
        "fp16fix": fp16fix.__version__,
        "models": {**kept, **{row.name: entry_of(row) for row in batch.rows}},
    }
    text = HEAD + yaml.safe_dump(portable(raw), sort_keys=False, allow_unicode=True, width=1000)
    storage.write(zoo.lock, text.encode("utf-8", "surrogateescape"))


def entry_of(row: Row) -> dict[str, Any]:
    """One model, the verdict first."""
    figures = {each.output: {key: value for key, value in asdict(each).items() if key != "output" and value != ""} for each in row.after}
    return {
        "verdict": row.status,
        "conditions": list(row.conditions),
        "made_up": row.made_up,
        "figures": figures,
        "given": None if row.content is None else asdict(row.content),
        "products": {kind: each.digest for kind, each in row.products.items() if kind not in {"outcome", "report"}},
    }


def refuse_changed(lock: Lock | None, standings: Sequence[Standing], contents: Mapping[str, Content]) -> None:
    """``--locked``: every input is what the lock says.

    Args:
        lock: None where there is none, which is refused too.
        standings: of every job.
        contents: of jobs by name, as they are now.

    Raises:
        InputError: with every change.
    """
    if lock is None:
        raise InputError("there is no lock to hold to", where="--locked", hint="make one with --lock")
    names = {each.job.name for each in standings}
    faults = [f"{name}: is not in the lock" for name in sorted(names - {*lock.models})]
    faults += [f"{name}: is in the lock only" for name in sorted({*lock.models} - names)]
    for name in sorted(names & {*lock.models}):
        known, now = lock.models[name].content, contents.get(name)
        if now is None:
            faults.append(f"{name}: cannot be read")
        elif known is None:
            faults.append(f"{name}: the lock does not know what it was made of")
        elif changed := now.differs(known):
            faults.append(f"{name}: {', '.join(changed)} changed")
    if faults:
        said = "\n  ".join(["not as locked:", *faults])
        raise InputError(said, where="--locked", hint="undo the change, or accept it with --lock")


def since(lock: Lock | None, row: Row) -> Row:
    """The row with what changed since the locked run."""
    known = lock.models.get(row.name) if lock is not None else None
    found = [] if known is None else changes(known.judged, judged(row))
    worse, better = (tuple(each.said() for each in found if each.worse is wanted) for wanted in (True, False))
    return replace(row, worse=worse, better=better)


def external_of(lock: Lock | None, name: str) -> list[str] | None:
    """Names of a model's weight files as the lock has them; None where it does not know."""
    known = lock.models.get(name) if lock is not None else None
    return list(known.content.model)[1:] if known is not None and known.content is not None else None
