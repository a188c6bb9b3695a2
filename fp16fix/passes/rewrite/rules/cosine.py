"""a·b / (|a| |b|) written out, where a product leaves FP16 and no exponent holds it → the same over a / max|a| and b / max|b|."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.found import Found, leaking
from fp16fix.passes.rewrite.pattern import Any, Op, Reduce, Tensor, find
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._length import Eps, answers, guarded, length, put_guard, refusal, short_length, squares
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, eager, is_op, node_named, unmatched
from fp16fix.passes.rewrite.rules._norm import writable

DOT = Reduce("ReduceSum", Op("Mul", Tensor("a"), Tensor("b")), kept="kept")
TOGETHER = Any(
    Op("Mul", length("a", kept="kept"), length("b", kept="kept")),
    Op("Sqrt", Op("Mul", squares("a", kept="kept"), squares("b", kept="kept"))),
)
APART = Op("Mul", guarded(length("a", kept="kept"), "_a"), guarded(length("b", kept="kept"), "_b"))
CORE = Op("Div", DOT, Any(guarded(TOGETHER), APART))


class WrittenCosine:
    """Both the dot product and the product of the lengths are squares in size; the quotient is within ±1."""

    name: ClassVar[str] = "cosine"
    order: ClassVar[int] = 70
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        # lengths multiplied, an eps added
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x, float[4,8] z) => (float[4,1] y) <float[4,1] k = {9000, 1, 0.0005, 0},
        float eps = {1e-8}, int64[1] i = {1}>
        { s = Mul (x, k) t = Mul (z, k) p = Mul (s, t) d = ReduceSum (p, i) f = Mul (s, s) g = ReduceSum (f, i) h = Sqrt (g)
          u = Mul (t, t) v = ReduceSum (u, i) w = Sqrt (v) m = Mul (h, w) n = Add (m, eps) y = Div (d, n) }""",
        # torch's export: one root of both, Max, dimensions dropped
        """<ir_version: 6, opset_import: ["" : 11]> g (float[4,8] x, float[4,8] z) => (float[4] y) <float[4,1] k = {9000, 1, 0.0005, 0},
        float eps = {1e-8}>
        { s = Mul (x, k) t = Mul (z, k) p = Mul (s, t) d = ReduceSum <axes = [1], keepdims = 0> (p) f = Mul (s, s)
          g = ReduceSum <axes = [1], keepdims = 0> (f) u = Mul (t, t) v = ReduceSum <axes = [1], keepdims = 0> (u)
          m = Mul (g, v) h = Sqrt (m) n = Max (h, eps) y = Div (d, n) }""",
        # each length guarded by itself
        """<ir_version: 8, opset_import: ["" : 18]> g (float[4,8] x, float[4,8] z) => (float[4,1] y) <float[4,1] k = {9000, 1, 0.0005, 0},
        float eps = {1e-8}, int64[1] i = {1}>
        { s = Mul (x, k) t = Mul (z, k) p = Mul (s, t) d = ReduceSum (p, i) g = ReduceL2 (s, i) h = Clip (g, eps)
          v = ReduceL2 (t, i) w = Clip (v, eps) m = Mul (h, w) y = Div (d, m) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        # healthy
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x, float[4,8] z) => (float[4,1] y) <int64[1] i = {1}>
        { p = Mul (x, z) d = ReduceSum (p, i) g = ReduceL2 <axes = [1]> (x) v = ReduceL2 <axes = [1]> (z)
          m = Mul (g, v) y = Div (d, m) }""",
        # the lengths of one vector, not of both
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x, float[4,8] z) => (float[4,1] y) <float[4,1] k = {9000, 1, 0.0005, 0.1},
        int64[1] i = {1}> { s = Mul (x, k) t = Mul (z, k) p = Mul (s, t) d = ReduceSum (p, i) f = Mul (s, s) g = ReduceSum (f, i)
          h = Sqrt (g) m = Mul (h, h) y = Div (d, m) }""",
        # one exponent each holds it
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x, float[4,8] z) => (float[4,1] y) <float k = {900}, int64[1] i = {1}>
        { s = Mul (x, k) t = Mul (z, k) p = Mul (s, t) d = ReduceSum (p, i) f = Mul (s, s) g = ReduceSum (f, i) h = Sqrt (g)
          u = Mul (t, t) v = ReduceSum (u, i) w = Sqrt (v) m = Mul (h, w) y = Div (d, m) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """A repair for what is ill and no exponent holds; a refusal for what an exponent does."""
        how = "both sides are divided by their largest magnitudes first, which changes no angle"
        yield from answers(self, evidence, match, lambda found: reason(evidence, found), how)

    def apply(self, model: Model, repair: Edit) -> None:
        """The cosine of a / max|a| and b / max|b| takes the place of the last node."""
        node = node_named(model, repair.node, "Div")
        found = match(Wiring(model), node)
        if found is None:
            raise unmatched(model, self.name, repair.node)
        rewrite(Writer(editor_of(model), node, found.tensor("a")), found)


def match(view: Wiring, node: gs.Node) -> Found | None:
    """A cosine that ends at ``node``."""
    found = find(CORE, node.outputs[0]) if is_op(node, "Div") else None
    if found is None or leaking(view.is_output, found, node) or any(each.op == "Expand" for each in found.nodes):
        return None
    under_root = any(found.has(f"{kind}_{x}") for kind in ("inside", "least") for x in "ab")
    a, b = found.tensor("a").shape, found.tensor("b").shape
    return None if under_root or a is None or b is None or len(a) != len(b) else found


def common_eps(found: Found) -> Eps:
    """The guard of the product of the lengths, of degree 2; without value where each length has its own or none is there."""
    for kind in ("floor", "added"):
        if found.has(kind):
            return Eps(kind, found.number(kind), 2)
    return Eps("", 0.0, 2)


def own_eps(found: Found, x: str) -> Eps:
    """The guard of one length; without value where the product has one."""
    for kind in ("floor", "added"):
        if found.has(f"{kind}_{x}"):
            return Eps(kind, found.number(f"{kind}_{x}"), 1)
    return Eps("", 0.0, 1)


def reason(evidence: Findings, found: Found) -> str:
    """Why a matched, ill cosine is left as it is; empty if it is not."""
    common = common_eps(found)
    if not writable(common.value, 2):
        return f"its eps, {common.value:.3g}, cannot be written in FP16 in any domain"
    said = [refusal(evidence, found, own_eps(found, x), x) for x in "ab"]
    return said[0] if all(said) else ""


def rewrite(write: Writer, found: Found) -> None:
    """Σ u v / guard(|u| |v|), u = a / max|a|, v = b / max|b|; dimensions are dropped at the end where they were."""
    axes, common = found.axes(), common_eps(found)
    unit = common.guard if common.value else None
    sides = [short_length(write, found.tensor(x), axes, own_eps(found, x), f"{x}_", unit) for x in "ab"]
    dot = write.reduce("ReduceSum", write.op("Mul", [parts.unit for parts, _ in sides], "products"), axes, "dot")
    lengths = write.op("Mul", [short for _, short in sides], "lengths")
    if common.value:
        part = write.op("Mul", [parts.part for parts, _ in sides], "part")
        lengths = put_guard(write, lengths, part, common)
    if found.number("kept", 1.0):
        write.replace("Div", [dot, lengths], "cosine")
        return
    inputs, attrs = write.axes("dropped", axes, 13)
    write.replace("Squeeze", [write.op("Div", [dot, lengths], "cosine"), *inputs], "dropped", **attrs)
