"""``Figures`` of one output, sample by sample, and the ``Verdict`` over all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an axis whose entries live on different scales, so that each was compared on its own."""

    axis: int
    index: int
    together: int = 1
    """Entries from ``index`` on, not always neighbours, that were compared as one: of one unit."""


def of_entry(entry: Entry | None) -> str:
    """``, entry 1 of axis 1``: what of an output is meant."""
    if entry is None:
        return ""
    few = f"entry {entry.index}" if entry.together == 1 else f"{entry.together:,} entries from {entry.index} on"
    return f", {few} of axis {entry.axis}"


@dataclass(frozen=True, slots=True)
class SampleFigures:
    """A candidate output against the FP32 reference, in one sample. See ``Figures`` for what the numbers are."""

    sample: str
    """Its name."""
    sqnr_db: float
    max_abs: float
    max_rel: float
    cosine: float
    lost: int = 0
    mismatches: int = 0
    excluded: int = 0
    near_ties: int = 0
    entry: Entry | None = None
    """The entry whose figure ``sqnr_db`` is; None for that of all elements."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A candidate output against the FP32 reference: each figure is that of the sample in which it is worst; counts are of all samples."""

    output: str
    sqnr_db: float
    """10·log₁₀(Σ ref² / Σ (ref − x)²) over elements finite in both; inf if equal; see ``metrics`` for silence and for entries."""
    max_abs: float
    """Largest |ref − x|."""
    max_rel: float
    """Largest |ref − x| over the sample's largest |ref|."""
    cosine: float
    """Cosine similarity of the flattened outputs."""
    lost: int
    """Elements that are NaN, inf or −inf in one and not the same in the other."""
    mismatches: int = 0
    """Integer or boolean outputs: elements that differ, near ties apart."""
    excluded: int = 0
    """Elements that are NaN or infinite in the reference and the same in the candidate: right, and in no other figure."""
    near_ties: int = 0
    """Elements of an integer or boolean output that differ where FP32 itself decides by less than FP16's spacing."""
    sample: str = ""
    """The worst sample: most elements lost, then most mismatches, then the least SQNR."""
    entry: Entry | None = None
    """The entry whose figure ``sqnr_db`` is; None for that of all elements."""
    samples: tuple[SampleFigures, ...] = ()
    broken: tuple[str, ...] = ()
    """The bounds that it breaks, one sentence each, as the verdict that holds it says."""

    @property
    def depth(self) -> float:
        """``sqnr_db``, −inf where elements are lost or integers changed."""
        return depth(self)

    @property
    def least(self) -> SampleFigures | None:
        """The sample in which ``sqnr_db`` was found; None where it took all samples together to know it."""
        return next((each for each in self.samples if each.sqnr_db == self.sqnr_db), None)

    @property
    def decides(self) -> str:
        """The sample that decides, by name; empty where its figure is of all samples together."""
        if self.lost or self.mismatches or not math.isfinite(self.sqnr_db):
            return self.sample
        return "" if self.least is None else self.least.sample


def depth(found: Figures | SampleFigures) -> float:
    """See ``Figures.depth``."""
    return -math.inf if found.lost or found.mismatches else found.sqnr_db


def badness(found: Figures | SampleFigures) -> tuple[int, int, float]:
    """Sorts the worst first: elements lost, then integers changed, then the least SQNR."""
    return -found.lost, -found.mismatches, math.inf if math.isnan(found.sqnr_db) else found.sqnr_db


def worst(figures: Sequence[Figures]) -> Figures | None:
    """The output that is furthest off."""
    return min(figures, key=badness, default=None)


@dataclass(frozen=True, slots=True)
class Stressed:
    """The worst output of a candidate where more was asked of it than the samples do."""

    where: str
    """What the stress is, ``on inputs blended from those given`` (``inputs.blend``), or another kernel's rounding (``strict.jitter``)."""
    samples: int
    """How many inputs it was judged on."""
    output: str
    sample: str
    """The input on which it is worst; empty where the figure is of all of them together."""
    sqnr_db: float
    lost: int = 0
    mismatches: int = 0
    """Integers or booleans that changed: said, not held against it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one of ``tolerance.metrics`` says over all samples."""

    metric: str
    value: float
    limit: float
    passes: bool


@dataclass(frozen=True, slots=True)
class Part:
    """The worst of those samples that a search saw, or of those that it did not."""

    name: str
    """``calibration`` or ``held out``."""
    samples: int
    output: str = ""
    """The output that is worst."""
    sample: str = ""
    sqnr_db: float = math.inf
    lost: int = 0
    mismatches: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Pass or fail, by whom, and with what figures."""

    verified: bool
    oracle: str
    """Who computed the candidate: ``strict`` (emulator), ``tensorrt`` (an engine on a GPU), ``command``."""
    profile: str
    """Assumption on insides of ops (``strict.profiles``); ``engine`` where an engine computed."""
    outputs: tuple[Figures, ...]
    samples: int
    reasons: tuple[str, ...] = ()
    """Why it fails, one sentence each; empty when verified."""
    notes: tuple[str, ...] = ()
    """What must be said beside pass or fail: elements that no figure covers, ties, what it does not rest on."""
    spare_db: float = math.inf
    """Least distance of an output's SQNR to its bound, under stress to the relaxed one, or of a metric's error to its limit; negative where
    it is broken, inf without one."""
    spare_at: str = ""
    """Where that is, as a sentence goes on."""
    metrics: tuple[Reading, ...] = ()
    """What ``tolerance.metrics`` says."""
    stressed: tuple[Stressed, ...] = ()
    """On blends of the samples and under random errors; empty where that was not tried (of a verdict that fails no more is asked)."""

    @property
    def worst(self) -> Figures | None:
        """The output that decides; it names its worst sample."""
        return worst(self.outputs)

    @property
    def failed(self) -> tuple[Figures, ...]:
        """The outputs that break a bound, the worst first."""
        return tuple(sorted((each for each in self.outputs if each.broken), key=badness))


def parts(verdict: Verdict, calibration: int, held_out: int) -> tuple[Part, ...]:
    """The worst of both parts of the samples that a verdict covers, calibration samples first.

    Args:
        verdict: over ``calibration`` samples and then ``held_out`` others.
        calibration: how many a search saw.
        held_out: how many it did not; 0 where one sample served both.
    """
    found = []
    for name, first, last in (("calibration", 0, calibration), ("held out", calibration, calibration + held_out)):
        seen = [(output.output, each) for output in verdict.outputs for each in output.samples[first:last]]
        output, worst = min(seen, key=lambda pair: badness(pair[1]), default=("", None))
        if worst is not None:
            found.append(Part(name, last - first, output, worst.sample, worst.sqnr_db, worst.lost, worst.mismatches))
    return tuple(found)
