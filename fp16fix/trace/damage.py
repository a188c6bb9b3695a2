"""How far a strict tensor is from its FP32 twin: what is compared, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

OFF = 2.0**-5
"""An element this far off, relative to itself and to what is typical beside it, is wrong; FP16 rounding is 2⁻¹¹ a step."""


SUMS = 3
"""Columns of a row that ``error_of`` reads."""


@dataclass(frozen=True, slots=True)
class Damage:
    """How far a strict tensor is from its FP32 twin, all samples together."""

    tensor: str
    sqnr_db: float
    """10·log₁₀(Σ ref² / Σ (ref − x)²) over elements finite in both; inf if equal, −inf if only noise is left."""
    nonfinite: int
    """Elements that are NaN, inf or −inf in one run and not the same in the other."""
    off: float = 0.0
    """Share of elements off by more than ``OFF`` of their own size; measured only where asked for."""

    @property
    def damage_db(self) -> float:
        """``sqnr_db`` with lost values counted as total loss."""
        return -math.inf if self.nonfinite else self.sqnr_db


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor of the host and its strict twin, both in the main graph or in the same body."""

    label: str
    """What the result is filed under; several pairs may share a reference."""
    reference: str
    twin: gs.Tensor
    exponent: int = 0
    """The twin holds reference × 2^−exponent."""


def error_of(name: str, row: np.ndarray) -> Damage:
    """A ``Damage`` from summed rows."""
    signal, noise, nonfinite = (float(x) for x in row)
    if noise == 0.0:
        return Damage(name, math.inf, int(nonfinite))
    return Damage(name, 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf, int(nonfinite))


def errors_of(totals: Mapping[str, np.ndarray]) -> dict[str, Damage]:
    """Errors by name, from summed rows: as ``error_of`` reads them, and where elements were counted, how many were off, and all."""

    def off(row: np.ndarray) -> float:
        return float(row[3] / max(1.0, row[4])) if len(row) > SUMS else 0.0

    return {name: replace(error_of(name, row[:SUMS]), off=off(row)) for name, row in totals.items()}
