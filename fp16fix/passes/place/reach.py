"""How far a pin must go: back from a node that magnifies to what rounded its argument, and on from a coordinate to where it is used up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fp16fix.graph.model import Constant, Node, Tensor
from fp16fix.graph.operators import ADDITIONS, CARRIERS, EXPONENTIATING, KEEPING_AXES, MOVEMENT, PRODUCTS, SUMS, TRIGONOMETRIC
from fp16fix.graph.ops import float_inputs, float_outputs
from fp16fix.graph.walk import walk
from fp16fix.half import Format
from fp16fix.hazards.overflow import is_square
from fp16fix.hazards.positions import decides_a_shape
from fp16fix.ranges.range import Range

STAGES = 2
"""Products back to which the argument of a softmax is kept wide: the similarity, and the projections whose rounding it would magnify."""
ALL = 1 << 16
"""Back to the inputs: a count that decides a shape is right or wrong, and nothing heals it; nor a value that others' rounding drowns."""
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
    return argument(tensor, ALL if decides_a_shape(node) or node.op == "Log" else 1)


def argument(tensor: Tensor, stages: int) -> set[str]:
    """A tensor and, back through operators that hand errors on, what it is made of; ``stages`` products end the way."""
    found: dict[str, int] = {}
    pending = [(tensor, stages)]
    while pending:
        each, left = pending.pop()
        if isinstance(each, Constant) or not each.inputs or found.get(each.name, 0) >= left:
            continue
        # A path with more products left goes further, so a tensor may be met again.
        found[each.name] = left
        for producer in each.inputs:
            after = left - (producer.op in PRODUCTS)
            if after > 0 and (stages == ALL or producer.op in PASSED | PRODUCTS):
                pending += [(operand, after) for operand in float_inputs(producer)]
    return set(found)


def onward(tensors: Iterable[Tensor], ranges: Mapping[str, Range], narrow: Format) -> set[str]:
    """Coordinates made of coordinates: until they are divided, compared, looked up by or multiplied into something else, or leave."""

    def keeping(made: Iterable[Tensor]) -> list[Node]:
        return [node for tensor in made for node in tensor.outputs if keeps_coordinates(node, ranges, narrow)]

    found = walk(keeping(tensors), lambda node: keeping(float_outputs(node)))
    return {tensor.name for node in found for tensor in float_outputs(node)}


def keeps_coordinates(node: Node, ranges: Mapping[str, Range], narrow: Format) -> bool:
    """Movement, and sums and scalings whose result is still so large that the type's spacing shows."""
    if node.op in MOVEMENT:
        return True
    if node.op not in ADDITIONS | {"Mul"}:
        return False
    seen = ranges.get(node.outputs[0].name)
    return seen is not None and narrow.spacing(seen.absmax) >= WHOLE_PIXELS


def squares(tensor: Tensor, ranges: Mapping[str, Range]) -> set[str]:
    """A sum of squares and, back to the squares, what it is made of; nothing where calibration saw only large ones."""
    seen = ranges.get(tensor.name)
    if seen is None or seen.low < 0.0 or (seen.octaves and seen.octaves[0][0] >= QUIET):
        return set()

    def back(each: Tensor) -> list[Tensor]:
        adding = [node for node in each.inputs if not is_square(node) and node.op in SUMS | PRODUCTS | ADDITIONS | CARRIERS]
        return [t for node in adding for t in float_inputs(node) if t.name in ranges and ranges[t.name].low >= 0.0]

    return {each.name for each in walk([tensor], back)}


def moved(tensor: Tensor) -> set[str]:
    """A tensor and, back through movement, those that hold the same values."""
    back = walk([tensor], lambda each: [t for node in each.inputs if node.op in MOVEMENT for t in float_inputs(node)])
    return {each.name for each in back}


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
