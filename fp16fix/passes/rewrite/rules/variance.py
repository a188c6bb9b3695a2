"""E[x²] − E[x]² → E[(x − E[x])²]: the same number without the difference of near-equal large ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.found import Found, leaking
from fp16fix.passes.rewrite.pattern import As, Op, Reduce, Square, find
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, eager, is_op, node_named, range_of, unmatched
from fp16fix.passes.rewrite.rules._norm import X

CORE = Op(
    "Sub",
    As("moment", Reduce("ReduceMean", Square(X), kept="kept")),
    Square(As("mean", Reduce("ReduceMean", X, kept="kept"))),
)
LOST = 4.0
"""E[x²] over the variance from which two of FP16's 11 bits cancel."""
HOPELESS = 64.0
"""E[x²] over the variance past which storing x in FP16 alone costs three bits of it, and FP32 itself loses more than 1e-5."""


class MomentVariance:
    """Subtracting moments loses log₂(E[x²] / σ²) bits of the 11 that FP16 has; the centred form loses none, and its squares are smaller."""

    name: ClassVar[str] = "variance"
    order: ClassVar[int] = 80
    of_rounding: ClassVar[bool] = True
    """Moments that nearly cancel do so in any type."""
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,8,32] x) => (float[2,8,1] y) <float k = {4}, float two = {2}>
        { s = Add (x, k) p = Pow (s, two) q = ReduceMean <axes = [-1]> (p) m = ReduceMean <axes = [-1]> (s)
          h = Mul (m, m) y = Sub (q, h) }""",
        # dimensions dropped, axes as input, clipped by what follows
        """<ir_version: 8, opset_import: ["" : 18]> g (float[2,8,4,4] x) => (float[2,8] y)
        <float k = {4}, int64[2] a = {2, 3}, float two = {2}>
        { s = Add (x, k) p = Mul (s, s) q = ReduceMean <keepdims = 0> (p, a) m = ReduceMean <keepdims = 0> (s, a) h = Pow (m, two)
          v = Sub (q, h) y = Relu (v) }""",
        # the mean is used again
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,8,32] x) => (float[2,8,1] y, float[2,8,1] m) <float k = {5}, float two = {2}>
        { s = Add (x, k) p = Pow (s, two) q = ReduceMean <axes = [2]> (p) m = ReduceMean <axes = [2]> (s)
          h = Pow (m, two) y = Sub (q, h) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        # the mean so large that x itself cannot be FP16
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,8,32] x) => (float[2,8,1] y) <float k = {40}, float two = {2}>
        { s = Add (x, k) p = Pow (s, two) q = ReduceMean <axes = [-1]> (p) m = ReduceMean <axes = [-1]> (s)
          h = Mul (m, m) y = Sub (q, h) }""",
        # the mean is near zero: nothing cancels
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,8,32] x) => (float[2,8,1] y) <float two = {2}>
        { p = Pow (x, two) q = ReduceMean <axes = [-1]> (p) m = ReduceMean <axes = [-1]> (x)
          h = Mul (m, m) y = Sub (q, h) }""",
        # the mean of something else
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,8,32] x, float[2,8,32] z) => (float[2,8,1] y)
        <float k = {4}, float two = {2}>
        { s = Add (x, k) p = Pow (s, two) q = ReduceMean <axes = [-1]> (p) m = ReduceMean <axes = [-1]> (z)
          h = Mul (m, m) y = Sub (q, h) }""",
        # the other way round
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,8,32] x) => (float[2,8,1] y) <float k = {4}, float two = {2}>
        { s = Add (x, k) p = Pow (s, two) q = ReduceMean <axes = [-1]> (p) m = ReduceMean <axes = [-1]> (s)
          h = Mul (m, m) y = Sub (h, q) }""",
        # the second moment is an output: it has to be computed all the same
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,8,32] x) => (float[2,8,1] y, float[2,8,1] q) <float k = {4}, float two = {2}>
        { s = Add (x, k) p = Pow (s, two) q = ReduceMean <axes = [-1]> (p) m = ReduceMean <axes = [-1]> (s)
          h = Mul (m, m) y = Sub (q, h) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """A repair where diagnosis found the difference ill, or the ranges show that bits cancel."""
        view = Wiring(evidence.model)
        for node in evidence.model.nodes():
            found = match(view, node)
            if found is None:
                continue
            ill = evidence.hazards_at(found.names)
            ratio = cancelled(evidence, found, node)
            if ratio > HOPELESS:
                lost = f"rounding x to {evidence.model.narrow} loses it in any form, only a wide x keeps it"
                why = f"E[x²] is {ratio:.3g} times the variance: {lost}"
                yield Refusal(node.name, self.name, why)
            elif ill or ratio >= LOST:
                start = ill[0].why if ill else f"E[x²] is {ratio:.3g} times the variance, so bits cancel"
                because = f"{start}; the mean of (x − mean)² has no such difference"
                yield Edit(self.name, node.name, self.promise, covers=found.names, because=because)

    def apply(self, model: Model, repair: Edit) -> None:
        """The centred form takes the place of the difference."""
        node = node_named(model, repair.node, "Sub")
        found = match(Wiring(model), node)
        if found is None:
            raise unmatched(model, self.name, repair.node)
        write, x, axes = Writer(editor_of(model), node, found.tensor("x")), found.tensor("x"), found.axes()
        kept = bool(found.number("kept", 1.0))
        mean = found.tensor("mean") if kept else write.reduce("ReduceMean", x, axes, "mean")
        centred = write.op("Sub", [x, mean], "centred")
        square = write.op("Mul", [centred, centred], "square")
        inputs, attrs = write.axes("variance", axes, 18)
        write.replace("ReduceMean", [square, *inputs], "variance", keepdims=int(kept), **attrs)


def cancelled(evidence: Findings, found: Found, node: gs.Node) -> float:
    """Largest second moment over the largest variance seen; 0 where one was not measured."""
    moment, variance = range_of(evidence, found.tensor("moment")), range_of(evidence, node.outputs[0])
    return 0.0 if moment is None or variance is None or variance.high <= 0.0 else moment.high / variance.high


def match(view: Wiring, node: gs.Node) -> Found | None:
    """A difference of moments that ends at ``node``; the mean may have other readers."""
    found = find(CORE, node.outputs[0]) if is_op(node, "Sub") else None
    if found is None:
        return None
    mean = found.tensor("mean").inputs[0].name
    return None if leaking(view.is_output, found, node, frozenset({mean})) else found
