"""Vanish: values that matter become zero or lose their bits below the smallest normal number."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fp16fix.graph.model import Constant, Node, Tensor, scalar
from fp16fix.graph.operators import GUARDS, MOVEMENT, operator
from fp16fix.graph.ops import float_outputs
from fp16fix.hazards.context import Context, hazard
from fp16fix.hazards.hazard import Hazard, Kind

STORAGE_DB = 50.0
"""A tensor whose own rounding noise is above this is losing what it holds; healthy FP16 storage is 70 dB and more
(11 significand bits, uniform rounding noise: 6.02·11 + 10.8 dB at the top of an octave), of BF16 18 dB less, and so is this."""


def find(context: Context) -> Iterator[Hazard]:
    """An eps that the narrow type cannot hold, a tensor whose bulk is subnormal, a denominator or logarithm that reaches zero."""
    for node in context.nodes():
        yield from eps(context, node)
        if node.op not in MOVEMENT:
            yield from bulk(context, node)
        yield from zero(context, node)


def eps(context: Context, node: Node) -> Iterator[Hazard]:
    """A tiny literal added or compared, on its way to a division, root or logarithm."""
    narrow = context.narrow
    if node.op not in GUARDS or not leads_to_blow_up(node):
        return
    for tensor in node.inputs:
        value = scalar(tensor)
        if value is None or value == 0.0 or abs(value) >= narrow.smallest_normal:
            continue
        seen = context.range_of(tensor)
        if seen is None:
            continue
        if abs(value) <= narrow.smallest / 2:
            yield hazard(
                node,
                Kind.VANISH,
                seen,
                math.log2(narrow.smallest / abs(value)),
                f"eps {value:.3g} is zero in {narrow} and guards a division, root or logarithm",
            )
        elif seen.storage_db < STORAGE_DB - narrow.coarseness_db and not is_nothing_beside(context, node, tensor, value):
            yield hazard(
                node,
                Kind.VANISH,
                seen,
                math.log2(narrow.smallest_normal / abs(value)),
                f"eps {value:.3g} is subnormal in {narrow} and rounds with {seen.storage_db:.0f} dB",
            )


UNFELT = 2.0**-10
"""A rounding error of an eps that is this small beside what the eps is added to is below FP16's own; for BF16's it may
be eight times as large."""


def is_nothing_beside(context: Context, node: Node, literal: Tensor, value: float) -> bool:
    """Whether rounding a subnormal eps moves the sum by less than storing it does anyway."""
    others = [seen for tensor in node.inputs if tensor is not literal and (seen := context.range_of(tensor)) is not None]
    least = context.narrow.smallest / 2 / (UNFELT * context.narrow.coarseness)
    return node.op == "Add" and bool(others) and all(max(seen.low, 0.0) + value > least for seen in others)


def leads_to_blow_up(node: Node) -> bool:
    """Whether small values of the result are blown up (by a root, a division, a logarithm) within three nodes."""
    frontier = list(node.outputs)
    for _ in range(3):
        consumers = [(tensor, consumer) for tensor in frontier for consumer in tensor.outputs]
        if any(matters(tensor, consumer) for tensor, consumer in consumers):
            return True
        frontier = [tensor for _, consumer in consumers for tensor in consumer.outputs]
    return False


def matters(tensor: Tensor, reader: Node) -> bool:
    """Whether a node blows up small values of one of its operands."""
    port = operator(reader.op).small
    return port is not None and port < len(reader.inputs) and reader.inputs[port] is tensor


def bulk(context: Context, node: Node) -> Iterator[Hazard]:
    """An output most of whose energy sits where the narrow type has few bits."""
    narrow = context.narrow
    enough = STORAGE_DB - narrow.coarseness_db
    for tensor in float_outputs(node):
        seen = context.range_of(tensor)
        if seen is None or seen.energy == 0.0 or seen.absmax >= narrow.overflow or seen.storage_db >= enough:
            continue
        bits = math.log2(narrow.smallest_normal / seen.rms) if seen.rms < narrow.smallest_normal else 0.0
        yield hazard(
            node,
            Kind.VANISH,
            seen,
            bits,
            f"the output of {node.op} has an RMS of {seen.rms:.3g}: stored in {narrow} it keeps {seen.storage_db:.0f} dB",
        )


def zero(context: Context, node: Node) -> Iterator[Hazard]:
    """A nonzero denominator or logarithm's argument that the narrow type flushes to zero."""
    narrow = context.narrow
    facts = operator(node.op)
    if not facts.pole or facts.small is None or isinstance(node.inputs[facts.small], Constant):
        return
    seen = context.range_of(node.inputs[facts.small])
    if seen is not None and 0.0 < seen.smallest <= narrow.smallest / 2:
        why = f"{node.op} takes values down to {seen.smallest:.3g}, which are zero in {narrow}"
        yield hazard(node, Kind.VANISH, seen, math.log2(narrow.smallest / seen.smallest), why)
