"""Σ x² or mean x² with squares past FP16 and an answer (or its root) that fits → x is divided by 2^k before it is squared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model, scalar
from fp16fix.half import LARGEST, SMALLEST
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._interior import norm_interiors
from fp16fix.passes.rewrite.rules._match import Wiring, eager, is_op, node_named, producer, range_of, unmatched
from fp16fix.passes.rewrite.rules.attention import scale_read
from fp16fix.passes.rewrite.rules.sums import scale_back


@dataclass(frozen=True, slots=True)
class Match:
    """x², its sum or mean, and the root if there is one (``last``)."""

    square: gs.Node
    total: gs.Node
    last: gs.Node

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the pattern's nodes."""
        return tuple(sorted({self.square.name, self.total.name, self.last.name}))

    @property
    def degree(self) -> int:
        """Power of the scale that the answer carries."""
        return 1 if self.last is not self.total else 2


class MeanOfSquares:
    """Squaring doubles the exponent: values past 256 overflow, though the root of their mean square is as small as they are.

    Exact: 2^k goes in before the square and 2^2k (2^k after a root) comes out behind. Norms proper have their own rules.
    """

    name: ClassVar[str] = "mean-of-squares"
    order: ClassVar[int] = 180
    promise: ClassVar[Promise] = Promise.EXACT
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,64] x) => (float[4,1] y) <float k = {300}, float two = {2}>
        { s = Mul (x, k) q = Pow (s, two) m = ReduceMean <axes = [-1]> (q) y = Sqrt (m) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,64] x) => (float[4,1] y) <float k = {110}, int64[1] a = {1}>
        { s = Mul (x, k) q = Mul (s, s) y = ReduceMean <axes = [-1]> (q) }""",
        """<ir_version: 8, opset_import: ["" : 18]> g (float[4,64] x) => (float[4] y) <float k = {300}, int64[1] a = {1}>
        { s = Mul (x, k) q = Mul (s, s) m = ReduceSum <keepdims = 0> (q, a) y = Sqrt (m) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,64] x) => (float[4,1] y) <float two = {2}>
        { q = Pow (x, two) m = ReduceMean <axes = [-1]> (q) y = Sqrt (m) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,64] x) => (float[4,1] y) <float k = {3000}, float two = {2}>
        { s = Mul (x, k) q = Pow (s, two) y = ReduceMean <axes = [-1]> (q) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,64] x) => (float[4,1] y, float[4,64] q) <float k = {300}, float two = {2}>
        { s = Mul (x, k) q = Pow (s, two) m = ReduceMean <axes = [-1]> (q) y = Sqrt (m) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """A repair where the squares or their sum leave too little head-room."""
        view, norms = Wiring(evidence.model), norm_interiors(evidence.model)
        for node in evidence.model.nodes():
            found = match(view, node)
            if found is None or not norms.isdisjoint(found.nodes):
                continue
            tensors = (found.square.inputs[0], found.square.outputs[0], found.total.outputs[0], found.last.outputs[0])
            x, square, total, answer = (range_of(evidence, each) for each in tensors)
            if x is None or square is None or total is None or answer is None:
                continue
            if min(square.headroom, total.headroom) >= evidence.headroom:
                continue
            reach = max(square.absmax, total.absmax)
            shift = math.ceil((math.log2(reach / LARGEST) + evidence.headroom) / 2)
            if max(answer.absmax, x.absmax) > LARGEST:
                continue
            if total.low * 4.0**-shift < 2.0**4 * SMALLEST and total.low < total.high:
                yield Refusal(
                    node.name, self.name, f"mean squares from {total.low:.3g} to {total.high:.3g} do not fit FP16 under one power of two"
                )
            else:
                why = f"the squares reach {reach:.3g}; x is divided by 2^{shift} before and the factor is given back at the end"
                yield Edit(self.name, node.name, self.promise, covers=found.nodes, shift=shift, because=why)

    def apply(self, model: Model, repair: Edit) -> None:
        """Scale x, and the answer back under its old name."""
        found = match(Wiring(model), node_named(model, repair.node))
        if found is None:
            raise unmatched(model, self.name, repair.node)
        edit = editor_of(model)
        x = found.square.inputs[0]
        scale_read(edit, found.square, 0, 2.0**-repair.shift)
        if len(found.square.inputs) == 2 and found.square.inputs[1] is x:
            found.square.inputs[1] = found.square.inputs[0]
        scale_back(edit, found.last, 2.0 ** (repair.shift * found.degree))


def match(view: Wiring, node: gs.Node) -> Match | None:
    """A mean or sum of squares whose last node is ``node``: the root if only a root reads it, else the reduction."""
    if is_op(node, "Sqrt"):
        total = producer(node.inputs[0], "ReduceMean", "ReduceSum")
        if total is None or not view.feeds_only(total.outputs[0], node):
            return None
    elif is_op(node, "ReduceMean", "ReduceSum"):
        total = node
        reader = view.only_user(node.outputs[0])
        if reader is not None and is_op(reader, "Sqrt"):
            return None
    else:
        return None
    square = producer(total.inputs[0], "Pow", "Mul")
    if square is None or not view.feeds_only(square.outputs[0], total):
        return None
    by_itself = square.op == "Mul" and square.inputs[0] is square.inputs[1]
    return Match(square, total, node) if by_itself or (square.op == "Pow" and scalar(square.inputs[1]) == 2.0) else None
