"""Swamp: the narrow type is too coarse for a count, a coordinate or a long sum, whatever the range."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from fp16fix.graph.model import Constant, Node, Tensor
from fp16fix.graph.operators import ADDITIONS, MOVEMENT, SUMS
from fp16fix.graph.ops import float_inputs, float_outputs
from fp16fix.graph.quantised import dequantizes
from fp16fix.half import FP32, Format
from fp16fix.hazards.context import Context, hazard
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.hazards.overflow import axis_length
from fp16fix.hazards.positions import LENGTHENING, Position, is_grid, is_one_size, positional, source_of
from fp16fix.hazards.states import running_sums
from fp16fix.ranges.range import Range

PIXEL = 1.0 / 32
"""Rounding of a sampling position that bilinear interpolation does not show: 3 % of the difference of two neighbours."""
COUNTING = 4
"""Whole numbers in fewer octaves than this are mask literals, not counts."""


def find(context: Context) -> Iterator[Hazard]:
    """Positions and what is computed from them, integers past the last that is exact, running sums, sums longer than the type can count."""
    derived = positional(context)
    for node in context.nodes():
        if node.op not in MOVEMENT and not dequantizes(node):
            yield from integers(context, node, derived)
            yield from coordinates(context, node, derived)
        yield from sampling(context, node)
        yield from sums(context, node)
    yield from carried_sums(context)


def integers(context: Context, node: Node, derived: Mapping[str, Position]) -> Iterator[Hazard]:
    """A tensor computed from positions alone, or whole numbers that pass the last that is exact; a quantiser's steps count nothing.

    Past 2²⁴ FP32 itself has whole numbers only, and counts nothing.
    """
    narrow = context.narrow
    for tensor in float_outputs(node):
        seen = context.range_of(tensor)
        if seen is None or seen.absmax >= narrow.overflow:
            continue
        bits = math.log2(max(1.0, seen.absmax / narrow.integers))
        position = derived.get(tensor.name)
        if position is not None:
            if is_one_size(position, seen.shape, seen.absmax, narrow) or (
                source_of(node) is not None and is_exact(seen, tensor, derived, narrow)
            ):
                continue
            why = f"{node.op} computes a position from {position.source}: it reaches {seen.absmax:.4g} here and grows with length"
            yield hazard(node, Kind.SWAMP, seen, bits, why)
        elif seen.integral and narrow.integers < seen.absmax <= FP32.integers and len(seen.octaves) >= COUNTING:
            why = f"{node.op} makes whole numbers up to {seen.absmax:.0f}; {narrow} counts exactly only to {narrow.integers}"
            yield hazard(node, Kind.SWAMP, seen, bits, why)


def is_exact(seen: Range, tensor: Tensor, derived: Mapping[str, Position], narrow: Format) -> bool:
    """Whole numbers that the narrow type holds at any length to be expected, and from which no other position is computed."""
    if seen.absmax * LENGTHENING > narrow.integers:
        return False
    readers = list(tensor.outputs)
    while readers:
        reader = readers.pop()
        outputs = float_outputs(reader)
        if reader.op not in MOVEMENT and any(each.name in derived for each in outputs):
            return False
        readers += [after for each in outputs for after in each.outputs] if reader.op in MOVEMENT else []
    return True


def carried_sums(context: Context) -> Iterator[Hazard]:
    """The same of a state that a Loop or Scan adds to."""
    for control, node in running_sums(context.model):
        seen = context.range_of(node.outputs[0])
        if seen is not None and node.name not in context.pinned:
            why = f"{node.op} adds to a state of {control.op} {control.name!r}: it reaches {seen.absmax:.4g} here and grows with the length"
            yield hazard(node, Kind.SWAMP, seen, math.log2(max(1.0, seen.absmax / context.narrow.integers)), why)


def coordinates(context: Context, node: Node, derived: Mapping[str, Position]) -> Iterator[Hazard]:
    """An activation added to a grid: a coordinate, whose spacing is its error in pixels."""
    narrow = context.narrow
    if node.op not in ADDITIONS:
        return
    on_grid = any(t.name in derived or (isinstance(t, Constant) and is_grid(t)) for t in float_inputs(node))
    seen = context.range_of(node.outputs[0])
    if on_grid and seen is not None and node.outputs[0].name not in derived and narrow.integers < seen.absmax < narrow.overflow:
        spacing = narrow.spacing(seen.absmax)
        why = f"{node.op} makes coordinates up to {seen.absmax:.4g} from a grid; {narrow} steps there are {spacing:.3g}"
        yield hazard(node, Kind.SWAMP, seen, math.log2(seen.absmax / narrow.integers), why)


def sampling(context: Context, node: Node) -> Iterator[Hazard]:
    """A GridSample whose grid, in [−1, 1], is coarser than a fraction of a pixel (ONNX GridSample: x = −1…1 spans the width)."""
    if node.op != "GridSample" or isinstance(node.inputs[1], Constant):
        return
    image, grid = context.range_of(node.inputs[0]), context.range_of(node.inputs[1])
    if image is None or grid is None or len(image.shape) < 4:
        return
    step = max(image.shape[2:]) / 2 * 2.0**-context.narrow.digits
    if step > PIXEL:
        why = f"GridSample of {max(image.shape[2:])} pixels: the {context.narrow} grid moves in steps of up to {2 * step:.3g} pixels"
        yield hazard(node, Kind.SWAMP, grid, math.log2(step / PIXEL), why)


def sums(context: Context, node: Node) -> Iterator[Hazard]:
    """A sum over more terms than the type can count; right where the accumulator is FP32."""
    if node.op not in SUMS | {"CumSum"} or not float_inputs(node):
        return
    source, result = context.range_of(float_inputs(node)[0]), context.range_of(node.outputs[0])
    if source is None or result is None:
        return
    if node.op == "CumSum":
        yield hazard(
            node,
            Kind.SWAMP,
            result,
            0.0,
            f"CumSum runs on with the length of its axis; a running sum in {context.narrow} loses small steps once it is large",
        )
        return
    length = axis_length(source, result)
    if context.narrow.narrow_sums and length > context.narrow.integers and min(source.low, 0.0) * -10 < source.high:
        why = f"{node.op} adds {length} values of mostly one sign; an {context.narrow} accumulator stops growing"
        yield hazard(node, Kind.SWAMP, result, math.log2(length / context.narrow.integers), why, internal=True)
