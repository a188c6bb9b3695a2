"""Overflow: a value, or a sum inside an operator, past the largest value. Named where it is born, not where it is carried."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fp16fix.graph.model import Node
from fp16fix.graph.operators import AVERAGES, MOVEMENT, operator
from fp16fix.graph.ops import float_inputs, float_outputs
from fp16fix.graph.quantised import only_quantised
from fp16fix.hazards.context import Context, hazard
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.ranges.range import Range


def find(context: Context) -> Iterator[Hazard]:
    """One hazard for every node that makes a tensor too large for the narrow type, one for sums that only their insides see."""
    yield from inputs_too_large(context)
    for node in context.nodes():
        if node.op in MOVEMENT:
            continue
        own = list(values(context, node))
        yield from own or inside(context, node)


def inputs_too_large(context: Context) -> Iterator[Hazard]:
    """A graph input that does not fit is an overflow of the cast that TensorRT would put behind it."""
    narrow = context.narrow
    for tensor in context.model.graph.inputs:
        seen = context.range_of(tensor)
        if seen is not None and seen.absmax >= context.narrow.overflow and tensor.outputs and not only_quantised(tensor):
            node = tensor.outputs[0]
            bits, ends = math.log2(seen.absmax / narrow.largest), f"{narrow} ends at {narrow.largest:.6g}"
            why = f"the input {tensor.name!r} reaches {seen.absmax:.4g} before any arithmetic; {ends}"
            yield hazard(node, Kind.OVERFLOW, seen, bits, why)


def values(context: Context, node: Node) -> Iterator[Hazard]:
    """Outputs past the limit."""
    for tensor in float_outputs(node):
        seen = context.range_of(tensor)
        if seen is None:
            continue
        if seen.absmax >= context.narrow.overflow:
            limit = context.narrow.largest
            bits = math.log2(seen.absmax / limit)
            why = f"{described(node, context)} reaches {seen.absmax:.4g}, {bits:.1f} octaves past {limit:.6g}"
            yield hazard(node, Kind.OVERFLOW, seen, bits, why)


def described(node: Node, context: Context) -> str:
    """What the value is, in a reader's words."""
    if is_square(node) and feeds_norm(node):
        inner = context.range_of(node.inputs[0])
        of = f" of values to {inner.absmax:.4g}" if inner is not None else ""
        return f"the square{of} inside a norm written out"
    return f"the output of {node.op}"


def is_square(node: Node) -> bool:
    """``Pow(x, 2)`` or ``Mul(x, x)``."""
    return node.op == "Pow" or (node.op == "Mul" and len(node.inputs) == 2 and node.inputs[0] is node.inputs[1])


def feeds_norm(node: Node) -> bool:
    """A square whose mean or sum goes on to a square root within four nodes."""
    frontier, depth = list(node.outputs), 0
    reduced = False
    while frontier and depth < 5:
        consumers = [consumer for tensor in frontier for consumer in tensor.outputs]
        reduced = reduced or any(consumer.op.startswith("Reduce") for consumer in consumers)
        if reduced and any(consumer.op in {"Sqrt", "Pow"} for consumer in consumers):
            return True
        frontier = [tensor for consumer in consumers for tensor in consumer.outputs]
        depth += 1
    return False


def inside(context: Context, node: Node) -> Iterator[Hazard]:
    """Sums that overflow although the result fits: fatal where an engine accumulates in FP16, harmless where it does not."""
    power = operator(node.op).power
    if not power:
        return
    source = context.range_of(float_inputs(node)[0]) if float_inputs(node) else None
    outputs = float_outputs(node)
    result = context.range_of(outputs[0]) if outputs else None
    if source is None or result is None:
        return
    length = axis_length(source, result)
    total = length * (source.energy if power == 2 else max(abs(result.low), abs(result.high)) if node.op in AVERAGES else 0.0)
    if total >= context.narrow.overflow:
        bits = math.log2(total / context.narrow.largest)
        yield hazard(
            node,
            Kind.OVERFLOW,
            result,
            bits,
            f"{node.op} adds {length} values to about {total:.4g} before it finishes; only an FP32 accumulator holds that",
            internal=True,
        )


def axis_length(source: Range, result: Range) -> int:
    """How many values are added for one result."""
    return max(1, math.prod(source.shape) // max(1, math.prod(result.shape)))
