"""Loops and scans whose state is added to in every round: running sums, which grow with the number of rounds as a CumSum does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from fp16fix.graph.loops import states
from fp16fix.graph.model import Constant, Model, Node, Tensor, bodies
from fp16fix.graph.operators import ADDITIONS, MOVEMENT
from fp16fix.graph.walk import makers, readers, walk

KEEPS = MOVEMENT | {"Where"}
"""What a state may pass on its way round besides additions: a product with a decay bounds the sum, and then it is no running sum."""


def running_sums(model: Model) -> Iterator[tuple[Node, Node]]:
    """(control node, addition to its own state), where how often it runs follows from an input."""
    for node in model.nodes():
        for state, carried in states(node) if bodies(node) and is_open_ended(node) else ():
            yield from ((node, each) for each in additions(carried, state))


def is_open_ended(node: Node) -> bool:
    """Whether the number of rounds is not written in the model: a Loop over layers is as long for every input."""
    if node.op == "Loop":
        return not isinstance(node.inputs[0], Constant)
    scanned = int(node.attrs.get("num_scan_inputs", 0))
    lengths = [tensor.shape[0] if tensor.shape else None for tensor in node.inputs[len(node.inputs) - scanned :]]
    return not any(isinstance(length, (int, np.integer)) for length in lengths)


def additions(carried: Tensor, state: Tensor) -> list[Node]:
    """Additions on the ways from a state as it comes in to the state as it goes out, if nothing but movement stands beside them."""
    back = {id(node) for node in walk(keeping(carried.inputs), lambda node: keeping(makers(node)))}
    onward = walk(keeping(state.outputs), lambda node: keeping(readers(node)))
    return [node for node in onward if id(node) in back and node.op in ADDITIONS]


def keeping(nodes: Iterable[Node]) -> list[Node]:
    """Those behind which a sum is still one."""
    return [node for node in nodes if node.op in ADDITIONS | KEEPS]
