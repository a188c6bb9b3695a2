"""Reference and candidate outputs, sample by sample → ``Figures``; sums are kept, arrays are not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp16fix.errors import ModelError
from fp16fix.verify.verdict import Figures


@dataclass(slots=True)
class Accumulator:
    """Running sums for one output, in float64."""

    signal: float = 0.0
    """Σ ref²."""
    noise: float = 0.0
    """Σ (ref − x)²."""
    cross: float = 0.0
    """Σ ref·x."""
    energy: float = 0.0
    """Σ x²."""
    largest: float = 0.0
    """max |ref|."""
    max_abs: float = 0.0
    new_nonfinite: int = 0
    mismatches: int = 0

    def add(self, reference: np.ndarray, candidate: np.ndarray) -> None:
        """One sample. Elements that are not finite in the reference are left out.

        Raises:
            ModelError: shapes differ, so the two do not compute the same thing.
        """
        reference, candidate = np.asarray(reference), np.asarray(candidate)
        if reference.shape != candidate.shape:
            raise ModelError(f"an output has shape {candidate.shape} where the reference has {reference.shape}")
        if reference.dtype.kind not in "fV":
            self.mismatches += int((reference != candidate).sum())
            return
        ref, x = reference.astype(np.float64).reshape(-1), candidate.astype(np.float64).reshape(-1)
        known = np.isfinite(ref)
        both = known & np.isfinite(x)
        self.new_nonfinite += int((known & ~both).sum())
        ref, x = ref[both], x[both]
        if not ref.size:
            return
        difference = ref - x
        self.signal += float(ref @ ref)
        self.noise += float(difference @ difference)
        self.cross += float(ref @ x)
        self.energy += float(x @ x)
        self.largest = max(self.largest, float(np.abs(ref).max()))
        self.max_abs = max(self.max_abs, float(np.abs(difference).max()))

    def figures(self, output: str) -> Figures:
        """What the sums say so far."""
        scale = math.sqrt(self.signal * self.energy)
        return Figures(
            output=output,
            sqnr_db=decibels(self.signal, self.noise),
            max_abs=self.max_abs,
            max_rel=self.max_abs / self.largest if self.largest else (0.0 if self.max_abs == 0.0 else math.inf),
            cosine=self.cross / scale if scale else (1.0 if self.signal == self.energy else 0.0),
            new_nonfinite=self.new_nonfinite,
            mismatches=self.mismatches,
        )


def decibels(signal: float, noise: float) -> float:
    """10·log₁₀(signal / noise); inf without noise, −inf with noise and no signal."""
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf


class Comparison:
    """Accumulators for all outputs of a model."""

    def __init__(self) -> None:
        self._outputs: dict[str, Accumulator] = {}

    def add(self, reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        """One sample's outputs by name; ``candidate`` must hold every output of ``reference``."""
        for name, value in reference.items():
            self._outputs.setdefault(name, Accumulator()).add(value, candidate[name])

    def figures(self) -> tuple[Figures, ...]:
        """One ``Figures`` an output."""
        return tuple(accumulator.figures(name) for name, accumulator in self._outputs.items())
