"""``Condition``, under which a verdict holds, and ``Bounded``, how far one product's partial sums can go."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fp16fix.half import LARGEST

UNIT = 2.0**-11
"""Unit roundoff of FP16."""
BLOCK = 16
"""Terms that are added exactly before a sum is rounded (Fasi et al. 2021, *Numerical behavior of NVIDIA tensor cores*)."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """A = Σ|a||b| of one product or sum, the largest over all results and samples: no partial sum of any order or split passes A(1 + γ).

    γ = n·u / (1 − n·u) for n rounded additions (Higham & Mary 2019, *A new approach to probabilistic rounding error analysis*, eq. 1.2), of
    which blocks of 16 terms need one each (Blanchard et al. 2020, *Mixed precision block fused multiply-add*, theorem 3.2).
    """

    node: str
    op: str
    terms: int
    """How many are added."""
    bound: float
    """A, or what is certainly not less; inf where it was not bounded."""
    exact: bool = False
    """A itself; else by Cauchy's or Hölder's inequality, which was enough."""
    results: int = 0
    """How many results it has, in the largest sample."""

    @property
    def steps(self) -> int:
        """Rounded additions of one run with sums in FP16."""
        return math.ceil(self.terms / BLOCK) * self.results

    @property
    def margin(self) -> float:
        """Octaves from A(1 + γ) to 65504; negative where a partial sum may overflow."""
        rounded = math.ceil(self.terms / BLOCK) * UNIT
        if rounded >= 1.0 or not math.isfinite(self.bound):
            return -math.inf
        return math.inf if self.bound == 0.0 else math.log2(LARGEST * (1.0 - rounded) / self.bound)

    @property
    def holds(self) -> bool:
        """Certified: no partial sum overflows."""
        return self.margin >= 0.0


@dataclass(frozen=True, slots=True)
class Condition:
    """What must be so for the verdict to hold."""

    kind: str
    """``fp32-accumulation``: products add in FP32."""
    nodes: tuple[str, ...]
    """The products it is about, those that go furthest first; none where no single one stands out."""
    why: str
    """In a sentence."""
