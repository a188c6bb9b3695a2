"""``Batch``: what became of many models, as versioned JSON; the index page, JUnit XML and the lock are made of it.

``notes/summary.md`` documents every key.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fp16fix.report import words
from fp16fix.report.document import Document
from fp16fix.verdict.verdict import Figures

VERSION = 2
"""Of the JSON; raised when a key changes its meaning or goes."""
TAG = "batch"
VERIFIED, UNVERIFIED = "verified", "not verified"
STATUS = {0: VERIFIED, 1: UNVERIFIED, 2: "bad input", 3: "backend failed", 4: "our fault"}
"""By exit code."""
TIMED_OUT, OUT_OF_MEMORY, CRASHED = "timed out", "out of memory", "crashed"
"""Ends without an exit code of ours."""
CONDITIONS = {"fp32-accumulation": "only where products add in FP32"}
"""By kind, as people are told."""


@dataclass(frozen=True, slots=True)
class Measure:
    """How far one output is off, in its worst sample: see ``verdict.Figures``."""

    output: str
    sqnr_db: float
    max_abs: float
    lost: int
    mismatches: int
    sample: str
    unit: str = ""
    """What ``max_abs`` is counted in; empty where the config does not say, and decibels are told."""

    @property
    def figure(self) -> float:
        """The number that tables tell: ``max_abs`` where it has a unit, else ``sqnr_db``."""
        return self.max_abs if self.unit else self.sqnr_db

    def said(self) -> str:
        """``0.02 px``, ``56.6 dB``, ``12 lost``, ``3 differ``."""
        if self.lost:
            return f"{self.lost:,} lost"
        if self.mismatches:
            return f"{self.mismatches:,} differ"
        return f"{words.number(self.max_abs)} {self.unit}" if self.unit else words.decibels(self.sqnr_db)


def measure(figures: Figures, unit: str | None) -> Measure:
    """The part of an output's figures that a batch tells."""
    return Measure(
        figures.output, figures.sqnr_db, figures.max_abs, figures.lost, figures.mismatches, figures.sample, "" if unit is None else unit
    )


def worst(measures: Sequence[Measure]) -> Measure | None:
    """The output that is furthest off."""
    return min(
        measures, key=lambda each: (-each.lost, -each.mismatches, math.inf if math.isnan(each.sqnr_db) else each.sqnr_db), default=None
    )


@dataclass(frozen=True, slots=True)
class Product:
    """A file that was delivered."""

    path: str
    digest: str
    """SHA-256."""
    bytes: int


@dataclass(frozen=True, slots=True)
class EngineState:
    """Of the engine, what ``EngineFacts`` says in more words."""

    status: str
    """``built, not executed``, ``executed`` or ``not built``."""
    backend: str = ""
    version: str = ""
    targets: tuple[str, ...] = ()
    plan_bytes: int = 0
    problems: tuple[str, ...] = ()
    moved_bytes: int = 0
    """What the plan's kernels read and write in one inference, weights too; 0 where no plan was read."""
    float_products: int = 0
    """Products that multiply FP32 operands."""


@dataclass(frozen=True, slots=True)
class Content:
    """All that decides a result; names are of files, values SHA-256."""

    model: dict[str, str]
    """The model's file, and those of its weights, by name below its folder."""
    samples: dict[str, str]
    """Files of samples, or the file of the function that makes them; empty where they are made up."""
    config: str
    """Of every key that decides, with what the files hold that it names."""
    name: str
    """Of the product, which its files bear."""
    versions: dict[str, str]

    @property
    def key(self) -> str:
        """The digest of it all."""
        return digest_of(asdict(self))

    def differs(self, other: Content) -> tuple[str, ...]:
        """What is not the same, in words."""
        pairs = (
            ("model", self.model, other.model),
            ("samples", self.samples, other.samples),
            ("config", (self.config, self.name), (other.config, other.name)),
            ("versions", self.versions, other.versions),
        )
        return tuple(name for name, mine, theirs in pairs if mine != theirs)


@dataclass(frozen=True, slots=True)
class Row:
    """One model."""

    name: str
    model: str
    """Its file or URL."""
    status: str
    """``verified``, ``not verified``, or why there is no verdict: ``bad input``, ``backend failed``, ``our fault``, ``timed out``,
    ``out of memory``, ``crashed``."""
    work: str
    """``repaired`` in this run, ``unchanged``: found in place, ``restored`` from the cache, ``failed``: no result, to be tried again."""
    reasons: tuple[str, ...] = ()
    """Why it is not verified, or what went wrong."""
    stage: str = ""
    """What was being done where there is no verdict."""
    last_words: str = ""
    """The end of the error stream of a process that was ended."""
    before: tuple[Measure, ...] = ()
    """All in the base."""
    after: tuple[Measure, ...] = ()
    """The repaired graph, or the engine where one was run."""
    conditions: tuple[str, ...] = ()
    """Kinds of conditions under which the verdict holds."""
    made_up: bool = False
    """No real inputs were given."""
    samples: int = 0
    fp32_nodes: int = 0
    float_nodes: int = 0
    warnings: tuple[str, ...] = ()
    engine: EngineState | None = None
    content: Content | None = None
    """What it was made of; None where that could not be read."""
    products: dict[str, Product] = field(default_factory=dict)
    """By kind: ``plan``, ``onnx``, ``weights``, ``outcome``, ``report``."""
    seconds: float = 0.0
    """Of the work itself, when it was done."""
    peak_mib: float = 0.0
    """Memory of all its processes at their most."""
    attempts: int = 1
    """More than one: a library ended the first, and safe mode was tried."""
    worse: tuple[str, ...] = ()
    """What is worse than in the locked run, ``boxes: 0.02 → 3.1 px``."""
    better: tuple[str, ...] = ()
    """What is better, or merely not the same."""

    @property
    def verified(self) -> bool:
        """The verdict passes."""
        return self.status == VERIFIED

    @property
    def judged(self) -> bool:
        """There is a verdict."""
        return self.status in {VERIFIED, UNVERIFIED}

    @property
    def causes(self) -> tuple[str, ...]:
        """What speaks against it, in words: reasons, or what a verdict that passes rests on."""
        if not self.verified:
            return self.reasons
        made = ("rests on made-up inputs",) if self.made_up else ()
        return (*(CONDITIONS.get(each, f"only under the condition {each}") for each in self.conditions), *made)

    def fails(self, fail_on: Sequence[str]) -> bool:
        """Whether this row fails a batch under ``fail_on`` (``config.zoo.Failure``)."""
        wanted = set(fail_on)
        if "never" in wanted or not wanted:
            return False
        if not self.judged:
            return True
        if wanted == {"error"}:
            return False
        return not self.verified or ("conditions" in wanted and bool(self.conditions)) or ("made-up" in wanted and self.made_up)


@dataclass(frozen=True, slots=True)
class Batch:
    """All of them."""

    document: str
    tool: str
    """Version of fp16fix."""
    versions: dict[str, str]
    command: tuple[str, ...]
    zoo: str
    """The YAML file."""
    began: str
    """ISO 8601, UTC."""
    ended: str
    """Empty while it goes on, and where it was killed."""
    seconds: float
    fail_on: tuple[str, ...]
    failed: bool
    """By ``fail_on``; what is still waiting does not count."""
    verified: bool
    """All of them are, and none waits."""
    rows: tuple[Row, ...]
    waiting: tuple[str, ...] = ()
    """Names of those that have not ended."""
    locked: str = ""
    """When the run was made that ``worse`` compares with; empty without one."""
    files: dict[str, str] = field(default_factory=dict)
    """What was written, by kind."""
    version: int = VERSION

    def counts(self) -> dict[str, int]:
        """How many rows by ``work``."""
        kinds = ("unchanged", "restored", "repaired", "failed")
        found = {kind: sum(row.work == kind for row in self.rows) for kind in kinds}
        return {kind: count for kind, count in found.items() if count}


def digest_of(value: Any) -> str:
    """SHA-256 of plain values, in one spelling."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


HINT = "give the summary.json of a batch"
DOCUMENT = Document(Batch, "batch", VERSION, HINT, again="run the batch again, or use the fp16fix that wrote it", tag=TAG)
