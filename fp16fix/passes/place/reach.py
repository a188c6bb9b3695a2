"""How far a pin must go: back from a node that magnifies to what rounded its argument, and on from a coordinate to where it is used up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fp16fix import half
from fp16fix.graph.model import Constant, Node, Tensor
from fp16fix.graph.operators import ADDITIONS, CARRIERS, EXPONENTIATING, KEEPING_AXES, MOVEMENT, PRODUCTS, SUMS, TRIGONOMETRIC
from fp16fix.graph.ops import float_inputs, float_outputs
from fp16fix.hazards.overflow import is_square
from fp16fix.hazards.positions import decides_a_shape
from fp16fix.ranges.range import Range

STAGES = 2
"""Products back to which the argument of a softmax is kept wide: the similarity, and the projections whose rounding it would magnify."""
ALL = 1 << 16
"""Back to the inputs: a count that decides a shape is right or wrong, and nothing heals it."""
PASSED = KEEPING_AXES | MOVEMENT | SUMS
"""Operators that hand on the rounding of what they read as it is."""
WHOLE_PIXELS = 1.0 / 8
"""Spacing from which the sum of a coordinate and an offset is a coordinate whose rounding shows: it is that of 128 and more."""
QUIET = -10
"""Octave of a guarded value below which quieter inputs reach FP16's subnormals: an amplitude two octaves lower is a square four lower."""
HOPELESS_BITS = 6.0
"""Bits by which E[x²] exceeds the variance past which x itself must not be rounded (the rule ``variance`` refuses from there on)."""


def deciding(node: Node, tensor: Tensor) -> set[str]:
    """The argument of a node that magnifies, as far back as its kind asks for."""
    if node.op in EXPONENTIATING | TRIGONOMETRIC:
        return argument(tensor, STAGES)
    return argument(tensor, ALL if decides_a_shape(node) else 1)


def argument(tensor: Tensor, stages: int) -> set[str]:
    """A tensor and, back through operators that hand errors on, what it is made of; ``stages`` products end the way."""
    found: set[str] = set()
    pending = [(tensor, stages)]
    while pending:
        each, left = pending.pop()
        if isinstance(each, Constant) or not each.inputs or each.name in found:
            continue
        found.add(each.name)
        for producer in each.inputs:
            after = left - (producer.op in PRODUCTS)
            if after > 0 and (stages == ALL or producer.op in PASSED | PRODUCTS):
                pending += [(operand, after) for operand in float_inputs(producer)]
    return found


def onward(tensors: Iterable[Tensor], ranges: Mapping[str, Range]) -> set[str]:
    """Coordinates made of coordinates: until they are divided, compared, looked up by or multiplied into something else, or leave."""
    found: set[str] = set()
    pending = [node for tensor in tensors for node in tensor.outputs]
    while pending:
        node = pending.pop()
        fresh = [each for each in float_outputs(node) if each.name not in found]
        if not fresh or not keeps_coordinates(node, ranges):
            continue
        found |= {each.name for each in fresh}
        pending += [after for each in fresh for after in each.outputs]
    return found


def keeps_coordinates(node: Node, ranges: Mapping[str, Range]) -> bool:
    """Movement, and sums and scalings whose result is still so large that FP16's spacing shows."""
    if node.op in MOVEMENT:
        return True
    if node.op not in ADDITIONS | {"Mul"}:
        return False
    seen = ranges.get(node.outputs[0].name)
    return seen is not None and half.spacing(seen.absmax) >= WHOLE_PIXELS


def squares(tensor: Tensor, ranges: Mapping[str, Range]) -> set[str]:
    """A sum of squares and, back to the squares, what it is made of; nothing where calibration saw only large ones."""
    seen = ranges.get(tensor.name)
    if seen is None or seen.low < 0.0 or (seen.octaves and seen.octaves[0][0] >= QUIET):
        return set()
    found, pending = set[str](), [tensor]
    while pending:
        each = pending.pop()
        if each.name in found or each.name not in ranges or ranges[each.name].low < 0.0:
            continue
        found.add(each.name)
        for producer in each.inputs:
            if not is_square(producer) and producer.op in SUMS | PRODUCTS | ADDITIONS | CARRIERS:
                pending += float_inputs(producer)
    return found


def moved(tensor: Tensor) -> set[str]:
    """A tensor and, back through movement, those that hold the same values."""
    found: set[str] = set()
    pending = [tensor]
    while pending:
        each = pending.pop()
        found.add(each.name)
        pending += [t for producer in each.inputs if producer.op in MOVEMENT for t in float_inputs(producer) if t.name not in found]
    return found


def moments(node: Node, ranges: Mapping[str, Range], bits: float) -> set[str]:
    """Operands of a difference and, behind a mean of squares, the squares; x too where its own rounding is what is left."""
    found: set[str] = set()
    for operand in float_inputs(node):
        found |= moved(operand)
        for mean in operand.inputs:
            for square in float_inputs(mean) if mean.op in SUMS else ():
                behind = [each for producer in square.inputs if is_square(producer) for each in float_inputs(producer)[:1]]
                found |= {square.name} | {each.name for each in behind if bits >= HOPELESS_BITS} if behind else set()
    return found & set(ranges)
