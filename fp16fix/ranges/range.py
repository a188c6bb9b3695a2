"""``Range`` and ``Ranges``: what calibration saw of each float tensor, addressed by tensor name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fp16fix.half import FP16, FP32


@dataclass(frozen=True, slots=True)
class Range:
    """One tensor over all calibration samples; every figure is of its finite FP32 values."""

    tensor: str
    shape: tuple[int, ...]
    """Shape in the sample where the tensor was largest."""
    low: float
    """Smallest value (signed)."""
    high: float
    """Largest value (signed)."""
    smallest: float
    """Smallest nonzero magnitude; inf if every value is zero; 0.0 where it was not measured because nothing hangs on it."""
    energy: float
    """Mean of squares."""
    noise: float
    """Mean square of value − narrow(value): what storing it in the model's narrow type costs by itself; inf once a value overflows."""
    nonfinite: int
    """NaN and infinite values seen in the FP32 run itself."""
    integral: bool = False
    """Every value seen is an integer (known only of tensors that had a second pass; False elsewhere)."""
    octaves: tuple[tuple[int, int], ...] = ()
    """Histogram as (⌊log₂|x|⌋, count), nonzero values, ascending; empty for tensors that needed no second pass."""

    zeros: int = 0
    """Values that the histogram leaves out: zeros and what is not finite."""
    wavering: float = 0.0
    """Of what a softmax reads: mean error energy of its shares, from rows whose two largest compete (see ``ranges.rivals``)."""
    ties: float = 0.0
    """The same: share of rows whose two largest the narrow type cannot tell apart, extrapolated from how close they come."""

    @property
    def absmax(self) -> float:
        """Largest finite magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def rms(self) -> float:
        """Root mean square."""
        return math.sqrt(self.energy)

    @property
    def typical(self) -> float:
        """Log₂ of a typical magnitude: of the median where a histogram was taken, else of the RMS; −inf where most are zero."""
        if not self.octaves:
            return math.log2(self.rms) if self.energy > 0.0 and math.isfinite(self.energy) else -math.inf
        middle, passed = (self.zeros + sum(count for _, count in self.octaves)) / 2, self.zeros
        if passed > middle:
            return -math.inf
        for octave, count in self.octaves:
            passed += count
            if passed >= middle:
                return octave + 0.5
        raise AssertionError

    @property
    def headroom(self) -> float:
        """Octaves to FP16's largest value; negative once the tensor does not fit."""
        return FP16.headroom(self.absmax)

    @property
    def storage_db(self) -> float:
        """Signal to rounding noise of storing this tensor in the narrow type, in dB.

        Values past its largest count as lost; inf where squares are past FP32, so that nobody knows.
        """
        if self.noise == 0.0 or self.energy >= FP32.largest:
            return math.inf
        return 10.0 * math.log10(self.energy / self.noise) if self.energy > 0.0 and self.noise < math.inf else 0.0


@dataclass(frozen=True, slots=True)
class Ranges(Mapping[str, Range]):
    """Ranges by tensor name, in graph order."""

    by_tensor: dict[str, Range]
    samples: int
    """How many samples they were taken over."""
    rounds: Mapping[str, int] = field(default_factory=dict)
    """How often the body of each Loop ran in one sample, at most."""

    def __getitem__(self, tensor: str) -> Range:
        return self.by_tensor[tensor]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_tensor)

    def __len__(self) -> int:
        return len(self.by_tensor)
