"""What a Loop or Scan takes from round to round, and what decides when a Loop ends."""

from __future__ import annotations

from collections.abc import Iterator

from fp16fix.graph.model import Node, Tensor
from fp16fix.graph.ops import float_inputs, float_outputs
from fp16fix.graph.walk import makers, walk

SIZES = frozenset({"Shape", "Size"})
"""Operators that read floats and see no value of them."""


def states(node: Node) -> Iterator[tuple[Tensor, Tensor]]:
    """What a round takes over and hands on; nothing for an If."""
    body = node.attrs.get("body")
    if body is None:
        return
    scanned = int(node.attrs.get("num_scan_inputs", 0))
    first = 2 if node.op == "Loop" else 0
    taken = body.inputs[first : len(body.inputs) - scanned]
    yield from zip(taken, body.outputs[max(0, first - 1) :], strict=False)


def deciders(loop: Node) -> list[Node]:
    """Nodes that decide by floats when a Loop ends, the nearest to its condition first; by its trip count too."""
    handed = {id(taken): carried for taken, carried in states(loop)}

    def before(node: Node) -> list[Node]:
        carried = (handed[id(tensor)] for tensor in node.inputs if id(tensor) in handed)
        return [*makers(node), *(maker for tensor in carried for maker in tensor.inputs)]

    ends = (*loop.attrs["body"].outputs[:1], *loop.inputs[:1])
    found = walk([maker for tensor in ends for maker in tensor.inputs], before)
    return [node for node in found if float_inputs(node) and not float_outputs(node) and node.op not in SIZES]
