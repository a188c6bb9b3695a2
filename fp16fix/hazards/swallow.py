"""Swallow: an addend that the spacing of what it is added to eats, in most elements; what reads the sum sees no increment at all."""

from __future__ import annotations

from collections.abc import Iterator

from fp16fix.graph.model import Constant, Node, Tensor
from fp16fix.graph.operators import ADDITIONS, EXPONENTIATING, MOVEMENT
from fp16fix.graph.ops import float_inputs
from fp16fix.graph.walk import readers, walk
from fp16fix.half import FP32
from fp16fix.hazards.context import Context, hazard
from fp16fix.hazards.hazard import Hazard, Kind

NOTHING = FP32.digits
"""Octaves below which FP32 itself loses the addend."""


def find(context: Context) -> Iterator[Hazard]:
    """Sums of two activations, one of them typically below the spacing of the other.

    As many octaves below as there are digits, a typical addend is half of the spacing: it is rounded away, or up to twice its size.
    """
    narrow, eaten = context.narrow, context.narrow.digits
    for node in context.nodes():
        if node.op not in ADDITIONS or is_masking(node):
            continue
        found = [(seen, tensor) for tensor in float_inputs(node) if moves(tensor) and (seen := context.range_of(tensor)) is not None]
        result = context.range_of(node.outputs[0])
        if len(found) != 2 or result is None:
            continue
        (small, tensor), (large, _) = sorted(found, key=lambda pair: pair[0].typical)
        below = large.typical - small.typical
        if small.energy > 0.0 and eaten <= below < NOTHING and len(small.octaves) > 0 and len(large.octaves) > 0:
            why = (
                f"{node.op} of values around {2.0**large.typical:.3g} and an addend {tensor.name!r} around {2.0**small.typical:.3g}: "
                f"{narrow} steps there are {narrow.spacing(2.0**large.typical):.3g}, and most of the addend is lost"
            )
            yield hazard(node, Kind.SWALLOW, result, below - eaten, why)


def is_masking(node: Node) -> bool:
    """Whether a softmax reads the sum: what is eaten by a mask is meant to be."""
    onward = walk(readers(node), lambda each: readers(each) if each.op in ADDITIONS | MOVEMENT else ())
    return any(each.op in EXPONENTIATING for each in onward)


def moves(tensor: Tensor) -> bool:
    """An activation: a literal is an eps or a shift, whose loss the model's author chose or ``vanish`` names."""
    return not isinstance(tensor, Constant)
