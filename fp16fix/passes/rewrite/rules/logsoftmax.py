"""log softmax in any spelling → x − max − log Σ exp(x − max): no probability is ever stored, so none underflows before the logarithm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules import logsumexp, softmax
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, eager, is_op, node_named, producer, range_of, rank, reduction, unmatched

SAFE_LOW = -4.0
"""A log-probability that stays above this keeps p over 2⁻⁶; four times lower still is over FP16's smallest value, 2⁻²⁴."""


@dataclass(frozen=True, slots=True)
class Match:
    """A log-softmax of ``x`` along ``axis``."""

    x: gs.Tensor
    axis: int
    nodes: tuple[str, ...]
    fused: bool = False


class LogSoftmax:
    """Probabilities under 2⁻²⁴ are zero in FP16 and their logarithm −inf.

    TensorRT's parser makes ``LogSoftmax`` itself a Softmax and a Log in FP16 (read back from the network of TensorRT-RTX 1.7),
    so the operator is no cure there: the shifted form is, with plain FP16 nodes.
    """

    name: ClassVar[str] = "log-softmax"
    order: ClassVar[int] = 110
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {12}>
        { s = Mul (x, k) p = Softmax <axis = -1> (s) y = Log (p) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {20}, int64[1] a = {1}>
        { s = Mul (x, k) e = Exp (s) t = ReduceSum <keepdims = 1> (e, a) l = Log (t) y = Sub (s, l) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {20}, int64[1] a = {1}>
        { s = Mul (x, k) e = Exp (s) t = ReduceSum (e, a) p = Div (e, t) y = Log (p) }""",
        """<ir_version: 7, opset_import: ["" : 11]> g (float[4,16] x) => (float[4,16] y) <float k = {12}>
        { s = Mul (x, k) p = Softmax (s) y = Log (p) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {0.1}>
        { s = Mul (x, k) y = LogSoftmax <axis = -1> (s) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x, float[4,16] z) => (float[4,16] y) <int64[1] a = {1}>
        { e = Exp (x) t = ReduceSum (e, a) l = Log (t) y = Sub (z, l) }""",
        """<ir_version: 7, opset_import: ["" : 11]> g (float[2,3,4] x) => (float[2,3,4] y) <float k = {20}>
        { s = Mul (x, k) p = Softmax <axis = 1> (s) y = Log (p) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """A repair where some log-probability is low enough for the probability to be lost."""
        view = Wiring(evidence.model)
        for node in evidence.model.nodes():
            found = match(view, node)
            if isinstance(found, str):
                yield Refusal(node.name, self.name, found)
            if not isinstance(found, Match):
                continue
            out, x = range_of(evidence, node.outputs[0]), range_of(evidence, found.x)
            if out is not None and out.low > SAFE_LOW and not evidence.hazards_at(found.nodes):
                continue
            terms = 0 if x is None or not x.shape else x.shape[found.axis]
            if terms > logsumexp.TERMS:
                yield Refusal(node.name, self.name, f"{terms} exponentials can sum past FP16 even when shifted")
                continue
            yield Edit(self.name, node.name, self.promise, covers=found.nodes, because=because(found, None if out is None else out.low))

    def apply(self, model: Model, repair: Edit) -> None:
        """Write the shifted form; the output tensor keeps its name."""
        node = node_named(model, repair.node, "Log", "Sub", "LogSoftmax")
        found = match(Wiring(model), node)
        if not isinstance(found, Match):
            raise unmatched(model, self.name, repair.node)
        write = Writer(editor_of(model), node, found.x)
        _, centred, log = logsumexp.shifted(write, found.x, (found.axis,))
        write.replace("Sub", [centred, log], "log_softmax")


def because(found: Match, low: float | None) -> str:
    """The reason, with the lowest log-probability seen."""
    seen = "" if low is None else f" (here log p goes down to {low:.3g})"
    what = "an engine computes LogSoftmax as Softmax then Log in FP16: " if found.fused else ""
    return (
        f"{what}a probability under 2⁻²⁴ is zero in FP16 and its logarithm −inf{seen}; x − max − log Σ exp(x − max) stores no probability"
    )


def match(view: Wiring, node: gs.Node) -> Match | str | None:
    """A log-softmax ending at ``node``, why it cannot be rewritten, or None."""
    if is_op(node, "LogSoftmax"):
        axis = softmax_axis(view, node)
        return axis if isinstance(axis, str) else Match(node.inputs[0], axis, (node.name,), fused=True)
    if is_op(node, "Log"):
        found = probabilities(view, node.inputs[0])
        return found if found is None or isinstance(found, str) else Match(found.x, found.axis, tuple(sorted((*found.nodes, node.name))))
    return minus_logsumexp(node) if is_op(node, "Sub") else None


def probabilities(view: Wiring, tensor: gs.Tensor) -> Match | str | None:
    """The softmax, fused or written out, that makes ``tensor``."""
    node = producer(tensor)
    if node is None:
        return None
    if is_op(node, "Softmax"):
        axis = softmax_axis(view, node)
        return axis if isinstance(axis, str) else Match(node.inputs[0], axis, (node.name,))
    found = softmax.match(view, node)
    return Match(found.x, found.axis, found.nodes) if isinstance(found, softmax.Match) and found.eps == 0.0 else None


def softmax_axis(view: Wiring, node: gs.Node) -> int | str:
    """The axis of a Softmax or LogSoftmax, or why there is no single one (before opset 13 they flatten)."""
    dimensions = rank(node.inputs[0])
    if view.model.opset >= 13:
        return int(node.attrs.get("axis", -1))
    axis = int(node.attrs.get("axis", 1))
    if dimensions is None or axis % dimensions != dimensions - 1:
        return f"before opset 13 {node.op} flattens every axis from the one given, and this is not the last"
    return dimensions - 1


def minus_logsumexp(node: gs.Node) -> Match | None:
    """``x − log Σ exp(x)``, the reduction keeping its one axis; x − max − … is what this rule writes and is left alone."""
    x, log = node.inputs
    names = [node.name]
    total = producer(log, "ReduceLogSumExp")
    if total is None:
        last = producer(log, "Log")
        total = producer(last.inputs[0], "ReduceSum") if last is not None else None
        exp = producer(total.inputs[0], "Exp") if total is not None else None
        if last is None or total is None or exp is None or exp.inputs[0] is not x:
            return None
        names += [last.name, exp.name]
    elif total.inputs[0] is not x:
        return None
    found = reduction(total)
    if found is None or not found[1] or len(found[0]) != 1 or logsumexp.is_shifted(x):
        return None
    return Match(x, found[0][0], tuple(sorted([*names, total.name])))
