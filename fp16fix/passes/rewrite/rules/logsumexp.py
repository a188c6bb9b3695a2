"""log Σ exp(x), as ``ReduceLogSumExp`` or written out → max + log Σ exp(x − max): every tensor on the way fits FP16."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model
from fp16fix.half import LARGEST
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, eager, is_op, node_named, producer, range_of, reduction, unmatched

EXP_LIMIT = math.log(LARGEST)
"""11.09: exp of more is past FP16."""
TERMS = 2**15
"""So many exponentials of at most 1 sum to half of FP16's range at worst."""


@dataclass(frozen=True, slots=True)
class Match:
    """A logsumexp of ``x`` that ends at ``last``."""

    x: gs.Tensor
    axes: tuple[int, ...]
    keepdims: bool
    last: gs.Node
    nodes: tuple[str, ...]


class LogSumExp:
    """exp overflows past 11.09 though the logarithm of the sum is small; older TensorRT parsers do not shift ReduceLogSumExp either."""

    name: ClassVar[str] = "logsumexp"
    order: ClassVar[int] = 120
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4] y) <float k = {20}, int64[1] a = {-1}>
        { s = Mul (x, k) e = Exp (s) t = ReduceSum <keepdims = 0> (e, a) y = Log (t) }""",
        """<ir_version: 7, opset_import: ["" : 12]> g (float[4,5,6] x) => (float[1,5,1] y) <float k = {20}>
        { s = Mul (x, k) e = Exp (s) t = ReduceSum <axes = [0, 2], keepdims = 1> (e) y = Log (t) }""",
        """<ir_version: 8, opset_import: ["" : 18]> g (float[4,5] x) => (float y) <float k = {20}>
        { s = Mul (x, k) e = Exp (s) t = ReduceSum <keepdims = 0> (e) y = Log (t) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,1] y) <int64[1] a = {-1}>
        { m = ReduceMax <axes = [-1]> (x) d = Sub (x, m) e = Exp (d) t = ReduceSum (e, a) l = Log (t) y = Add (l, m) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,1] y) <float k = {0.1}, int64[1] a = {-1}>
        { s = Mul (x, k) e = Exp (s) t = ReduceSum (e, a) y = Log (t) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,40000] x) => (float[2,1] y) <float k = {9}, int64[1] a = {-1}>
        { s = Mul (x, k) e = Exp (s) t = ReduceSum (e, a) y = Log (t) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """A repair where the exponentials leave FP16 or would with the head-room asked for."""
        view = Wiring(evidence.model)
        for node in evidence.model.nodes():
            found = match(view, node) if is_op(node, "Log", "ReduceLogSumExp") else None
            seen = None if found is None else range_of(evidence, found.x)
            if found is None or seen is None:
                continue
            ill = bool(evidence.hazards_at(found.nodes))
            terms = terms_in(seen.shape, found.axes)
            if not ill and seen.absmax * 2.0**evidence.headroom + math.log(max(terms, 1)) < EXP_LIMIT:
                continue
            if seen.nonfinite:
                yield Refusal(node.name, self.name, f"{found.x.name!r} is not finite in FP32; a row of −inf has no maximum to take off")
            elif terms > TERMS:
                yield Refusal(node.name, self.name, f"{terms} exponentials can sum past FP16 even when shifted")
            else:
                why = f"exp overflows FP16 past 11.09, the argument reaches {seen.high:.3g}; less its maximum no exponential is above 1"
                yield Edit(self.name, node.name, self.promise, covers=found.nodes, because=why)

    def apply(self, model: Model, repair: Edit) -> None:
        """Write the shifted form; the output tensor keeps its name."""
        found = match(Wiring(model), node_named(model, repair.node, "Log", "ReduceLogSumExp"))
        if found is None:
            raise unmatched(model, self.name, repair.node)
        write = Writer(editor_of(model), found.last, found.x)
        peak, _, log = shifted(write, found.x, found.axes)
        if found.keepdims:
            write.replace("Add", [log, peak], "unshift")
            return
        total = write.op("Add", [log, peak], "unshift")
        inputs, attrs = write.axes("Squeeze", found.axes, 13)
        write.replace("Squeeze", [total, *inputs], "squeeze", **attrs)


def match(view: Wiring, node: gs.Node) -> Match | None:
    """A logsumexp ending at ``node`` that is not shifted yet."""
    if is_op(node, "ReduceLogSumExp"):
        found = reduction(node)
        return None if found is None else Match(node.inputs[0], *found, node, (node.name,))
    total = producer(node.inputs[0], "ReduceSum")
    exp = producer(total.inputs[0], "Exp") if total is not None else None
    if total is None or exp is None or not view.feeds_only(total.outputs[0], node) or not view.feeds_only(exp.outputs[0], total):
        return None
    found = reduction(total)
    if found is None or is_shifted(exp.inputs[0]):
        return None
    return Match(exp.inputs[0], *found, node, tuple(sorted((exp.name, total.name, node.name))))


def is_shifted(tensor: gs.Tensor) -> bool:
    """Whether ``tensor`` is x − max(x)."""
    sub = producer(tensor, "Sub")
    peak = producer(sub.inputs[1], "ReduceMax") if sub is not None else None
    return sub is not None and peak is not None and peak.inputs[0] is sub.inputs[0]


def terms_in(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many values one sum takes in, by the largest shape seen."""
    return math.prod(shape[axis] for axis in axes) if axes else math.prod(shape)


def shifted(write: Writer, x: gs.Tensor, axes: tuple[int, ...]) -> tuple[gs.Tensor, gs.Tensor, gs.Tensor]:
    """(max, x − max, log Σ exp(x − max)), the reductions keeping their axes: Σ ≥ 1, so the logarithm is of a normal number."""
    peak = write.reduce("ReduceMax", x, axes, "max")
    centred = write.op("Sub", [x, peak], "shift")
    total = write.reduce("ReduceSum", write.op("Exp", [centred], "exp"), axes, "sum")
    return peak, centred, write.op("Log", [total], "log")
