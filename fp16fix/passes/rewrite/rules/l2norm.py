"""x / |x| written out, where squares or the eps leave FP16 and no exponent holds both → the same over x / max|x|."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.found import Found, leaking
from fp16fix.passes.rewrite.pattern import Any, Number, Op, Tensor, find
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._length import answers, eps_of, guarded, length, refusal, short_length, under_root
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, eager, is_op, node_named, unmatched

LENGTH = guarded(length("x"))
INSIDE = under_root("x")
CORE = Any(
    Op("Div", Tensor("x"), LENGTH),
    Op("Mul", Tensor("x"), Any(Op("Reciprocal", LENGTH), Op("Div", Number(value=1.0), LENGTH), Op("Pow", INSIDE, Number(value=-0.5)))),
)


class WrittenL2Norm:
    """Squares overflow past 256, vanish under 2⁻¹², and an eps of 1e-12 is zero, so that an empty row gives 0 / 0.

    x / max|x| has a length between 1 and √n whatever x is, and points where x points.
    """

    name: ClassVar[str] = "l2norm"
    order: ClassVar[int] = 60
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        # rows of all sizes and an empty one
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x) => (float[4,8] y) <float[4,1] k = {9000, 1, 0.0005, 0},
        float eps = {1e-12}, int64[1] a = {1}>
        { s = Mul (x, k) q = Mul (s, s) t = ReduceSum <keepdims = 1> (q, a) l = Sqrt (t) m = Max (l, eps) y = Div (s, m) }""",
        # torch's export: ReduceL2, Clip, Expand, Div
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x) => (float[4,8] y) <float[4,1] k = {9, 1, 0.5, 0}, float eps = {1e-12}>
        { s = Mul (x, k) l = ReduceL2 <axes = [-1], keepdims = 1> (s) m = Clip (l, eps) h = Shape (s) e = Expand (m, h) y = Div (s, e) }""",
        # an eps under the root, channels first, axes as input
        """<ir_version: 8, opset_import: ["" : 18]> g (float[2,4,3,3] x) => (float[2,4,3,3] y) <float[3,1] k = {9000, 0.01, 0.0001},
        float eps = {1e-10}, float two = {2}, int64[1] a = {1}>
        { s = Mul (x, k) q = Pow (s, two) t = ReduceSum (q, a) e = Add (t, eps) l = Sqrt (e) r = Reciprocal (l) y = Mul (s, r) }""",
        # ReduceSumSquare and an eps that is added, opset 11
        """<ir_version: 6, opset_import: ["" : 11]> g (float[4,8] x) => (float[4,8] y)
        <float[4,1] k = {9000, 1, 0.0005, 0}, float eps = {1e-9}>
        { s = Mul (x, k) t = ReduceSumSquare <axes = [1]> (s) l = Sqrt (t) m = Add (eps, l) y = Div (s, m) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        # one exponent holds it
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x) => (float[4,8] y) <float k = {900}, int64[1] a = {1}>
        { s = Mul (x, k) q = Mul (s, s) t = ReduceSum (q, a) l = Sqrt (t) y = Div (s, l) }""",
        # healthy
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x) => (float[4,8] y) <float eps = {1e-3}, int64[1] a = {1}>
        { q = Mul (x, x) t = ReduceSum (q, a) l = Sqrt (t) m = Max (l, eps) y = Div (x, m) }""",
        # clipped from above too
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x) => (float[4,8] y) <float[4,1] k = {9000, 1, 0.0005, 0},
        float eps = {1e-12}, float most = {1}, int64[1] a = {1}>
        { s = Mul (x, k) q = Mul (s, s) t = ReduceSum (q, a) l = Sqrt (t) m = Clip (l, eps, most) y = Div (s, m) }""",
        # the length of something else
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x, float[4,8] z) => (float[4,8] y)
        <float[4,1] k = {9000, 1, 0.0005, 0.1}, int64[1] a = {1}>
        { s = Mul (x, k) q = Mul (s, s) t = ReduceSum (q, a) l = Sqrt (t) y = Div (z, l) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """A repair for what is ill and no exponent holds; a refusal for what an exponent does."""
        how = "divided by its largest magnitude first, x keeps its direction and has a length of 1 to √n"
        yield from answers(self, evidence, match, lambda found: refusal(evidence, found, eps_of(found, "x"), "x"), how)

    def apply(self, model: Model, repair: Edit) -> None:
        """The quotient of x / max|x| and its length takes the place of the last node."""
        node = node_named(model, repair.node, "Div", "Mul")
        found = match(Wiring(model), node)
        eps = None if found is None else eps_of(found, "x")
        if found is None or eps is None:
            raise unmatched(model, self.name, repair.node)
        write = Writer(editor_of(model), node, found.tensor("x"))
        parts, short = short_length(write, found.tensor("x"), found.axes(), eps)
        write.replace("Div", [parts.unit, short], "unit_vector")


def match(view: Wiring, node: gs.Node) -> Found | None:
    """An L2-normalisation that ends at ``node``."""
    found = find(CORE, node.outputs[0]) if is_op(node, "Div", "Mul") else None
    if found is None or leaking(view.is_output, found, node):
        return None
    expanded = any(each.op == "Expand" for each in found.nodes)
    same = node.outputs[0].shape is not None and node.outputs[0].shape == found.tensor("x").shape
    return found if same or not expanded else None
