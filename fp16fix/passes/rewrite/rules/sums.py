"""Σ past FP16 whose quotient fits (long sums, masked means, pooled means) → the terms are divided by 2^k before they are summed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor, editor_of
from fp16fix.graph.model import Model, constant, numpy_type, scalar
from fp16fix.graph.operators import AVERAGES, CARRIERS
from fp16fix.half import FP32, LARGEST, SMALLEST_NORMAL
from fp16fix.hazards.hazard import Kind
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, axes_of, eager, is_op, node_named, producer, range_of, unmatched
from fp16fix.passes.rewrite.rules.attention import scale_read
from fp16fix.ranges.range import Range

DEPTH = 4
"""Movement between a sum and its division."""


@dataclass(frozen=True, slots=True)
class Match:
    """A sum or mean, and the division (``last``) after which the answer is small; ``last`` is the mean itself for means."""

    total: gs.Node
    last: gs.Node
    literal: int | None
    """Input of ``last`` that is a constant to fold 2^k into."""
    nodes: tuple[str, ...]


class PreDivide:
    """Powers of two move through sums unchanged: exact save for terms pushed into subnormals, which is checked."""

    name: ClassVar[str] = "pre-divide"
    order: ClassVar[int] = 170
    promise: ClassVar[Promise] = Promise.EXACT
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4096] x) => (float[2,1] y) <float k = {60}, int64[1] a = {-1}, float n
            = {4096}>
        { s = Mul (x, k) p = Abs (s) t = ReduceSum (p, a) y = Div (t, n) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4096] x) => (float[2] y) <float k = {60}, int64[1] a = {1}, float n =
            {0.000244140625}>
        { s = Mul (x, k) p = Abs (s) t = ReduceSum (p, a) u = Squeeze (t, a) y = Mul (n, u) }""",
        """<ir_version: 7, opset_import: ["" : 12]> g (float[2,512,8] x, float[2,512,1] m) => (float[2,8] y) <float k = {500}>
        { s = Mul (x, k) p = Abs (s) w = Abs (m) z = Mul (p, w) t = ReduceSum <axes = [1], keepdims = 0> (z) n = ReduceSum <axes =
            [1], keepdims = 0> (w) y = Div (t, n) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,64] x) => (float[2,1] y) <int64[1] a = {-1}, float n = {64}>
        { t = ReduceSum (x, a) y = Div (t, n) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4096] x) => (float[2,1] y) <float k = {6000}, int64[1] a = {-1}, float
            n = {16}>
        { s = Mul (x, k) p = Abs (s) t = ReduceSum (p, a) y = Div (t, n) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4096] x) => (float[2,1] y, float[2,1] t) <float k = {60}, int64[1] a =
            {-1}, float n = {4096}>
        { s = Mul (x, k) p = Abs (s) t = ReduceSum (p, a) y = Div (t, n) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """Sums whose value leaves too little head-room; means only where a hazard was found inside them."""
        view = Wiring(evidence.model)
        for node in evidence.model.nodes():
            found = match(view, node)
            total = None if found is None else range_of(evidence, found.total.outputs[0])
            answer = None if found is None else range_of(evidence, found.last.outputs[0])
            terms = None if found is None else range_of(evidence, found.total.inputs[0])
            if found is None or total is None or answer is None or terms is None:
                continue
            inside = found.total is found.last
            reach = terms.absmax * terms_in(found.total, terms.shape) if inside else total.absmax
            hazards = [hazard for hazard in evidence.hazards_at({found.total.name}) if hazard.kind is Kind.OVERFLOW]
            # Only of a division would anyone expect that it brings the sum back into range.
            if found.last.op != "Div" and max(answer.absmax, terms.absmax) > LARGEST:
                continue
            if hazards or (not inside and total.headroom < evidence.headroom):
                yield self.judged(evidence, found, reach, answer, terms)

    def judged(self, evidence: Findings, found: Match, reach: float, answer: Range, terms: Range) -> Edit | Refusal:
        """The repair, or why the answer or the terms forbid it."""
        if answer.absmax > LARGEST:
            return Refusal(found.last.name, self.name, f"the answer itself reaches {answer.absmax:.3g}; only exponents or an island help")
        if terms.absmax > LARGEST:
            return Refusal(found.last.name, self.name, f"the terms themselves reach {terms.absmax:.3g}; only exponents or an island help")
        shift = math.ceil(math.log2(reach / LARGEST) + evidence.headroom)
        if terms.rms * 2.0**-shift < 2.0**4 * SMALLEST_NORMAL:
            return Refusal(found.last.name, self.name, f"terms of size {terms.rms:.3g} divided by 2^{shift} would lose bits as subnormals")
        what = "the sum inside can reach" if found.total is found.last else "the sum reaches"
        why = f"{what} {reach:.3g}; its terms are divided by 2^{shift} first and the factor is given back after the division"
        return Edit(self.name, found.last.name, self.promise, covers=found.nodes, shift=shift, because=why)

    def apply(self, model: Model, repair: Edit) -> None:
        """Scale the terms by 2^−shift, then fold 2^shift into the divisor or multiply it back."""
        node = node_named(model, repair.node)
        found = match(Wiring(model), node)
        if found is None:
            raise unmatched(model, self.name, repair.node)
        edit = editor_of(model)
        scale_terms(edit, Wiring(model), found.total, 2.0**-repair.shift)
        if found.literal is not None:
            factor = 2.0**-repair.shift if found.last.op == "Div" else 2.0**repair.shift
            changed = constant(found.last.inputs[found.literal])
            assert changed is not None
            if fits(changed * factor):
                scale_read(edit, found.last, found.literal, factor)
                return
        scale_back(edit, found.last, 2.0**repair.shift)


def fits(values: np.ndarray) -> bool:
    """Whether FP16 holds constants as normal numbers."""
    sizes = np.abs(values[values != 0])
    return bool(sizes.size == 0 or (sizes.max() <= LARGEST and sizes.min() >= SMALLEST_NORMAL))


def scale_terms(edit: Editor, view: Wiring, total: gs.Node, factor: float) -> None:
    """Multiply what ``total`` sums; where that is a product nothing else reads, its smaller operand."""
    product = producer(total.inputs[0], "Mul")
    if product is not None and view.feeds_only(product.outputs[0], total) and product.inputs[0] is not product.inputs[1]:
        sizes = [elements(tensor) for tensor in product.inputs]
        if None not in sizes:
            scale_read(edit, product, int(np.argmin([size or 0 for size in sizes])), factor)
            return
    scale_read(edit, total, 0, factor)


def elements(tensor: gs.Tensor) -> int | None:
    """Static number of elements, a dynamic dimension counting as 1; None without a shape."""
    if tensor.shape is None:
        return None
    return math.prod(int(d) for d in tensor.shape if isinstance(d, (int, np.integer)))


def scale_back(edit: Editor, last: gs.Node, factor: float) -> None:
    """``last``'s output, under its old name, is multiplied by ``factor``."""
    out = last.outputs[0]
    raw = edit.variable(f"{out.name}/divided", FP32.onnx, out.shape)
    last.outputs[0] = raw
    literal = edit.constant(f"{last.name}/scale", np.asarray(factor, numpy_type(FP32.onnx)))
    edit.after(last, "Mul", f"{last.name}/scale_back", [raw, literal], [out])


def match(view: Wiring, node: gs.Node) -> Match | None:
    """A mean, or a division of a sum that nothing else reads."""
    if is_op(node, *AVERAGES):
        return Match(node, node, None, (node.name,))
    if not is_op(node, "Div", "Mul") or len(node.inputs) != 2:
        return None
    ports = (0,) if node.op == "Div" else (0, 1)
    for port in ports:
        literal = scalar(node.inputs[1 - port])
        if node.op == "Mul" and (literal is None or not 0.0 < abs(literal) < 1.0):
            continue
        path = sum_behind(view, node, node.inputs[port])
        if path:
            names = tuple(sorted({node.name, *(each.name for each in path)}))
            return Match(path[-1], node, 1 - port if literal is not None else None, names)
    return None


def sum_behind(view: Wiring, reader: gs.Node, tensor: gs.Tensor) -> list[gs.Node]:
    """Nodes from ``tensor`` back to a ReduceSum, through movement that nothing else reads; empty if there is none."""
    path: list[gs.Node] = []
    for _ in range(DEPTH):
        node = producer(tensor, "ReduceSum", *CARRIERS)
        if node is None or not view.feeds_only(tensor, reader):
            return []
        path.append(node)
        if node.op == "ReduceSum":
            return path
        reader, tensor = node, node.inputs[0]
    return []


def terms_in(node: gs.Node, shape: tuple[int, ...]) -> int:
    """How many values one mean takes in, by the largest shape seen."""
    if node.op == "GlobalAveragePool":
        return math.prod(shape[2:])
    if node.op == "AveragePool":
        return math.prod(int(size) for size in node.attrs["kernel_shape"])
    axes = axes_of(node)
    return math.prod(shape[axis] for axis in axes) if axes else math.prod(shape)
