"""(x·W + b)·c, read by a product that is past FP16 before the scale → x·(W·c) + b·c."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model, constant, element_type
from fp16fix.graph.operators import CARRIERS
from fp16fix.half import FP16, LARGEST
from fp16fix.hazards.context import constant_range
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, eager, is_op, node_named, producer, range_of, unmatched, with_scalar
from fp16fix.passes.rewrite.rules.attention import is_product

FINE = 2.0**-22
"""Share of a tensor's energy that rounding to FP16 costs at most where nothing is subnormal: about u²/3 with u = 2⁻¹¹."""


@dataclass(slots=True)
class Match:
    """A scalar factor, who reads what it makes, and where it can go instead."""

    factor: float
    product: gs.Node
    path: list[tuple[gs.Node, int]] = field(default_factory=list)
    """(node, input index) from the factor back to the weights."""
    weights: list[tuple[gs.Node, int]] = field(default_factory=list)
    """(node, input index) of the constants to be multiplied."""
    why_not: str = ""


class FoldScale:
    """A compiler moves a scalar in front of a product behind its sum (``strict.assumptions``), where it no longer keeps partial sums small.

    In the weights that make the operand it stays in front, and costs nothing.
    """

    name: ClassVar[str] = "fold-scale"
    order: ClassVar[int] = 165
    promise: ClassVar[Promise] = Promise.REORDERED
    numerics: ClassVar[str] = "accumulate"
    """The profile in which what it fires on is ill."""
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4,2] x, float[2,8,64] k) => (float[2,4,64] y) <float[2,8] w = {300, 300, 300,
            300, -300, 300, 300, 300, 300, -300, 300, 300, 300, 300, 300, 300}, float s = {100}, float c = {0.00390625}>
        { q = MatMul (x, w) t = Mul (q, c) h = Mul (k, s) y = MatMul (t, h) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,2] x, float[4,4] k) => (float[4,4] y) <float[2,4] w = {900, 900, 900, 900,
            -900, 900, 900, 900}, float[4] b = {300, 3, 3, 3}, float s = {100}, float c = {0.01126}, int64[2] r = {4, 4}>
        { q = MatMul (x, w) a = Add (b, q) z = Reshape (a, r) t = Mul (c, z) h = Mul (k, s) y = MatMul (t, h) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,2] x, float[4,4] k) => (float[4,4] y)
        <float[2,4] w = {1, 2, 3, 4, 5, 6, 7, 8}, float c = {0.125}>
        { q = MatMul (x, w) t = Mul (q, c) y = MatMul (t, k) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,2] x, float[4,4] k) => (float[4,4] y, float[4,4] q)
        <float[2,4] w = {900, 900, 900, 900, -900, 900, 900, 900}, float s = {100}, float c = {0.0078125}>
        { q = MatMul (x, w) t = Mul (q, c) h = Mul (k, s) y = MatMul (t, h) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,4] x, float[4,4] k) => (float[4,4] y)
        <float s = {1000}, float c = {0.0078125}> { q = Mul (x, s) t = Mul (q, c) h = Mul (k, s) y = MatMul (t, h) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """A repair where the product leaves less than the head-room asked for once the factor is taken out of it."""
        view, limit = Wiring(evidence.model), LARGEST * 2.0**-evidence.headroom
        for node in evidence.model.graph.nodes:
            found = match(view, node)
            seen = range_of(evidence, found.product.outputs[0]) if found is not None else None
            if found is None or seen is None or seen.absmax / found.factor <= limit:
                continue
            why = f"before the scale {found.factor:.4g} the product reaches {seen.absmax / found.factor:.3g}"
            if found.why_not:
                yield Refusal(node.name, self.name, f"{why}, but {found.why_not}")
            else:
                exact = math.frexp(found.factor)[0] == 0.5
                names = tuple(sorted({node.name, *(each.name for each, _ in found.path)}))
                because = f"{why}, and there a compiler applies it; in the weights it comes first"
                yield Edit(self.name, node.name, Promise.EXACT if exact else self.promise, covers=names, because=because)

    def apply(self, model: Model, repair: Edit) -> None:
        """Multiply the weights; every tensor that now holds scaled values is a new one, and the last is what the factor made."""
        node = node_named(model, repair.node, "Mul", "Div")
        found = match(Wiring(model), node)
        if found is None or found.why_not:
            raise unmatched(model, self.name, repair.node)
        edit = editor_of(model)
        for reader, index in found.weights:
            values = scaled(reader, index, found.factor)
            reader.inputs[index] = edit.constant(f"{reader.inputs[index].name}/scaled", values)
        out = node.outputs[0]
        node.outputs.clear()
        edit.remove(node)
        for each, index in found.path:
            each.outputs[0] = out
            if each is not found.path[-1][0]:
                unscaled = each.inputs[index]
                out = each.inputs[index] = edit.variable(f"{unscaled.name}/scaled", element_type(unscaled), unscaled.shape)


def scaled(reader: gs.Node, index: int, factor: float) -> np.ndarray:
    """A constant operand times a factor, rounded once."""
    values = constant(reader.inputs[index])
    assert values is not None
    return np.asarray(values * np.float64(factor), values.dtype)


def match(view: Wiring, node: gs.Node) -> Match | None:
    """A factor below 1 in front of a product of two activations; None if it is none."""
    shape = with_scalar(node) if is_op(node, "Mul", "Div") else None
    product = read_by(view, node.outputs[0]) if shape is not None else None
    if shape is None or product is None or shape[1] == 0.0 or not math.isfinite(shape[1]):
        return None
    found = Match(shape[1] if node.op == "Mul" else 1.0 / shape[1], product)
    if not 0.0 < found.factor < 1.0:
        return None
    climb(view, found, node, shape[0])
    if not found.why_not and not all(keeps_precision(reader, index, found.factor) for reader, index in found.weights):
        found.why_not = "weights would be subnormal"
    return found


def read_by(view: Wiring, tensor: gs.Tensor) -> gs.Node | None:
    """The one product that reads a tensor, past whatever only moves it."""
    reader = view.only_user(tensor)
    while reader is not None and is_op(reader, *CARRIERS) and reader.inputs[0] is tensor:
        tensor = reader.outputs[0]
        reader = view.only_user(tensor)
    return reader if is_product(reader) else None


def climb(view: Wiring, found: Match, reader: gs.Node, tensor: gs.Tensor) -> None:
    """Go back through movement and bias to the product with weights; says why where it cannot."""
    while True:
        node = producer(tensor)
        if node is None or not view.feeds_only(tensor, reader):
            found.why_not = f"{tensor.name!r} is {'not made by weights' if node is None else 'used unscaled elsewhere'}"
            return
        fixed = [] if is_op(node, *CARRIERS) else [index for index, each in enumerate(node.inputs) if constant(each) is not None]
        onward = [0] if is_op(node, *CARRIERS) else [index for index, each in enumerate(node.inputs) if each.name and index not in fixed]
        weighs = is_op(node, "MatMul", "Gemm", "Conv") and fixed
        if len(onward) != 1 or onward[0] > 1 or not (weighs or is_op(node, "Add", "Sub", *CARRIERS)):
            found.why_not = f"{tensor.name!r} is not made by weights"
            return
        found.path.append((node, onward[0]))
        found.weights += [(node, index) for index in fixed]
        if weighs:
            return
        reader, tensor = node, node.inputs[onward[0]]


def keeps_precision(reader: gs.Node, index: int, factor: float) -> bool:
    """Whether scaled weights lose no more to FP16's subnormals than they lost before."""
    return lost(scaled(reader, index, factor)) <= max(FINE, 2.0 * lost(scaled(reader, index, 1.0)))


def lost(values: np.ndarray) -> float:
    """Share of the energy that rounding to FP16 costs; inf where it overflows."""
    seen = constant_range("", values, FP16)
    return seen.noise / seen.energy if seen.energy else 0.0
