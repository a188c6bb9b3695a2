"""One tensor, in pieces → ``TensorCast``: what rounding to binary16 does to its values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from fp16fix.half import FP16

PIECE = 1 << 20
"""Elements looked at at once: a few tens of megabytes of temporaries, however large the tensor."""


@dataclass(frozen=True, slots=True)
class TensorCast:
    """A weight tensor against its copy in FP16, rounded to nearest even."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As stored in the file."""
    count: int
    absmax: float
    """Largest finite magnitude."""
    smallest: float
    """Smallest nonzero magnitude; inf if there is none."""
    past: int
    """Finite values that become infinite."""
    subnormal: int
    """Nonzero values that end below 2^−14 (but not at zero), where precision fades."""
    flushed: int
    """Nonzero values that become zero."""
    nonfinite: int
    """NaN or infinite values in the file itself."""
    max_abs: float
    """Largest |x − half(x)| of values that stay finite."""
    max_rel: float
    """Largest |x − half(x)| / |x| of those; 1 for a value flushed to zero, at most 2^−11 for one that stays normal."""

    @property
    def hurt(self) -> bool:
        """Something is lost that more than rounding explains: values past FP16, flushed to zero, or not finite to begin with."""
        return bool(self.past or self.flushed or self.nonfinite)


@dataclass(frozen=True, slots=True)
class WeightReport:
    """All float tensors of a file, in the file's order."""

    path: str
    kind: str
    """``checkpoint``, ``safetensors`` or ``onnx``."""
    tensors: tuple[TensorCast, ...]
    notes: tuple[str, ...] = ()
    """What was not looked at, and why."""

    @property
    def worst(self) -> tuple[TensorCast, ...]:
        """Hurt tensors: values past FP16 first, then non-finite ones, then the share flushed to zero."""
        return tuple(sorted((t for t in self.tensors if t.hurt), key=lambda t: (-t.past, -t.nonfinite, -t.flushed / t.count, t.name)))

    @property
    def verdict(self) -> str:
        """One plain sentence."""
        count = sum(tensor.count for tensor in self.tensors)
        parts = [
            f"{total:,} values {what} in {sum(1 for n in numbers if n)} tensors"
            for what, numbers in (
                ("leave FP16's range", [t.past for t in self.tensors]),
                ("are flushed to zero", [t.flushed for t in self.tensors]),
                ("are NaN or infinite already", [t.nonfinite for t in self.tensors]),
            )
            if (total := sum(numbers))
        ]
        said = "; ".join(parts) if parts else "nothing leaves FP16's range or is flushed to zero"
        return f"{len(self.tensors)} float tensors, {count:,} values: {said}"


def cast_of(name: str, shape: tuple[int, ...], dtype: str, pieces: Iterable[np.ndarray]) -> TensorCast:
    """Fold pieces of a tensor (any float type, any shape) into figures."""
    figures: dict[str, float] = dict.fromkeys(("past", "subnormal", "flushed", "nonfinite", "absmax", "max_abs", "max_rel"), 0.0)
    figures["smallest"] = math.inf
    for piece in pieces:
        add(figures, piece)
    counts = {key: int(figures[key]) for key in ("past", "subnormal", "flushed", "nonfinite")}
    extremes = {key: figures[key] for key in ("absmax", "smallest", "max_abs", "max_rel")}
    return TensorCast(name, shape, dtype, math.prod(shape), **counts, **extremes)  # type: ignore[arg-type]


def add(figures: dict[str, float], piece: np.ndarray) -> None:
    """One piece, compared in float64."""
    exact = piece.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        half = exact.astype(np.float16).astype(np.float64)
    finite, kept = np.isfinite(exact), np.isfinite(half)
    magnitude, size = np.abs(exact), np.abs(half)
    nonzero = finite & (magnitude > 0.0)
    figures["nonfinite"] += int((~finite).sum())
    figures["past"] += int((finite & ~kept).sum())
    figures["flushed"] += int((nonzero & (size == 0.0)).sum())
    figures["subnormal"] += int(((size > 0.0) & (size < FP16.smallest_normal)).sum())
    figures["absmax"] = max(figures["absmax"], float(magnitude.max(initial=0.0, where=finite)))
    figures["smallest"] = min(figures["smallest"], float(magnitude.min(initial=math.inf, where=nonzero)))
    both = finite & kept
    error = np.abs(np.where(both, exact, 0.0) - np.where(both, half, 0.0))
    figures["max_abs"] = max(figures["max_abs"], float(error.max(initial=0.0)))
    relative = np.divide(error, magnitude, out=np.zeros_like(error), where=nonzero)
    figures["max_rel"] = max(figures["max_rel"], float(relative.max(initial=0.0)))


def pieces_of(array: np.ndarray) -> Iterator[np.ndarray]:
    """A tensor in pieces of ``PIECE`` elements, without a copy of the whole."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, PIECE):
        yield flat[start : start + PIECE]
