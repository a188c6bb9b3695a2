"""Reference and candidate outputs, sample by sample → ``Figures``; sums are kept, arrays are not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp16fix.errors import ModelError
from fp16fix.verdict.verdict import Figures

CHUNK = 1 << 18
"""Elements widened to float64 at a time: 2 MiB an array, whatever the size of the output."""


@dataclass(slots=True)
class Accumulator:
    """Running sums for one output, in float64; values up to 1e150 square without overflow there."""

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
    compared: int = 0
    """Elements finite in both, or compared for equality."""
    excluded: int = 0
    """Elements not finite in the reference: nothing to hold a candidate to."""
    new_nonfinite: int = 0
    mismatches: int = 0

    def add(self, reference: Any, candidate: Any) -> None:
        """One sample: arrays of one shape. Integers and booleans are compared for equality, floats in float64.

        Raises:
            ModelError: shapes differ, so the two do not compute the same thing.
        """
        reference, candidate = np.asarray(reference), np.asarray(candidate)
        if reference.shape != candidate.shape:
            raise ModelError(
                f"an output has shape {candidate.shape} where the reference has {reference.shape}", hint="compare two versions of one model"
            )
        if not is_float(reference):
            self.compared += reference.size
            self.mismatches += int(np.count_nonzero(reference != candidate))
            return
        ref, x = reference.reshape(-1), candidate.reshape(-1)
        for start in range(0, ref.size, CHUNK):
            self._chunk(ref[start : start + CHUNK].astype(np.float64), x[start : start + CHUNK].astype(np.float64))

    def lose(self, reference: Any, candidate: Any) -> None:
        """One sample whose shapes differ because they depend on the data (boxes that survive NMS): all of it counts as wrong."""
        reference = np.asarray(reference)
        if is_float(reference):
            self.add(reference, np.zeros_like(reference))
        self.mismatches += max(reference.size, np.asarray(candidate).size)

    def _chunk(self, ref: np.ndarray, x: np.ndarray) -> None:
        known = np.isfinite(ref)
        both = known & np.isfinite(x)
        self.excluded += int(known.size - np.count_nonzero(known))
        self.new_nonfinite += int(np.count_nonzero(known & ~both))
        if not both.all():
            ref, x = ref[both], x[both]
        if not ref.size:
            return
        difference = ref - x
        self.compared += ref.size
        self.signal += float(ref @ ref)
        self.noise += float(difference @ difference)
        self.cross += float(ref @ x)
        self.energy += float(x @ x)
        self.largest = max(self.largest, float(np.abs(ref).max()))
        self.max_abs = max(self.max_abs, float(np.abs(difference).max()))

    def figures(self, output: str) -> Figures:
        """What the sums say so far; ``sqnr_db`` is NaN where the reference had values and none of them was finite."""
        sqnr_db = decibels(self.signal, self.noise)
        if not self.compared and (self.new_nonfinite or self.excluded):
            sqnr_db = -math.inf if self.new_nonfinite else math.nan
        return Figures(
            output=output,
            sqnr_db=sqnr_db,
            max_abs=self.max_abs,
            max_rel=self.max_abs / self.largest if self.largest else (0.0 if self.max_abs == 0.0 else math.inf),
            cosine=self._cosine(),
            new_nonfinite=self.new_nonfinite,
            mismatches=self.mismatches,
        )

    def _cosine(self) -> float:
        """1 for equal zeros, 0 where only one side is zero; rounding never takes it out of [−1, 1]."""
        scale = math.sqrt(self.signal) * math.sqrt(self.energy)
        if scale == 0.0:
            return 1.0 if self.noise == 0.0 else 0.0
        return max(-1.0, min(1.0, self.cross / scale))


def is_float(array: np.ndarray) -> bool:
    """Whether an array holds floating-point numbers; bfloat16 calls itself void."""
    return array.dtype.kind in "fV"


def decibels(signal: float, noise: float) -> float:
    """10·log₁₀(signal / noise); inf without noise, −inf with noise and no signal."""
    if noise == 0.0:
        return math.inf
    return 10.0 * (math.log10(signal) - math.log10(noise)) if signal > 0.0 else -math.inf


class Comparison:
    """Accumulators for all outputs of a model."""

    def __init__(self) -> None:
        self._outputs: dict[str, Accumulator] = {}

    def add(self, reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        """One sample's outputs by name; outputs that only the candidate has are ignored.

        Raises:
            ModelError: an output of the reference is missing, or has another rank.
        """
        for name, value in reference.items():
            if name not in candidate:
                raise ModelError(
                    f"has no output {name!r}", where="candidate", hint=f"its outputs: {', '.join(sorted(candidate)) or 'none'}"
                )
            expected, found = np.shape(value), np.shape(candidate[name])
            accumulator = self._outputs.setdefault(name, Accumulator())
            if expected == found:
                accumulator.add(value, candidate[name])
            elif len(expected) == len(found):
                accumulator.lose(value, candidate[name])
            else:
                raise ModelError(
                    f"has shape {found} where the reference has {expected}",
                    where=f"output {name!r}",
                    hint="compare two versions of one model",
                )

    def figures(self) -> tuple[Figures, ...]:
        """One ``Figures`` an output, in the order they were first seen."""
        return tuple(accumulator.figures(name) for name, accumulator in self._outputs.items())
