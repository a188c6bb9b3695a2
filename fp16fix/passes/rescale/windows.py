"""What calibration saw of a tensor, or the values of an initializer → the window of exponents in which FP16 holds it well."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fp16fix import half
from fp16fix.ranges.range import Range

WIDEST = 48
"""Exponents are sought between −48 and 48: squares of what FP16 holds span 80 octaves."""
BULK_OCTAVES = 11
"""A typical value this far above 1 keeps its distance from subnormals: at 2⁻¹¹ subnormal rounding noise equals normal noise over
the Gaussian around it (spacing 2⁻²⁴ against relative spacing 2⁻¹¹, 2 octaves to spare)."""
DELICATE_OCTAVES = 14
"""A value whose reciprocal, root or logarithm is taken must itself be normal: 2⁻¹⁴."""
NONZERO_OCTAVES = 24
"""Second best: the smallest value, an eps perhaps, is at least not zero: 2⁻²⁴."""
LOST = 8
"""Octaves past the loss of the first bit after which 2 or 3 bits of 11 are left."""
SENTINEL = 1e38
"""Literals from here on mean infinity: no exponent is sought for them, and none changes them."""
SAMPLE = 1 << 16
"""Values of an initializer looked at for its typical size; its largest is exact."""


@dataclass(frozen=True, slots=True)
class Window:
    """Exponents e, the stored value being true × 2^−e."""

    hard: int
    """Below this the largest value overflows."""
    soft: int
    """From here on the wanted head-room is there."""
    keep: int
    """Beyond this, every octave costs about one bit of what matters in the tensor."""
    gone: int = WIDEST
    """Beyond this, nothing useful is left of the bulk of the tensor."""
    quiet: int = WIDEST
    """Beyond this, inputs as much quieter as asked for lose what a logarithm, a root or a division would show."""
    roomy: int = -WIDEST
    """Below this, if it is rescaled at all, it lacks the head-room asked for and is pinned; ``soft`` asks for more where a tensor grows
    faster than the graph's inputs."""

    @property
    def troubled(self) -> bool:
        """Whether e = 0 overflows, lacks head-room at either end, or loses two bits or more."""
        return self.soft > 0 or min(self.keep, self.quiet) <= -2


EMPTY = Window(-WIDEST, -WIDEST, WIDEST)
"""A tensor that is zero, or of which nothing is known."""


def window_of_range(seen: Range, headroom: float, *, delicate: bool = False, down: float = 0.0) -> Window:
    """The window of an activation.

    Args:
        seen: its range over calibration.
        headroom: octaves wanted above the largest value seen.
        delicate: small values matter by themselves, because a reciprocal, root or logarithm follows.
        down: octaves wanted below the smallest of them, where that leaves head-room above.
    """
    if not (seen.absmax > 0.0 and seen.rms > 0.0):
        return EMPTY
    octaves = dict(seen.octaves)
    rms = math.log2(min(seen.rms, half.FP32.largest))
    keep = bulk(quantile(octaves, 0.5) if octaves else rms, rms, BULK_OCTAVES)
    gone = keep + LOST
    found = window(seen.absmax, headroom, keep, gone)
    if not delicate:
        return found
    smallest = min(abs(seen.low), abs(seen.high)) if seen.low > 0.0 or seen.high < 0.0 else 0.0
    least = [math.floor(math.log2(smallest))] if smallest > 0.0 else []
    wanted = [octave + reach for octave in least for reach in (DELICATE_OCTAVES, NONZERO_OCTAVES)]
    wanted += [math.floor(quantile(octaves, 0.01)) + DELICATE_OCTAVES] if octaves else []
    # What FP16 cannot hold beside the largest value is not reached for: lifting it part of the way helps nothing.
    reached = [e for e in wanted if e >= found.soft]
    if not reached:
        return found
    quiet = max(reached[0] - math.ceil(down), found.soft)
    return replace(found, keep=min(keep, reached[0]), quiet=quiet if down else WIDEST)


def window_of_squares(norm: Range, headroom: float) -> Window:
    """The window of what a ReduceL2 reads: engines square and sum in the tensor's own type, so the norm must stay below √65504."""
    if norm.absmax == 0.0 or norm.rms == 0.0:
        return EMPTY
    over = math.log2(norm.absmax / math.sqrt(half.LARGEST))
    keep = math.floor(math.log2(norm.rms)) + DELICATE_OCTAVES // 2
    return Window(-WIDEST, max(-WIDEST, math.ceil(over + headroom)), max(-WIDEST, keep))


def window_of_values(values: np.ndarray, *, delicate: bool = False) -> Window:
    """The window of an initializer that stands alone (a weight); literals that FP16 could only hold as infinity are left out."""
    flat = np.asarray(values).reshape(-1)
    sample = np.abs(flat[:: max(1, flat.size // SAMPLE)].astype(np.float64))
    sample = sample[(sample > 0.0) & (sample < SENTINEL)]
    top = largest(flat)
    if not sample.size or top == 0.0:
        return EMPTY
    octaves = np.frexp(sample)[1] - 1
    keep = bulk(float(np.median(octaves)), 0.5 * math.log2(float(np.mean(sample**2))), BULK_OCTAVES)
    if delicate:
        keep = min(keep, int(octaves.min()) + DELICATE_OCTAVES)
    return window(top, 0.0, keep, WIDEST)


def largest(flat: np.ndarray) -> float:
    """Largest magnitude below what means infinity."""
    top = max(float(flat.max()), -float(flat.min())) if flat.size else 0.0
    if top < SENTINEL:
        return top
    finite = np.abs(flat[np.abs(flat) < SENTINEL])
    return float(finite.max()) if finite.size else 0.0


def window(absmax: float, headroom: float, keep: int, gone: int) -> Window:
    """From the largest magnitude and the exponents where loss begins and where it is total."""
    over = math.log2(min(absmax, half.FP32.largest) / half.LARGEST)
    hard, soft = max(-WIDEST, math.ceil(over)), max(-WIDEST, math.ceil(over + headroom))
    return Window(hard, soft, max(-WIDEST, min(WIDEST, keep)), max(-WIDEST, min(WIDEST, gone)))


def bulk(typical: float, rms: float, octaves: int) -> int:
    """The exponent up to which typical values lose nothing; a tensor of small values is lifted only for the sake of its energy."""
    keep = math.floor(typical) + octaves
    return keep if keep >= 0 else max(keep, min(0, math.floor(rms) + octaves))


def quantile(octaves: dict[int, int], share: float) -> float:
    """The octave below which ``share`` of the nonzero values lie."""
    wanted, total = share * sum(octaves.values()), 0
    for octave in sorted(octaves):
        total += octaves[octave]
        if total >= wanted:
            return float(octave)
    return float(max(octaves))
