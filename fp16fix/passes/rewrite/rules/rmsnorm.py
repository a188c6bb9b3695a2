"""RMSNorm written out → ``RMSNormalization`` where the opset has it; else, if no exponent suffices, division by the largest magnitude."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.found import Found, leaking
from fp16fix.passes.rewrite.pattern import As, Reduce, Square, find
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, eager, is_op, node_named, unmatched
from fp16fix.passes.rewrite.rules._norm import (
    Norm,
    X,
    divide_by_largest,
    ending_at,
    guard,
    one_exponent,
    over_root,
    trailing_fit,
    with_affine,
    with_eps,
    writable,
)

SINCE = 23
"""Opset that brought RMSNormalization; parsers are slow to follow, so no opset is raised for it."""
MEAN_SQUARE = As("square", Reduce("ReduceMean", Square(X)))
CORE = over_root(X, with_eps(MEAN_SQUARE))
FUSED, DIVIDED = 1.0, 2.0


class WrittenRmsNorm:
    """One massive channel squared leaves FP16 while the other tokens' squares are tiny: no fixed scale holds both.

    x / max|x| along the row has a mean square between 1/n and 1 whatever x is, and the norm of it is the norm of x.
    """

    name: ClassVar[str] = "rmsnorm"
    order: ClassVar[int] = 50
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        # rows of very different sizes: Llama's form, Div(1, Sqrt)
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x) => (float[4,8] y) <float[4,1] k = {9000, 10, 0.01, 0.0005},
        float two = {2}, float one = {1}, float eps = {1e-6}, float[8] w = {1, 2, 1, 0.5, 1, 1, 3, 1}>
        { s = Mul (x, k) q = Pow (s, two) m = ReduceMean <axes = [-1]> (q) e = Add (m, eps) d = Sqrt (e) r = Div (one, d)
          n = Mul (s, r) y = Mul (w, n) }""",
        # T5's form, axes as input, an eps that vanishes, a row of zeros
        """<ir_version: 8, opset_import: ["" : 18]> g (float[4,8] x) => (float[4,8] y) <float[4,1] k = {9000, 10, 1e-3, 0},
        float eps = {1e-12}, int64[1] a = {1}>
        { s = Mul (x, k) q = Mul (s, s) m = ReduceMean (q, a) e = Add (m, eps) d = Sqrt (e) y = Div (s, d) }""",
        # opset 23: the operator itself
        """<ir_version: 11, opset_import: ["" : 23]> g (float[4,8] x) => (float[4,8] y) <float k = {900}, float eps = {1000},
        int64[1] a = {-1}, float[8] w = {1, 2, 1, 0.5, 1, 1, 3, 1}>
        { s = Mul (x, k) q = Mul (s, s) m = ReduceMean (q, a) e = Add (m, eps) d = Sqrt (e) r = Reciprocal (d)
          n = Mul (s, r) y = Mul (n, w) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        # one exponent holds it
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x) => (float[4,8] y) <float k = {900}, float eps = {1e-6}>
        { s = Mul (x, k) q = Mul (s, s) m = ReduceMean <axes = [-1]> (q) e = Add (m, eps) d = Sqrt (e) y = Div (s, d) }""",
        # healthy
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x) => (float[4,8] y) <float eps = {1e-3}>
        { q = Mul (x, x) m = ReduceMean <axes = [-1]> (q) e = Add (m, eps) d = Sqrt (e) y = Div (x, d) }""",
        # another numerator
        """<ir_version: 7, opset_import: ["" : 13]> g (float[4,8] x, float[4,8] z) => (float[4,8] y)
        <float[4,1] k = {9000, 10, 0.01, 0.0005}, float eps = {1e-6}>
        { s = Mul (x, k) q = Mul (s, s) m = ReduceMean <axes = [-1]> (q) e = Add (m, eps) d = Sqrt (e) y = Div (z, d) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """The operator at opset 23, ill or not; below, a repair where it is ill and no exponent for the stream would do."""
        view = Wiring(evidence.model)
        for node in evidence.model.nodes():
            norm = match(view, node)
            if norm is None:
                continue
            found = evidence.hazards_at(norm.names)
            if fusable(view.model, norm):
                why = f"written out, {found[0].why}; " if found else "an engine knows it as one operator; "
                why += "RMSNormalization computes the mean square in FP32 inside"
                yield Edit(self.name, norm.last.name, self.promise, covers=norm.names, values=(("form", FUSED),), because=why)
            elif found:
                yield self.rescaled(evidence, norm, found[0].why)

    def rescaled(self, evidence: Findings, norm: Norm, ill: str) -> Edit | Refusal:
        """Left to the exponents if one does; else divided by the largest magnitude of the row."""
        eps = norm.found.number("eps")
        why = one_exponent(evidence, norm.found.tensor("square"), eps)
        if why:
            return Refusal(norm.found.nodes[0].name, self.name, why)
        if not writable(eps, 2):
            return Refusal(norm.found.nodes[0].name, self.name, f"its eps, {eps:.3g}, cannot be written in FP16 in any domain")
        because = f"{ill}; no one power of two holds every row, so each is divided by its largest magnitude before it is squared"
        core = norm.found.nodes[0].name
        return Edit(self.name, core, self.promise, covers=norm.found.names, values=(("form", DIVIDED),), because=because)

    def apply(self, model: Model, repair: Edit) -> None:
        """Put the operator in, or the written-out form over x / max|x|."""
        view, last = Wiring(model), node_named(model, repair.node)
        fused = dict(repair.values).get("form") == FUSED
        norms = [each for each in (match(view, node) for node in (ending_at(last) if fused else [last])) if each is not None]
        norms = [each for each in norms if (each.last if fused else each.found.nodes[0]) is last]
        if not norms or (fused and not fusable(model, norms[0])):
            raise unmatched(model, self.name, repair.node)
        write, norm = Writer(editor_of(model), last, norms[0].x), norms[0]
        if fused:
            axis, eps = -len(norm.found.axes()), norm.found.number("eps")
            write.replace("RMSNormalization", [norm.x, *norm.scale(write.edit)], "rmsnorm", axis=axis, epsilon=eps)
        else:
            divided(write, norm)


def match(view: Wiring, node: gs.Node) -> Norm | None:
    """An RMSNorm whose core ends at ``node``; with its scale where that could be the operator's."""
    found = find(CORE, node.outputs[0]) if is_op(node, "Div", "Mul") else None
    if found is None or leaking(view.is_output, found, node):
        return None
    x, axes = found.tensor("x"), found.axes()
    if x.shape is None or not axes:
        return Norm(found, node)
    dims = [x.shape[axis] for axis in axes]
    norm = with_affine(view, found, node, trailing_fit(dims), shifted=False)
    if norm.gamma is None and all(isinstance(size, int) for size in dims):
        return Norm(found, node, np.ones([int(size) for size in dims], np.float32))
    return norm


def fusable(model: Model, norm: Norm) -> bool:
    """Whether the opset has the operator and the axes are the last."""
    x, axes = norm.x, norm.found.axes()
    if model.opset < SINCE or norm.gamma is None or x.shape is None:
        return False
    return axes == tuple(range(len(x.shape) - len(axes), len(x.shape)))


def divided(write: Writer, norm: Norm) -> None:
    """With a = max|x| and u = x / a: u / sqrt(mean(u²) + eps / a²)."""
    found: Found = norm.found
    bound = guard(found.number("eps"), 2)
    parts = divide_by_largest(write, norm.x, found.axes(), bound)
    mean = write.reduce("ReduceMean", write.op("Mul", [parts.unit, parts.unit], "square"), found.axes(), "mean_square")
    if bound.given:
        part = write.op("Mul", [write.op("Mul", [parts.part, parts.part], "part_square"), write.number(bound.factor, "eps")], "eps_part")
        mean = write.op("Add", [mean, part], "with_eps")
    write.replace("Div", [parts.unit, write.op("Sqrt", [mean], "root")], "unit")
