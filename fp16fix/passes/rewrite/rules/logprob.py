"""log(p + eps) and log(max(p, eps)) of a softmax p → the same function of log p, which FP16 can hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model, scalar
from fp16fix.half import SMALLEST_NORMAL
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules import logsoftmax, logsumexp
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, eager, is_op, node_named, producer, range_of, unmatched, with_scalar

UNMOVED = 1e-5
"""eps / p below this moves log p by no more than FP32 equivalence allows."""


@dataclass(frozen=True, slots=True)
class Match:
    """Log of p = softmax(x) along ``axis``, floored by ``eps`` or summed with it."""

    x: gs.Tensor
    axis: int
    p: gs.Tensor
    eps: float
    summed: bool
    nodes: tuple[str, ...]


class LogOfProbability:
    """A probability under 2⁻²⁴ is zero in FP16, an eps of 1e-10 too, and then the logarithm is −inf.

    log(p + eps) = max(log p, log eps) + softplus(−|log p − log eps|), log max(p, eps) = max(log p, log eps).
    """

    name: ClassVar[str] = "log-probability"
    order: ClassVar[int] = 115
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {20}, float eps = {1e-10}>
        { s = Mul (x, k) p = Softmax <axis = -1> (s) q = Add (p, eps) y = Log (q) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {4.5}, float eps = {1e-16}>
        { s = Mul (x, k) p = Softmax <axis = -1> (s) q = Add (p, eps) y = Log (q) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {20}, float low = {1e-12}, float
            high = {1}>
        { s = Mul (x, k) p = Softmax <axis = -1> (s) q = Clip (p, low, high) y = Log (q) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float eps = {0.01}>
        { p = Softmax <axis = -1> (x) q = Add (p, eps) y = Log (q) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float eps = {1e-10}>
        { p = Relu (x) q = Add (p, eps) y = Log (q) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float low = {1e-10}, float high = {0.5}>
        { p = Softmax <axis = -1> (x) q = Clip (p, low, high) y = Log (q) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """A repair for every eps that FP16 cannot hold."""
        view = Wiring(evidence.model)
        for node in evidence.model.nodes():
            found = match(view, node)
            seen = None if found is None else range_of(evidence, found.p)
            if found is None or seen is None or found.eps >= SMALLEST_NORMAL:
                continue
            if seen.shape and seen.shape[found.axis] > logsumexp.TERMS:
                yield Refusal(node.name, self.name, f"{seen.shape[found.axis]} exponentials can sum past FP16 even when shifted")
                continue
            dropped = found.eps <= UNMOVED * seen.low
            promise = Promise.ALTERED if dropped else Promise.REORDERED
            values = () if dropped else (("eps", found.eps),)
            why = because(found, seen.low, dropped=dropped)
            yield Edit(self.name, node.name, promise, covers=found.nodes, values=values, because=why)

    def apply(self, model: Model, repair: Edit) -> None:
        """Write log p, then the eps if the repair keeps it."""
        node = node_named(model, repair.node, "Log")
        found = match(Wiring(model), node)
        if found is None:
            raise unmatched(model, self.name, repair.node)
        write = Writer(editor_of(model), node, found.x)
        eps = dict(repair.values).get("eps")
        _, centred, log_sum = logsumexp.shifted(write, found.x, (found.axis,))
        if eps is None:
            write.replace("Sub", [centred, log_sum], "log_softmax")
            return
        log = write.op("Sub", [centred, log_sum], "log_softmax")
        floor = write.number(math.log(eps), "log_eps")
        if not found.summed:
            write.replace("Max", [log, floor], "floor")
            return
        distance = write.op("Neg", [write.op("Abs", [write.op("Sub", [log, floor], "above")], "distance")], "below")
        write.replace("Add", [write.op("Max", [log, floor], "floor"), write.op("Softplus", [distance], "softplus")], "sum")


def because(found: Match, low: float, *, dropped: bool) -> str:
    """The reason, with the smallest probability seen."""
    start = f"p goes down to {low:.3g} and eps is {found.eps:.3g}, FP16 holds nothing under 2⁻²⁴"
    if dropped:
        return f"{start}; eps is under {UNMOVED:g} of the smallest p seen, so log p alone is the answer"
    return f"{start}; written over log p every value fits"


def match(view: Wiring, node: gs.Node) -> Match | None:
    """A logarithm of a guarded probability (a plain softmax is log-softmax's)."""
    if not is_op(node, "Log"):
        return None
    guard = producer(node.inputs[0], "Add", "Max", "Clip")
    found = guarded(guard) if guard is not None and view.feeds_only(guard.outputs[0], node) else None
    if guard is None or found is None or found[1] <= 0.0:
        return None
    p, eps = found
    names = (node.name, guard.name)
    soft = logsoftmax.probabilities(view, p)
    if not isinstance(soft, logsoftmax.Match):
        return None
    return Match(soft.x, soft.axis, p, eps, guard.op == "Add", tuple(sorted((*names, *soft.nodes))))


def guarded(guard: gs.Node) -> tuple[gs.Tensor, float] | None:
    """(p, eps) of Add(p, eps), Max(p, eps), Clip(p, eps, ≥ 1)."""
    if guard.op != "Clip":
        return with_scalar(guard)
    low = scalar(guard.inputs[1]) if len(guard.inputs) > 1 and guard.inputs[1].name else guard.attrs.get("min")
    high = scalar(guard.inputs[2]) if len(guard.inputs) > 2 and guard.inputs[2].name else guard.attrs.get("max", 1.0)
    return None if low is None or high is None or high < 1.0 else (guard.inputs[0], float(low))
