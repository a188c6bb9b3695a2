"""``Figures`` against tolerances → ``Verdict``, with one plain sentence for every bound that is broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fp16fix.verdict.entries import NOTHING
from fp16fix.verdict.verdict import Figures, SampleFigures, Stressed, Verdict, of_entry, worst


class Bound(Protocol):
    """What the figures of one output are held to; None is no bound."""

    @property
    def sqnr_db(self) -> float | None: ...
    @property
    def max_abs(self) -> float | None: ...
    @property
    def max_rel(self) -> float | None: ...
    @property
    def cosine(self) -> float | None: ...


Tolerance = Callable[[str], Bound]
"""Bounds by output name (``Config.tolerance.of``)."""


def judge(figures: Sequence[Figures], tolerance: Tolerance, oracle: str, profile: str, samples: int) -> Verdict:
    """Pass or fail; a comparison of nothing fails."""
    told = tuple(replace(each, broken=tuple(broken(each, tolerance(each.output)))) for each in figures)
    reasons = [reason for each in told for reason in each.broken]
    if not samples or not figures:
        reasons.append("nothing was compared: there are no samples" if not samples else "nothing was compared: there are no outputs")
    spare, at = tightness([(each, tolerance(each.output)) for each in told])
    return Verdict(not reasons, oracle, profile, told, samples, tuple(reasons), tuple(beside(told)), spare, at)


def spared(found: Figures, bound: Bound) -> float:
    """How far an output's SQNR is above its bound, in dB."""
    return math.inf if bound.sqnr_db is None or math.isnan(found.sqnr_db) else found.depth - bound.sqnr_db


RELAXED_DB = 3.0
"""What a verdict may lose under stress: one more rounding of the same size doubles the error's energy."""


@dataclass(frozen=True, slots=True)
class Relaxed:
    """A bound under stress."""

    sqnr_db: float | None
    max_abs: float | None
    max_rel: float | None
    cosine: float | None


def relaxed(bound: Bound) -> Relaxed:
    """A bound with ``RELAXED_DB`` to spare: what is linear in the error by √2, 1 − cosine (quadratic) by 2."""
    more = 10.0 ** (RELAXED_DB / 20.0)
    return Relaxed(
        None if bound.sqnr_db is None else bound.sqnr_db - RELAXED_DB,
        None if bound.max_abs is None else bound.max_abs * more,
        None if bound.max_rel is None else bound.max_rel * more,
        None if bound.cosine is None else 1.0 - (1.0 - bound.cosine) * more**2,
    )


def stressed(verdict: Verdict, where: str, samples: int, figures: Sequence[Figures], tolerance: Tolerance) -> Verdict:
    """A verdict that passes, with what came of it under some stress: it fails where a relaxed bound is broken.

    Integers that change are said, not held against it: FP32 decided them by less than kernels differ, or half-way between two inputs.

    Args:
        verdict: as it was.
        where: see ``Stressed``.
        samples: how many inputs.
        figures: on these, under it.
        tolerance: what is relaxed.
    """
    shown, flipped = worst(figures), sum(each.mismatches for each in figures)
    if shown is None:
        return verdict
    kept = [(replace(each, mismatches=0), relaxed(tolerance(each.output))) for each in figures]
    reasons = [f"{where} {reason}" for each, bound in kept for reason in broken(each, bound)]
    notes = [f"{where} {counted(flipped, 'integer or boolean value')} came out otherwise"] if flipped else []
    tightest, at = tightness(kept)
    tighter = tightest < verdict.spare_db
    return replace(
        verdict,
        verified=verdict.verified and not reasons,
        reasons=(*verdict.reasons, *reasons),
        notes=(*verdict.notes, *notes),
        spare_db=tightest if tighter else verdict.spare_db,
        spare_at=f"{where}, {at}" if tighter else verdict.spare_at,
        stressed=(*verdict.stressed, Stressed(where, samples, shown.output, shown.decides, shown.sqnr_db, shown.lost, flipped)),
    )


def tightness(kept: Sequence[tuple[Figures, Bound]]) -> tuple[float, str]:
    """The least room below a bound, and where: ``at boxes in sample day-3``."""
    spare, found = min(((spared(each, bound), each) for each, bound in kept), key=lambda pair: pair[0], default=(math.inf, None))
    return (
        spare,
        "" if found is None else f"at {found.output}{of_entry(found.entry)}{spot(found, lambda each: each.sqnr_db == found.sqnr_db)}",
    )


def beside(figures: Sequence[Figures]) -> list[str]:
    """What no bound covers, output by output."""
    said = []
    for each in figures:
        if each.excluded:
            held = "is NaN or infinite in FP32 and the same here; no other figure covers it"
            many = "are NaN or infinite in FP32 and the same here; no other figure covers them"
            said.append(f"{each.output}: {counted(each.excluded, 'element')} {held if each.excluded == 1 else many}")
        if each.near_ties:
            close = "there FP32 itself decides by less than FP16's spacing"
            said.append(f"{each.output}: {counted(each.near_ties, 'near tie')} decided otherwise: {close}")
    return said


def broken(found: Figures, bound: Bound) -> list[str]:
    """The bounds that one output breaks, as sentences; lost elements and differing integers have no bound, they fail."""
    name, reasons = found.output, []
    if found.lost:
        reasons.append(
            f"{name}: {counted(found.lost, 'element')} lost: NaN or infinite on one side, and not the same on the other"
            + most(found, lambda each: each.lost)
        )
    if found.mismatches:
        reasons.append(
            f"{name}: {counted(found.mismatches, 'element')} of an integer, boolean or data-dependent output changed"
            + most(found, lambda each: each.mismatches)
        )
    if math.isnan(found.sqnr_db):
        reasons.append(f"{name}: FP32 itself gives no finite value, so there is nothing to compare with")
        return reasons
    if bound.max_abs is not None and found.max_abs > bound.max_abs:
        said = spot(found, lambda each: each.max_abs == found.max_abs)
        reasons.append(f"{name}: off by up to {found.max_abs:.4g}{said}, wanted at most {bound.max_abs:g}")
    if found.sqnr_db == -math.inf and math.isinf(found.max_rel):
        reasons += zero_reference(found, bound)
    else:
        reasons += relative(found, bound)
    return reasons


def most(found: Figures, count: Callable[[SampleFigures], int]) -> str:
    """Where most of what is counted is, if there is more than one sample."""
    if len(found.samples) < 2:
        return ""
    worst = max(found.samples, key=count)
    return f", {count(worst):,} of them in sample {worst.sample}"


def spot(found: Figures, where: Callable[[SampleFigures], bool]) -> str:
    """`` in sample 3``: the first sample in which something holds; of one sample, and of all together, there is nothing to say."""
    sample = next((each.sample for each in found.samples if where(each)), None)
    return f" in sample {sample}" if sample is not None and len(found.samples) > 1 else ""


def zero_reference(found: Figures, bound: Bound) -> list[str]:
    """FP32 gives zeros only, so no relative figure means anything: the user's ``max_abs`` decides, else ``NOTHING``."""
    relative_bounds = (bound.sqnr_db, bound.max_rel, bound.cosine)
    if bound.max_abs is not None or found.max_abs < NOTHING or all(each is None for each in relative_bounds):
        return []
    wanted = f"wanted less than {NOTHING:.2g} (a bound max_abs allows more)"
    return [f"{found.output}: FP32 gives all zeros, this is off by up to {found.max_abs:.4g}, {wanted}"]


def relative(found: Figures, bound: Bound) -> list[str]:
    """The bounds that are relative to the reference."""
    name, reasons = found.output, []
    if bound.sqnr_db is not None and found.sqnr_db < bound.sqnr_db:
        said = spot(found, lambda each: each.sqnr_db == found.sqnr_db)
        reasons.append(f"{name}{of_entry(found.entry)}: {decibel_text(found.sqnr_db, bound.sqnr_db)}{said}, wanted {bound.sqnr_db:g} dB")
    if bound.max_rel is not None and found.max_rel > bound.max_rel:
        said = spot(found, lambda each: each.max_rel == found.max_rel)
        reasons.append(f"{name}: off by up to {found.max_rel:.3g} of the largest value{said}, wanted at most {bound.max_rel:g}")
    if bound.cosine is not None and found.cosine < bound.cosine:
        said = spot(found, lambda each: each.cosine == found.cosine)
        reasons.append(f"{name}: cosine similarity {found.cosine:.6f}{said}, wanted at least {bound.cosine:g}")
    return reasons


def decibel_text(found: float, wanted: float) -> str:
    """With as many digits as tell it from what was wanted: never '50.0 dB, wanted 50 dB'."""
    if math.isinf(found):
        return "nothing is left of the signal"
    digits = next((n for n in (1, 2, 3, 4) if f"{found:.{n}f}" != f"{wanted:.{n}f}"), 6)
    return f"{found:.{digits}f} dB"


def counted(number: int, noun: str) -> str:
    """``1 element``, ``12,000 elements``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
