"""A scalar factor FP16 cannot hold, between tensors it can → two factors, one of them a power of two; big and tiny weights are refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model, constant, element_type, is_float, magnitude
from fp16fix.graph.operators import PRODUCTS
from fp16fix.half import FP16, LARGEST, SMALLEST_NORMAL
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import eager, is_op, node_named, range_of, unmatched, with_scalar
from fp16fix.ranges.range import Range


class SplitLiteral:
    """x · 1e6 with x near 1e-3 is fine, but 1e6 is not an FP16 number; x · 2¹⁰ · 976.5625 is the same product, bit for bit.

    Tiny factors alike: −1e-8 becomes −0 in FP16, and 2⁻¹³ · −8.2e-5 keeps value and sign.
    """

    name: ClassVar[str] = "split-literal"
    order: ClassVar[int] = 210
    guards: ClassVar[bool] = True
    """A literal guards inputs that no sample may show: a fully masked row, a zero."""
    promise: ClassVar[Promise] = Promise.EXACT
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {1e-3}, float c = {1e6}>
        { s = Mul (x, k) y = Mul (s, c) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {9000}, float c = {-1e-8}>
        { s = Mul (x, k) y = Mul (c, s) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {9000}, float[1] c = {3e5}>
        { s = Mul (x, k) y = Div (s, c) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float c = {1e6}>
        { y = Mul (x, c) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float c = {1e3}>
        { y = Mul (x, c) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,2] x) => (float[4,2] y) <float[2,2] w = {1e5, 2, 3, 4}>
        { y = MatMul (x, w) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """Split scalar factors; refuse weights, which exponents fold between neighbours."""
        for node in evidence.model.nodes():
            shape = with_scalar(node) if is_op(node, "Mul", "Div") else None
            if shape is None:
                yield from self.weights(node)
                continue
            x, value = range_of(evidence, shape[0]), shape[1]
            out = range_of(evidence, node.outputs[0])
            if x is None or out is None or not lost(value):
                continue
            why = "" if math.isfinite(value) else "it is infinite"
            why = why or unfit(shape[0], x) or unfit(node.outputs[0], out)
            shift = round(math.log2(abs(value)) / 2) if not why else 0
            if not why and lost(value * 2.0**-shift):
                why = "two FP16 numbers do not multiply to it"
            if why:
                yield Refusal(node.name, self.name, f"the factor {value:.4g} is outside FP16 but {why}; left to exponents or an island")
                continue
            text = f"FP16 holds {value:.4g} as {as_half(value):.4g}; split into 2^{shift} and {value * 2.0**-shift:.4g}, which it holds"
            yield Edit(self.name, node.name, self.promise, covers=(node.name,), shift=shift, because=text)

    def weights(self, node: gs.Node) -> Iterator[Refusal]:
        """Arrays past FP16 in products."""
        for tensor in node.inputs if is_op(node, *PRODUCTS) else ():
            values = constant(tensor)
            reach = magnitude(values) if values is not None and is_float(tensor) and values.size > 1 else 0.0
            if reach >= FP16.overflow:
                why = f"the weight {tensor.name!r} reaches {reach:.4g}; exponents fold it against its neighbours"
                yield Refusal(node.name, self.name, why)

    def apply(self, model: Model, repair: Edit) -> None:
        """A power of two first, then what is left of the factor."""
        node = node_named(model, repair.node, "Mul", "Div")
        shape = with_scalar(node)
        if shape is None:
            raise unmatched(model, self.name, repair.node)
        edit = editor_of(model)
        x = shape[0]
        port = next(index for index, tensor in enumerate(node.inputs) if tensor is x)
        old = constant(node.inputs[1 - port])
        assert old is not None
        scale = 2.0**repair.shift if node.op == "Mul" else 2.0**-repair.shift
        out = edit.variable(f"{node.name}/scaled", element_type(x), x.shape)
        edit.before(node, "Mul", f"{node.name}/power", [x, edit.constant(f"{node.name}/power_of_two", np.asarray(scale, old.dtype))], [out])
        node.inputs[port] = out
        node.inputs[1 - port] = edit.constant(f"{node.name}/rest", np.asarray(old * 2.0**-repair.shift, old.dtype))


def as_half(value: float) -> float:
    """The FP16 number nearest to ``value``."""
    with np.errstate(over="ignore"):
        return float(np.float16(value))


def lost(value: float) -> bool:
    """Whether FP16 holds ``value`` to fewer than 8 bits."""
    return value != 0.0 and not abs(as_half(value) - value) <= 2.0**-8 * abs(value)


def unfit(tensor: gs.Tensor, seen: Range) -> str:
    """Why FP16 does not hold a tensor, or nothing."""
    if seen.absmax > LARGEST:
        return f"{tensor.name!r} reaches {seen.absmax:.3g}"
    return f"{tensor.name!r} stays under {seen.absmax:.3g}" if seen.absmax < SMALLEST_NORMAL else ""
