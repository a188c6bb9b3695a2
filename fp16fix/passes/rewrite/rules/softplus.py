"""log(1 + exp(x)) → ``Softplus``: one activation, right where exp overflows and where 1 + exp(x) rounds to 1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, eager, is_op, node_named, producer, range_of, unmatched, with_scalar


class WrittenSoftplus:
    """FP16's exp overflows past 11.09; Softplus is one activation layer in an engine.

    Mish, x·tanh(softplus(x)), is left alone: tanh(inf) = 1 already.
    """

    name: ClassVar[str] = "softplus"
    order: ClassVar[int] = 130
    of_rounding: ClassVar[bool] = True
    """One layer is rounded once."""
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {12}, float one = {1}>
        { s = Mul (x, k) e = Exp (s) a = Add (e, one) y = Log (a) }""",
        """<ir_version: 7, opset_import: ["" : 12]> g (float[4,16] x) => (float[4,16] y) <float k = {11.5}, float[1] one = {1}>
        { s = Mul (x, k) e = Exp (s) a = Add (one, e) l = Log (a) y = Mul (s, l) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 7, opset_import: ["" : 12]> g (float[4,16] x) => (float[4,16] y) <float k = {12}, float[1] one = {1}>
        { s = Mul (x, k) e = Exp (s) a = Add (one, e) l = Log (a) t = Tanh (l) y = Mul (s, t) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float two = {2}>
        { e = Exp (x) a = Add (e, two) y = Log (a) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y, float[4,16] a) <float one = {1}>
        { e = Exp (x) a = Add (e, one) y = Log (a) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """Every written-out softplus: the fused form costs less whether or not calibration reached the overflow."""
        view = Wiring(evidence.model)
        for node in evidence.model.nodes():
            exp = match(view, node)
            if exp is None:
                continue
            seen = range_of(evidence, exp.inputs[0])
            limit = math.log(evidence.model.narrow.largest)
            reach = "" if seen is None else f" and the argument reaches {seen.high:.3g}"
            names = tuple(sorted((node.name, exp.name, exp.outputs[0].outputs[0].name)))
            why = f"exp overflows {evidence.model.narrow} past {limit:.4g}{reach}; an engine runs Softplus as one layer instead of three"
            yield Edit(self.name, node.name, self.promise, covers=names, because=why)

    def apply(self, model: Model, repair: Edit) -> None:
        """Put ``Softplus`` where the logarithm was."""
        node = node_named(model, repair.node, "Log")
        exp = match(Wiring(model), node)
        if exp is None:
            raise unmatched(model, self.name, repair.node)
        Writer(editor_of(model), node, exp.inputs[0]).replace("Softplus", [exp.inputs[0]], "softplus")


def match(view: Wiring, node: gs.Node) -> gs.Node | None:
    """The Exp of a softplus ending at ``node``, if nothing else uses what lies between and it is not tanh alone that reads it."""
    added = producer(node.inputs[0], "Add") if is_op(node, "Log") else None
    found = with_scalar(added) if added is not None else None
    exp = producer(found[0], "Exp") if found is not None and found[1] == 1.0 else None
    if added is None or exp is None or not view.feeds_only(added.outputs[0], node) or not view.feeds_only(exp.outputs[0], added):
        return None
    if is_op(view.only_user(node.outputs[0]), "Tanh"):
        return None
    return exp
