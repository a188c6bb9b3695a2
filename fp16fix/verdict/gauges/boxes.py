"""``box-corners`` and ``box-iou``: what FP16 moves of boxes, in pixels and in overlap.

tolerance:
  metrics:
    - {metric: box-corners, output: boxes, limit: 0.5}
    - {metric: box-iou, output: boxes, limit: 0.99}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fp16fix.errors import ConfigError
from fp16fix.verdict.metric import Measured, share_to_spare, times_to_spare


class BoxCorners:
    """The largest distance between a corner of a reference box and the same corner of the candidate's, in the unit of the boxes."""

    name: ClassVar[str] = "box-corners"

    def __init__(self, output: str = "boxes", limit: float = 0.5) -> None:
        """``output``: [.., 4] of x₁, y₁, x₂, y₂; ``limit``: how far a corner may move."""
        self.output = output
        self.limit = float(limit)
        self.furthest = 0.0

    def add(self, reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        """One sample. Another number of boxes, or a value that is finite in one only, is infinitely far; NaN met by NaN is not."""
        exact, found = boxes(reference, self.output), boxes(candidate, self.output)
        if exact.shape != found.shape:
            self.furthest = np.inf
            return
        with np.errstate(invalid="ignore"):
            off = np.where((exact == found) | (np.isnan(exact) & np.isnan(found)), 0.0, found - exact)
        off[~np.isfinite(off)] = np.inf
        corners = np.hypot(off[:, 0::2], off[:, 1::2])
        self.furthest = max(self.furthest, float(corners.max(initial=0.0)))

    def result(self) -> Measured:
        """Over all boxes of all samples."""
        return Measured(self.furthest, self.limit, self.furthest <= self.limit, times_to_spare(self.furthest, self.limit))


class BoxIou:
    """The least intersection over union of a reference box and the candidate's box of the same place; 1 is the same box."""

    name: ClassVar[str] = "box-iou"

    def __init__(self, output: str = "boxes", limit: float = 0.99) -> None:
        """``output``: [.., 4] of x₁, y₁, x₂, y₂; ``limit``: the least overlap, 0 to 1."""
        self.output = output
        self.limit = float(limit)
        self.least = 1.0

    def add(self, reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        """One sample. Reference boxes without an area overlap with nothing and are left to ``box-corners``."""
        exact, found = boxes(reference, self.output), boxes(candidate, self.output)
        if exact.shape != found.shape:
            self.least = 0.0
            return
        kept = area(exact) > 0
        exact, found = exact[kept], found[kept]
        meet = np.concatenate([np.maximum(exact[:, :2], found[:, :2]), np.minimum(exact[:, 2:], found[:, 2:])], axis=1)
        shared = area(meet)
        with np.errstate(invalid="ignore", divide="ignore"):
            overlap = shared / (area(exact) + area(found) - shared)
        self.least = min(self.least, float(np.nan_to_num(overlap, nan=0.0).min(initial=1.0)))

    def result(self) -> Measured:
        """Over all boxes of all samples."""
        return Measured(self.least, self.limit, self.least >= self.limit, share_to_spare(self.least, self.limit))


def boxes(outputs: Mapping[str, Any], name: str) -> np.ndarray:
    """The output ``name`` as [boxes, 4] in float64.

    Raises:
        ConfigError: there is none of that name, or its last axis is not four corners.
    """
    array = output_named(outputs, name)
    if array.ndim == 0 or array.shape[-1] != 4:
        raise ConfigError(f"output {name!r} has the shape {list(array.shape)}, not [.., 4]", where="tolerance.metrics")
    return array.astype(np.float64).reshape(-1, 4)


def output_named(outputs: Mapping[str, Any], name: str) -> np.ndarray:
    """An output.

    Raises:
        ConfigError: the model has none of that name.
    """
    if name not in outputs:
        has = ", ".join(map(repr, outputs))
        raise ConfigError(f"the model has no output {name!r}", where="tolerance.metrics", hint=f"it has {has}; say `output: name`")
    return np.asarray(outputs[name])


def area(corners: np.ndarray) -> np.ndarray:
    """Of [boxes, 4]; 0 where the corners are the wrong way round, or no numbers."""
    with np.errstate(invalid="ignore"):
        wide, high = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
        return np.where((wide > 0) & (high > 0), wide * high, 0.0)
