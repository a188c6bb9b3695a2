"""Facts of binary16, bfloat16 and binary32 (IEEE 754-2019 §3.6; bfloat16 as in ONNX). Imports no tensor library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format."""

    name: str
    onnx: int
    """Value of ``onnx.TensorProto.DataType``."""
    digits: int
    """Significand bits, the hidden one included."""
    emin: int
    """Exponent of the smallest normal value."""
    emax: int
    """Exponent of the largest finite value."""
    narrow_sums: bool = False
    """Kernels may hold the sums of products of it in it: TensorRT promises FP32 accumulators for BF16, and none for FP16."""

    def __str__(self) -> str:
        """What people call it: ``FP16``."""
        return self.name.upper()

    @property
    def largest(self) -> float:
        """Largest finite value."""
        return (2.0 - 2.0 ** (1 - self.digits)) * 2.0**self.emax

    @property
    def smallest_normal(self) -> float:
        """Below this, precision drops one bit per octave."""
        return 2.0**self.emin

    @property
    def smallest(self) -> float:
        """Smallest subnormal; half of it rounds to zero (ties to even)."""
        return 2.0 ** (self.emin - self.digits + 1)

    @property
    def overflow(self) -> float:
        """Smallest magnitude that rounds to infinity (round to nearest even)."""
        return (2.0 - 2.0**-self.digits) * 2.0**self.emax

    @property
    def integers(self) -> int:
        """Every integer up to this magnitude is representable; beyond it some are not."""
        return int(2**self.digits)

    @property
    def has_fp32_range(self) -> bool:
        """Whether what FP32 holds neither overflows nor vanishes, but for its last binade and a few significands."""
        return self.emax >= FP32.emax

    @property
    def coarseness(self) -> float:
        """How many of FP16's steps one of its own takes, where both have normal values: 8 for BF16."""
        return 2.0 ** (FP16.digits - self.digits)

    @property
    def coarseness_db(self) -> float:
        """How much less of a signal its rounding leaves than FP16's does, in dB: 18 for BF16."""
        return 20.0 * math.log10(self.coarseness)

    def spacing(self, magnitude: float) -> float:
        """Distance from one value to the next at ``magnitude``, were there values past the largest too."""
        return 2.0 ** (max(octave(magnitude) if magnitude > 0.0 else self.emin, self.emin) - self.digits + 1)

    def headroom(self, absmax: float) -> float:
        """Octaves left before overflow of a value of magnitude ``absmax``; negative once it does not fit."""
        if absmax == 0.0:
            return math.inf
        return math.log2(self.largest / absmax) if math.isfinite(absmax) else -math.inf

    @property
    def itemsize(self) -> int:
        """Bytes a value takes."""
        return 4 if self.digits == 24 else 2


class Wide(str, Enum):
    """What an island may compute in."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


class Base(str, Enum):
    """What every node computes in that is on no island."""

    FP16 = "fp16"
    BF16 = "bf16"


FP32 = Format("fp32", 1, 24, -126, 127)
FP16 = Format("fp16", 10, 11, -14, 15, narrow_sums=True)
BF16 = Format("bf16", 16, 8, -126, 127)
FORMATS = {fmt.name: fmt for fmt in (FP16, BF16, FP32)}

LARGEST = FP16.largest
"""65504, the largest finite FP16 value."""
SMALLEST_NORMAL = FP16.smallest_normal
"""2⁻¹⁴ ≈ 6.1e-5."""
SMALLEST = FP16.smallest
"""2⁻²⁴ ≈ 6.0e-8."""
INTEGERS = FP16.integers
"""2048: beyond it FP16 does not hold every integer."""


def octave(magnitude: float) -> int:
    """⌊log₂ magnitude⌋ of a positive finite number."""
    return math.frexp(magnitude)[1] - 1
