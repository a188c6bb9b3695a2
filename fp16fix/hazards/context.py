"""What every kind of diagnosis looks at: the nodes with their float tensors, and ranges with what is known of constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fp16fix.graph.converted import cast
from fp16fix.graph.model import Model, Node, Tensor, constant, is_float
from fp16fix.graph.once import once
from fp16fix.half import FP32, Format
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.ranges.range import Range


@dataclass(slots=True)
class Context:
    """One model with its ranges; ``range_of`` also knows initializers."""

    model: Model
    ranges: Mapping[str, Range]
    pinned: frozenset[str] = frozenset()
    """Nodes that run wide anyway (the user's own islands): nothing is diagnosed there."""
    _constants: dict[str, Range | None] = field(default_factory=dict)

    @property
    def narrow(self) -> Format:
        """What the model is to run in."""
        return self.model.narrow

    def nodes(self) -> list[Node]:
        """Nodes that may run in it."""
        return [node for node in self.model.nodes() if node.name not in self.pinned]

    def range_of(self, tensor: Tensor) -> Range | None:
        """What is known of a float tensor: calibration, or its values."""
        if not tensor.name or not is_float(tensor):
            return None
        if tensor.name in self.ranges:
            return self.ranges[tensor.name]
        if tensor.name not in self._constants:
            values = constant(tensor)
            self._constants[tensor.name] = None if values is None else constant_range(tensor.name, values, self.narrow)
        return self._constants[tensor.name]


BLOCK = 1 << 16
"""Elements of a weight looked at together: what is made of them stays in the cache, and whole weights would be copied several times."""


def constant_range(name: str, values: np.ndarray, narrow: Format) -> Range:
    """The ``Range`` of an initializer, exactly."""
    return replace(range_of_values(values, narrow), tensor=name)


@once
def range_of_values(values: np.ndarray, narrow: Format) -> Range:
    """The ``Range`` of an array, in blocks."""
    flat = values.reshape(-1)
    low, high, smallest, energy, noise, odd = math.inf, -math.inf, math.inf, 0.0, 0.0, 0
    for start in range(0, flat.size, BLOCK):
        part = flat[start : start + BLOCK].astype(np.float32)
        if not np.isfinite(part).all():
            part, size = part[np.isfinite(part)], part.size
            odd += size - part.size
        if not part.size:
            continue
        low, high = min(low, float(part.min())), max(high, float(part.max()))
        magnitude = np.abs(part)
        smallest = min(smallest, float(magnitude.min(where=magnitude > 0, initial=math.inf)))
        energy += energy_of(part)
        with np.errstate(over="ignore", invalid="ignore"):
            noise += energy_of(part - cast(cast(part, narrow.onnx), FP32.onnx))
    count = max(1, flat.size - odd)
    if low > high:
        low = high = 0.0
    return Range("", values.shape, low, high, smallest, energy / count, noise / count, odd)


def energy_of(values: np.ndarray) -> float:
    """The sum of squares, in FP64."""
    wide = values.astype(np.float64)
    return float(wide @ wide)


def hazard(node: Node, kind: Kind, seen: Range, bits: float, why: str, *, internal: bool = False) -> Hazard:
    """A ``Hazard`` with the tensor's range filled in."""
    return Hazard(node.name, kind, seen.tensor, node.op, seen.low, seen.high, seen.smallest, round(max(0.0, bits), 3), why, internal)
