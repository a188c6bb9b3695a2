"""(Q·Kᵀ)·c, the product past FP16 and the scaled scores not → (Q·c)·Kᵀ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor, editor_of
from fp16fix.graph.model import Model, constant, element_type
from fp16fix.graph.operators import CARRIERS
from fp16fix.half import LARGEST
from fp16fix.hazards.hazard import Kind
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, absmax, eager, is_op, node_named, producer, range_of, sweep, unmatched, with_scalar

DEPTH = 8


@dataclass(slots=True)
class Match:
    """Where the factor goes: ``reads`` are (node, input index) to be multiplied by it."""

    factor: float
    products: list[gs.Node] = field(default_factory=list)
    reads: list[tuple[gs.Node, int]] = field(default_factory=list)
    between: list[gs.Node] = field(default_factory=list)
    why_not: str = ""


class AttentionScale:
    """The documentation of TensorRT and of ONNX's Attention put the scale on Q and K before the product; exporters put it behind.

    Exact for a power of two (head sizes 16, 64, 256): (2^k·Q)·Kᵀ = 2^k·(Q·Kᵀ) in every rounding.
    """

    name: ClassVar[str] = "attention-scale"
    order: ClassVar[int] = 160
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4,64] x) => (float[2,4,4] y) <float k = {100}, float c = {0.0078125}>
        { q = Mul (x, k) t = Transpose <perm = [0, 2, 1]> (q) p = MatMul (q, t) y = Mul (p, c) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4,80] x) => (float[2,4,4] y) <float k = {60}, float c = {8.94427191},
            float[4] b = {1, 2, 3, 4}>
        { q = Mul (x, k) t = Transpose <perm = [0, 2, 1]> (q) p = MatMul (q, t) z = Identity (p) a = Add (z, b) y = Div (a, c) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,3,4,16] x, float[2,1,1,4] m) => (float[6,4,4] y) <float k = {200},
            float c = {0.03125}, int64[3] s = {6, 4, 4}>
        { q = Mul (x, k) p = Einsum <equation = "bhqd,bhkd->bhqk"> (q, q) a = Add (m, p) r = Reshape (a, s) y = Mul (c, r) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4,64] x) => (float[2,4,4] y) <float c = {0.125}>
        { t = Transpose <perm = [0, 2, 1]> (x) p = MatMul (x, t) y = Mul (p, c) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4,64] x) => (float[2,4,4] y, float[2,4,4] p) <float k = {100}, float c
            = {0.0078125}>
        { q = Mul (x, k) t = Transpose <perm = [0, 2, 1]> (q) p = MatMul (q, t) y = Mul (p, c) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4,64] x) => (float[2,4,4] y) <float k = {1000}, float c = {0.125}>
        { q = Mul (x, k) t = Transpose <perm = [0, 2, 1]> (q) p = MatMul (q, t) y = Mul (p, c) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """A repair where a product leaves less than the head-room asked for, and the scaled scores fit."""
        view = Wiring(evidence.model)
        for node in evidence.model.nodes():
            found = match(view, node)
            if found is None:
                continue
            seen = [each for product in found.products if (each := range_of(evidence, product.outputs[0])) is not None]
            worst = max(seen, key=lambda each: each.absmax, default=None)
            hazards = [h for h in evidence.hazards_at(p.name for p in found.products) if h.kind is Kind.OVERFLOW]
            if worst is None or (worst.headroom >= evidence.headroom and not hazards):
                continue
            reach = worst.absmax * found.factor
            if found.why_not:
                yield Refusal(node.name, self.name, f"the product reaches {worst.absmax:.3g} but {found.why_not}")
            elif reach > LARGEST:
                yield Refusal(node.name, self.name, f"the scores reach {reach:.3g} after the scale too; only exponents or an island help")
            elif not all(self.fits(evidence, found.factor, read) for read in found.reads):
                yield Refusal(node.name, self.name, f"an operand times {found.factor:.3g} does not fit FP16")
            else:
                exact = math.frexp(found.factor)[0] == 0.5
                names = tuple(sorted({node.name, *(each.name for each in (*found.products, *found.between))}))
                why = f"the product reaches {worst.absmax:.3g} before the scale {found.factor:.4g}; scaling Q first keeps it to {reach:.3g}"
                yield Edit(self.name, node.name, Promise.EXACT if exact else self.promise, covers=names, because=why)

    def fits(self, evidence: Findings, factor: float, read: tuple[gs.Node, int]) -> bool:
        """Whether the operand, scaled, stays inside FP16; an operand that did not fit before (a mask) is left to its own rule."""
        size = absmax(evidence, read[0].inputs[read[1]])
        return size is not None and (size > LARGEST or size * factor <= LARGEST)

    def apply(self, model: Model, repair: Edit) -> None:
        """Multiply the operands; the node before the scale takes over its output."""
        node = node_named(model, repair.node, "Mul", "Div")
        found = match(Wiring(model), node)
        if found is None or found.why_not:
            raise unmatched(model, self.name, repair.node)
        edit = editor_of(model)
        shape = with_scalar(node)
        assert shape is not None
        last, scaled, out = producer(shape[0]), shape[0], node.outputs[0]
        assert last is not None
        for reader, index in found.reads:
            scale_read(edit, reader, index, found.factor)
        feeding = list(node.inputs)
        node.outputs.clear()
        edit.remove(node)
        last.outputs[next(i for i, tensor in enumerate(last.outputs) if tensor is scaled)] = out
        sweep(edit, feeding)


def scale_read(edit: Editor, reader: gs.Node, index: int, factor: float) -> None:
    """Input ``index`` of ``reader`` times ``factor``: a new initializer for a constant, else a Mul before the reader."""
    tensor = reader.inputs[index]
    values = constant(tensor)
    if values is not None:
        reader.inputs[index] = edit.constant(f"{tensor.name}/scaled", np.asarray(values * np.float64(factor), values.dtype))
        return
    literal = edit.constant(f"{reader.name}/scale", np.asarray(factor, np.float32))
    out = edit.variable(f"{tensor.name}/scaled", element_type(tensor), tensor.shape)
    edit.before(reader, "Mul", f"{reader.name}/scale_input", [tensor, literal], [out])
    reader.inputs[index] = out


def match(view: Wiring, node: gs.Node) -> Match | None:
    """The products behind a scalar Mul or Div, or None if there is none."""
    shape = with_scalar(node) if is_op(node, "Mul", "Div") else None
    if shape is None or shape[1] == 0.0 or not math.isfinite(shape[1]):
        return None
    factor = shape[1] if node.op == "Mul" else 1.0 / shape[1]
    found = Match(factor)
    if factor <= 0 or not push(view, found, node, next(i for i, t in enumerate(node.inputs) if t is shape[0]), DEPTH):
        return None
    return found


def push(view: Wiring, found: Match, reader: gs.Node, index: int, depth: int) -> bool:
    """Carry the factor from ``reader``'s input ``index`` upwards; True if a product lies there."""
    tensor = reader.inputs[index]
    node = producer(tensor)
    if is_product(node) and node is not None:
        found.products.append(node)
        found.reads.append((node, 0))
    elif node is not None and depth > 0 and (is_op(node, *CARRIERS) or is_op(node, "Add", "Sub")):
        mark = len(found.reads), len(found.products), len(found.between), found.why_not
        ports = (0, 1) if is_op(node, "Add", "Sub") else (0,)
        reached = [push(view, found, node, port, depth - 1) for port in ports]
        if not any(reached):
            del found.reads[mark[0] :], found.products[mark[1] :], found.between[mark[2] :]
            found.why_not = mark[3]
            found.reads.append((reader, index))
            return False
        found.between.append(node)
    else:
        found.reads.append((reader, index))
        return False
    if not view.feeds_only(tensor, reader):
        found.why_not = f"{tensor.name!r} is used unscaled elsewhere"
    return True


def is_product(node: gs.Node | None) -> bool:
    """A matrix product of two activations; a constant operand is the exponents' business."""
    return (
        node is not None
        and is_op(node, "MatMul", "Einsum")
        and len(node.inputs) == 2
        and not any(isinstance(t, gs.Constant) for t in node.inputs)
    )
