"""``Figures`` against tolerances → ``Verdict``, with one plain sentence for every bound that is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fp16fix import half
from fp16fix.verify.verdict import Figures, Verdict


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

NOTHING = half.SMALLEST_NORMAL
"""Where the reference is all zeros there is no signal to compare noise with: errors below FP16's smallest normal value pass."""


def judge(figures: Sequence[Figures], tolerance: Tolerance, oracle: str, profile: str, samples: int) -> Verdict:
    """Pass or fail."""
    reasons = tuple(reason for each in figures for reason in broken(each, tolerance(each.output)))
    return Verdict(not reasons, oracle, profile, tuple(figures), samples, reasons)


def broken(found: Figures, bound: Bound) -> list[str]:
    """The bounds that one output breaks, as sentences."""
    reasons = []
    if found.new_nonfinite:
        reasons.append(f"{found.output}: {found.new_nonfinite} values are NaN or infinite that FP32 computes")
    if found.mismatches:
        reasons.append(f"{found.output}: {found.mismatches} integer or boolean values differ")
    silent = found.sqnr_db == float("-inf") and found.max_abs < NOTHING
    if bound.sqnr_db is not None and found.sqnr_db < bound.sqnr_db and not silent:
        reasons.append(f"{found.output}: {found.sqnr_db:.1f} dB, wanted {bound.sqnr_db:g} dB")
    if bound.max_abs is not None and found.max_abs > bound.max_abs:
        reasons.append(f"{found.output}: off by up to {found.max_abs:.4g}, wanted at most {bound.max_abs:g}")
    if bound.max_rel is not None and found.max_rel > bound.max_rel:
        reasons.append(f"{found.output}: off by up to {found.max_rel:.3g} of the largest value, wanted at most {bound.max_rel:g}")
    if bound.cosine is not None and found.cosine < bound.cosine:
        reasons.append(f"{found.output}: cosine similarity {found.cosine:.6f}, wanted at least {bound.cosine:g}")
    return reasons
