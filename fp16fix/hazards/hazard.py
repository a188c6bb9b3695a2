"""``Hazard``: one node, one kind, the bits lost, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """How a node fails in FP16."""

    OVERFLOW = "overflow"
    """A value or an internal sum leaves FP16."""
    VANISH = "vanish"
    """A value that matters goes to zero: an eps, tiny squares, small probabilities."""
    SWAMP = "swamp"
    """A sum or coordinate is too coarse: integers past 2048, long sums."""
    CANCEL = "cancel"
    """A difference of near-equal large values."""
    COARSE = "coarse"
    """An argument whose FP16 spacing is too large for the function that reads it: a softmax, an exponential, a sine, a decision."""
    SWALLOW = "swallow"
    """An addend that the spacing of what it is added to eats."""
    ENDLESS = "endless"
    """A Loop that ends in FP32 and not in FP16."""
    CONSTANT = "constant"
    """A literal or weight outside FP16."""


@dataclass(frozen=True, slots=True, order=True)
class Hazard:
    """One way one node loses the answer in FP16."""

    node: str
    """ONNX node name."""
    kind: Kind
    tensor: str
    """The tensor that suffers: an output of the node, or the initializer at fault."""
    op: str
    """ONNX operator of the node."""
    low: float
    high: float
    smallest: float
    """Range seen of ``tensor`` (low, high, smallest nonzero magnitude)."""
    bits: float
    """Octaves past the limit (overflow, vanish, constant) or significand bits lost or missing (swamp, cancel, coarse, swallow), or
    octaves of rounds past those of FP32 (endless); ≥ 0."""
    why: str
    """One sentence with the numbers."""
    internal: bool = False
    """The value at fault is a sum inside the op, not a tensor of the graph."""


def overflowing(hazards: Iterable[Hazard]) -> dict[str, float]:
    """Tensors that leave FP16, with their largest magnitude."""
    return {each.tensor: max(abs(each.low), abs(each.high)) for each in hazards if each.kind is Kind.OVERFLOW and not each.internal}
