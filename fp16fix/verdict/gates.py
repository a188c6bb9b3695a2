"""``Figures`` against tolerances → ``Verdict``, with one plain sentence for every bound that is broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from fp16fix import half
from fp16fix.verdict.verdict import Figures, Verdict


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
"""Where the reference is all zeros there is no signal to compare noise with: errors below FP16's smallest normal value, 2⁻¹⁴, pass."""


def judge(figures: Sequence[Figures], tolerance: Tolerance, oracle: str, profile: str, samples: int) -> Verdict:
    """Pass or fail; a comparison of nothing fails."""
    reasons = [reason for each in figures for reason in broken(each, tolerance(each.output))]
    if not samples or not figures:
        reasons.append(
            "nothing was compared: there are no held-out samples" if not samples else "nothing was compared: there are no outputs"
        )
    return Verdict(not reasons, oracle, profile, tuple(figures), samples, tuple(reasons))


def broken(found: Figures, bound: Bound) -> list[str]:
    """The bounds that one output breaks, as sentences; new non-finite values and differing integers have no bound, they fail."""
    name, reasons = found.output, []
    if found.new_nonfinite:
        reasons.append(f"{name}: {counted(found.new_nonfinite, 'new non-finite value')} where FP32 has numbers")
    if found.mismatches:
        reasons.append(f"{name}: {counted(found.mismatches, 'element')} of an integer, boolean or data-dependent output changed")
    if math.isnan(found.sqnr_db):
        reasons.append(f"{name}: FP32 itself gives no finite value, so there is nothing to compare with")
        return reasons
    if bound.max_abs is not None and found.max_abs > bound.max_abs:
        reasons.append(f"{name}: off by up to {found.max_abs:.4g}, wanted at most {bound.max_abs:g}")
    if found.sqnr_db == -math.inf and math.isinf(found.max_rel):
        reasons += zero_reference(found, bound)
    else:
        reasons += relative(found, bound)
    return reasons


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
        reasons.append(f"{name}: {decibel_text(found.sqnr_db, bound.sqnr_db)}, wanted {bound.sqnr_db:g} dB")
    if bound.max_rel is not None and found.max_rel > bound.max_rel:
        reasons.append(f"{name}: off by up to {found.max_rel:.3g} of the largest value, wanted at most {bound.max_rel:g}")
    if bound.cosine is not None and found.cosine < bound.cosine:
        reasons.append(f"{name}: cosine similarity {found.cosine:.6f}, wanted at least {bound.cosine:g}")
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
