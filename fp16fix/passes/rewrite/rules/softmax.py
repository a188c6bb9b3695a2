"""exp(x) / Σ exp(x), with or without the maximum taken off first → ``Softmax``, whose insides run in FP32."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import (
    Wiring,
    Writer,
    eager,
    is_op,
    node_named,
    operands,
    producer,
    range_of,
    rank,
    reduction,
    unmatched,
    with_scalar,
)

NEGLIGIBLE = 2.0**-25
"""An eps beside a sum this many times larger rounds away in FP32 (half an ulp is 2⁻²⁴)."""


@dataclass(frozen=True, slots=True)
class Match:
    """A softmax written out."""

    x: gs.Tensor
    axis: int
    shifted: bool
    eps: float
    total: gs.Tensor
    nodes: tuple[str, ...]


class WrittenSoftmax:
    """FP16's exp overflows past 11.09 and its sums past 65504; the fused operator shifts by the maximum and sums in FP32."""

    name: ClassVar[str] = "softmax"
    order: ClassVar[int] = 100
    of_rounding: ClassVar[bool] = True
    """Exponentials and their sum are FP32 inside."""
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,3,16] x) => (float[2,3,16] y) <float k = {20}, int64[1] a = {-1}>
        { s = Mul (x, k) e = Exp (s) t = ReduceSum <keepdims = 1> (e, a) y = Div (e, t) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,8,4] x) => (float[2,8,4] y) <float k = {6}, int64[1] a = {1}>
        { s = Mul (x, k) e = Exp (s) t = ReduceSum (e, a) r = Reciprocal (t) y = Mul (r, e) }""",
        """<ir_version: 7, opset_import: ["" : 12]> g (float[2,3,16] x) => (float[2,3,16] y) <float k = {20}, float eps = {1e-12}>
        { s = Mul (x, k) f = Exp (s) t = ReduceSum <axes = [-1]> (f) u = Add (t, eps) y = Div (f, u) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,16] x, bool[1] c) => (float[2,16] y) <float k = {20}, int64[1] a = {-1}>
        { z = Squeeze (c) y = If (z) <then_branch = yes () => (float[2,16] p) { s = Mul (x, k) e = Exp (s) t = ReduceSum (e, a) p =
            Div (e, t) },
          else_branch = no () => (float[2,16] q) { q = Softmax (x) }> }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 18]> g (float[2,70000] x) => (float[2,70000] y) <float k = {1e-3}, int64[1] a = {-1}>
        { s = Mul (x, k) m = ReduceMax <keepdims = 1> (s, a) d = Sub (s, m) e = Exp (d) t = ReduceSum (e, a) p = Div (e, t) q = Sqrt
            (p) y = Sqrt (q) }""",
        """<ir_version: 7, opset_import: ["" : 12]> g (float[1,70000] x) => (float[1,70000] y) <float k = {1e-3}, float eps = {1e-12}>
        { s = Mul (x, k) m = ReduceMax <axes = [1]> (s) d = Sub (s, m) f = Exp (d) t = ReduceSum <axes = [-1]> (f) u = Add (t, eps)
            p = Div (f, u) q = Sqrt (p) y = Sqrt (q) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,3,4] x) => (float[2,3,4] y) <int64[1] a = {-1}, int64[1] b = {1}>
        { m = ReduceMax <axes = [-1]> (x) d = Sub (x, m) e = Exp (d) t = ReduceSum (e, b) y = Div (d, t) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,3,4] x) => (float[2,3,4] y) <int64[2] a = {1, 2}>
        { e = Exp (x) t = ReduceSum (e, a) y = Div (e, t) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4] x, float[2,4] w) => (float[2,4] y) <int64[1] a = {-1}>
        { e = Exp (x) f = Mul (e, w) t = ReduceSum (f, a) y = Div (f, t) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4] x) => (float[2,4] y, float[2,4] e) <int64[1] a = {-1}>
        { e = Exp (x) t = ReduceSum (e, a) y = Div (e, t) }""",
        """<ir_version: 7, opset_import: ["" : 12]> g (float[2,3,4] x) => (float[2,3,4] y)
        { e = Exp (x) t = ReduceSum <axes = [1]> (e) y = Div (e, t) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """One repair a softmax; refusals for those that only look like one."""
        view = Wiring(evidence.model)
        for node in evidence.model.nodes():
            found = match(view, node)
            if isinstance(found, str):
                yield Refusal(node.name, self.name, found)
            elif found is not None:
                sum_range = range_of(evidence, found.total)
                smallest = 1.0 if found.shifted else 0.0 if sum_range is None else max(sum_range.low, 0.0)
                if found.eps > NEGLIGIBLE * smallest:
                    yield Refusal(node.name, self.name, f"the eps {found.eps:.3g} is part of the answer where the sum is {smallest:.3g}")
                    continue
                if (count := keys(evidence, found)) > evidence.model.narrow.largest:
                    yield Refusal(
                        node.name, self.name, f"of {count:,} keys a compiled Softmax stores the sum in FP16 too, where it is infinite"
                    )
                    continue
                yield Edit(self.name, node.name, self.promise, covers=found.nodes, because=because(evidence, found))

    def apply(self, model: Model, repair: Edit) -> None:
        """Put ``Softmax`` where the division was."""
        node = node_named(model, repair.node, "Div", "Mul")
        found = match(Wiring(model), node)
        if not isinstance(found, Match):
            raise unmatched(model, self.name, repair.node)
        Writer(editor_of(model), node, found.x).replace("Softmax", [found.x], "softmax", axis=found.axis)


def keys(evidence: Findings, found: Match) -> int:
    """How many a row has, as far as was seen."""
    seen = range_of(evidence, found.x)
    return seen.shape[found.axis] if seen is not None else 0


def because(evidence: Findings, found: Match) -> str:
    """The reason, with the numbers seen."""
    seen, narrow = range_of(evidence, found.x), evidence.model.narrow
    limit = math.log(narrow.largest)
    if not found.shifted and seen is not None and seen.high > limit:
        reach = f"exp overflows {narrow} past {limit:.4g} and its argument reaches {seen.high:.3g}"
        return f"{reach}; Softmax takes the maximum off and is FP32 inside"
    return "one Softmax in place of the written-out form: an engine runs it as one kernel, in FP32 inside"


def match(view: Wiring, node: gs.Node) -> Match | str | None:
    """A softmax ending at ``node``, why it only looks like one, or None."""
    for numerator, denominator in quotients(node):
        exp = producer(numerator, "Exp")
        if exp is not None:
            return match_exp(view, node, exp, denominator)
        scaled = producer(numerator, "Mul")
        if scaled is not None and any(producer(t, "Exp") for t in scaled.inputs):
            total = producer(denominator, "ReduceSum")
            if total is not None and total.inputs[0] is numerator:
                return "the exponentials are multiplied by something before they are summed"
    return None


def quotients(node: gs.Node) -> list[tuple[gs.Tensor, gs.Tensor]]:
    """(numerator, denominator) of Div(a, b) or Mul(a, Reciprocal(b))."""
    if is_op(node, "Div"):
        return operands(node)
    if is_op(node, "Mul"):
        found = [(a, producer(b, "Reciprocal")) for a, b in operands(node)]
        return [(a, inverse.inputs[0]) for a, inverse in found if inverse is not None]
    return []


def match_exp(view: Wiring, node: gs.Node, exp: gs.Node, denominator: gs.Tensor) -> Match | str | None:
    """The rest of the pattern, from the numerator's Exp on."""
    names, eps = [exp.name, node.name], 0.0
    added = producer(denominator, "Add")
    shape = with_scalar(added) if added is not None else None
    if added is not None and shape is not None:
        names.append(added.name)
        denominator, eps = shape
    total = producer(denominator, "ReduceSum")
    if total is None or total.inputs[0] is not exp.outputs[0]:
        return None
    found = reduction(total)
    dimensions = rank(exp.inputs[0])
    if found is None or not found[1]:
        return None
    axes = found[0] or (tuple(range(dimensions)) if dimensions else ())
    if len(axes) != 1:
        return "the sum runs over several axes; Softmax has one"
    if view.model.opset < 13 and (dimensions is None or axes[0] % dimensions != dimensions - 1):
        return "before opset 13 Softmax flattens every axis from the one given, and this is not the last"
    if not view.feeds_only(exp.outputs[0], node, total):
        return "the exponentials are used elsewhere too"
    x, shift = unshifted(exp.inputs[0], axes)
    if shift:
        names += shift
    return Match(x, axes[0], bool(shift), abs(eps), total.outputs[0], tuple(sorted([*names, total.name])))


def unshifted(tensor: gs.Tensor, axes: tuple[int, ...]) -> tuple[gs.Tensor, list[str]]:
    """``x`` and the names of Sub and ReduceMax if ``tensor`` is x − max(x) over ``axes``; else the tensor itself."""
    sub = producer(tensor, "Sub")
    peak = producer(sub.inputs[1], "ReduceMax") if sub is not None else None
    if sub is None or peak is None or peak.inputs[0] is not sub.inputs[0] or reduction(peak) != (axes, True):
        return tensor, []
    return sub.inputs[0], [sub.name, peak.name]
