"""LayerNorm written out, over trailing axes or over the channels of a feature map → ``LayerNormalization``, FP32 inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model
from fp16fix.graph.opset import obstacle, raise_in_place
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.found import Found, leaking
from fp16fix.passes.rewrite.pattern import Any, find, search
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, eager, is_op, node_named, range_of, rank, unmatched
from fp16fix.passes.rewrite.rules._norm import (
    FLOORED,
    MOMENTS,
    STANDARD,
    Norm,
    channel_fit,
    ending_at,
    may_be_shared,
    trailing_fit,
    with_affine,
)

SINCE = 17
"""Opset that brought LayerNormalization."""
UNFELT = 2.0**-12
"""A floor that is this much less than any variance seen changes none by more than FP16's own rounding when it is added instead."""
NEAR = 5
"""Matched nodes from which a user would ask why it is no LayerNorm: Div, Sub, ReduceMean, and two of what follows."""


class WrittenLayerNorm:
    """Squares of what a LayerNorm reads overflow past 256 and vanish under 2⁻¹²; the fused operator computes them in FP32."""

    name: ClassVar[str] = "layernorm"
    order: ClassVar[int] = 30
    of_rounding: ClassVar[bool] = True
    """Mean and variance are FP32 inside."""
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        # Pow form, axes as attribute, affine
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,8] x) => (float[2,3,8] y) <float k = {900}, float two = {2},
        float eps = {1e-5}, float[8] w = {1, 2, 1, 0.5, 1, 1, 3, 1}, float[8] b = {0, 1, 0, 0.5, 0, 0, -1, 0}>
        { s = Mul (x, k) m = ReduceMean <axes = [-1]> (s) c = Sub (s, m) q = Pow (c, two) v = ReduceMean <axes = [-1]> (q)
          e = Add (v, eps) d = Sqrt (e) n = Div (c, d) a = Mul (n, w) y = Add (a, b) }""",
        # Mul form, positive axis, Reciprocal, one Sub for each use, gamma first, eps that vanishes
        """<ir_version: 7, opset_import: ["" : 11]> g (float[2,3,8] x) => (float[2,3,8] y) <float k = {3e-5}, float eps = {1e-12},
        float[1,1,8] w = {1, 2, 1, 0.5, 1, 1, 3, 1}>
        { s = Mul (x, k) m = ReduceMean <axes = [2]> (s) c = Sub (s, m) f = Sub (s, m) q = Mul (f, f) v = ReduceMean <axes = [2]> (q)
          e = Add (eps, v) d = Sqrt (e) r = Reciprocal (d) n = Mul (c, r) y = Mul (w, n) }""",
        # axes as input, Pow −0.5, two axes, a scalar weight
        """<ir_version: 8, opset_import: ["" : 18]> g (float[2,3,4,8] x) => (float[2,3,4,8] y) <float k = {900}, float two = {2},
        float half = {-0.5}, float eps = {1000}, float w = {3}, int64[2] axes = {-2, -1}>
        { s = Mul (x, k) m = ReduceMean (s, axes) c = Sub (s, m) q = Pow (c, two) v = ReduceMean (q, axes) e = Add (v, eps)
          i = Pow (e, half) n = Mul (i, c) y = Mul (n, w) }""",
        # TensorFlow's moments
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,8] x) => (float[2,3,8] y) <float k = {900}, float eps = {1000},
        float[8] w = {1, 2, 1, 0.5, 1, 1, 3, 1}, float[8] b = {0, 1, 0, 0.5, 0, 0, -1, 0}>
        { s = Mul (x, k) m = ReduceMean <axes = [2]> (s) c = Sub (s, m) q = Mul (c, c) v = ReduceMean <axes = [2]> (q) e = Add (v, eps)
          d = Sqrt (e) r = Reciprocal (d) f = Mul (r, w) p = Mul (s, f) g = Mul (m, f) o = Sub (b, g) y = Add (p, o) }""",
        # the variance as a difference of moments
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,8] x) => (float[2,3,8] y)
        <float k = {6}, float two = {2}, float zero = {0}, float eps = {0.1}>
        { s = Add (x, k) m = ReduceMean <axes = [-1]> (s) p = Pow (s, two) q = ReduceMean <axes = [-1]> (p) h = Mul (m, m)
          u = Sub (q, h) v = Max (u, zero) e = Add (v, eps) d = Sqrt (e) c = Sub (s, m) y = Div (c, d) }""",
        # channel first, with weights [C, 1, 1]
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,4,3,5] x) => (float[2,4,3,5] y) <float k = {900}, float two = {2},
        float eps = {1000}, float[4,1,1] w = {1, 2, 1, 0.5}, float[1,4,1,1] b = {0, 1, 0, 0.5}>
        { s = Mul (x, k) m = ReduceMean <axes = [1]> (s) c = Sub (s, m) q = Pow (c, two) v = ReduceMean <axes = [1]> (q)
          e = Add (v, eps) d = Sqrt (e) n = Div (c, d) a = Mul (w, n) y = Add (a, b) }""",
        # one over the root, small squares beside an eps of their size
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,8] x) => (float[2,8] y)
        <float k = {1e-4}, float one = {1}, float eps = {1e-8}>
        { s = Mul (x, k) m = ReduceMean <axes = [1]> (s) c = Sub (s, m) q = Mul (c, c) v = ReduceMean <axes = [1]> (q) e = Add (v, eps)
          d = Sqrt (e) r = Div (one, d) y = Mul (c, r) }""",
        # a floor in place of an eps, as tf2onnx writes what Keras does
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,8] x) => (float[2,3,8] y) <float k = {900}, float top = {inf},
        float floor = {1e-12}, float[8] w = {1, 2, 1, 0.5, 1, 1, 3, 1}, float[8] b = {0, 1, 0, 0.5, 0, 0, -1, 0}>
        { s = Mul (x, k) m = ReduceMean <axes = [-1]> (s) c = Sub (s, m) q = Mul (c, c) v = ReduceMean <axes = [-1]> (q)
          l = Min (v, top) e = Max (l, floor) d = Sqrt (e) n = Div (c, d) a = Mul (n, w) y = Add (a, b) }""",
        # inside a branch
        """<ir_version: 8, opset_import: ["" : 13]> g (float[2,8] x, bool[1] p) => (float[2,8] y) <float k = {900}, float eps = {1e-5}>
        { z = Squeeze (p) y = If (z) <then_branch = yes () => (float[2,8] n) { s = Mul (x, k) m = ReduceMean <axes = [1]> (s) c = Sub (s, m)
          q = Mul (c, c) v = ReduceMean <axes = [1]> (q) e = Add (v, eps) d = Sqrt (e) n = Div (c, d) },
          else_branch = no () => (float[2,8] o) { o = Relu (x) }> }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        # the cube is no variance
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,8] x) => (float[2,3,8] y) <float three = {3}, float eps = {1e-5}>
        { m = ReduceMean <axes = [-1]> (x) c = Sub (x, m) q = Pow (c, three) v = ReduceMean <axes = [-1]> (q) e = Add (v, eps)
          d = Sqrt (e) y = Div (c, d) }""",
        # mean and variance over different axes
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,8] x) => (float[2,3,8] y) <float two = {2}, float eps = {1e-5}>
        { m = ReduceMean <axes = [-1]> (x) c = Sub (x, m) q = Pow (c, two) v = ReduceMean <axes = [1]> (q) e = Add (v, eps)
          d = Sqrt (e) y = Div (c, d) }""",
        # eps outside the root
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,8] x) => (float[2,3,8] y) <float two = {2}, float eps = {1e-5}>
        { m = ReduceMean <axes = [-1]> (x) c = Sub (x, m) q = Pow (c, two) v = ReduceMean <axes = [-1]> (q) d = Sqrt (v)
          e = Add (d, eps) y = Div (c, e) }""",
        # a floor that variances fall under
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,8] x) => (float[2,3,8] y) <float floor = {0.5}>
        { m = ReduceMean <axes = [-1]> (x) c = Sub (x, m) q = Mul (c, c) v = ReduceMean <axes = [-1]> (q) e = Max (v, floor)
          d = Sqrt (e) y = Div (c, d) }""",
        # over the batch
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,8] x) => (float[2,3,8] y) <float two = {2}, float eps = {1e-5}>
        { m = ReduceMean <axes = [0]> (x) c = Sub (x, m) q = Pow (c, two) v = ReduceMean <axes = [0]> (q) e = Add (v, eps)
          d = Sqrt (e) y = Div (c, d) }""",
        # the variance is an output
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,8] x) => (float[2,3,8] y, float[2,3,1] v)
        <float two = {2}, float eps = {1e-5}> { m = ReduceMean <axes = [-1]> (x) c = Sub (x, m) q = Pow (c, two)
          v = ReduceMean <axes = [-1]> (q) e = Add (v, eps) d = Sqrt (e) y = Div (c, d) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """Every LayerNorm: fused, it is one kernel with FP32 insides, ill or not."""
        view = Wiring(evidence.model)
        stuck: str | None = None
        for node in evidence.model.nodes():
            norm = match(view, node)
            if isinstance(norm, str):
                yield Refusal(node.name, self.name, norm)
            elif norm is not None and (felt := floor_felt(evidence, norm.found)):
                yield Refusal(norm.last.name, self.name, felt)
            elif norm is not None:
                stuck = obstacle(evidence.model, SINCE) if stuck is None else stuck
                if stuck:
                    yield Refusal(norm.last.name, self.name, stuck)
                else:
                    promise = Promise.ALTERED if norm.found.has("floor") else self.promise
                    yield Edit(self.name, norm.last.name, promise, covers=norm.names, because=because(evidence, norm))

    def apply(self, model: Model, repair: Edit) -> None:
        """Raise the opset if need be and put ``LayerNormalization`` in; around it two Transposes where channels come first."""
        raise_in_place(model, SINCE)
        last, view = node_named(model, repair.node), Wiring(model)
        norms = [each for each in (match(view, node) for node in ending_at(last)) if isinstance(each, Norm) and each.last is last]
        if not norms:
            raise unmatched(model, self.name, repair.node)
        rewrite(Writer(editor_of(model), last, norms[0].x), norms[0])


def floor_felt(evidence: Findings, found: Found) -> str:
    """Why a floor of the variance is not an eps: calibration saw variances so small that adding it would show; empty if it did not."""
    if not found.has("floor"):
        return ""
    floor, seen = found.number("floor"), range_of(evidence, found.tensor("variance"))
    if seen is not None and seen.low * UNFELT >= floor:
        return ""
    least = "unknown" if seen is None else f"{seen.low:.3g}"
    return f"it keeps the variance at {floor:.3g} and more, which a fused operator adds; the least that calibration saw is {least}"


def because(evidence: Findings, norm: Norm) -> str:
    """What is wrong, or that the fused form is merely better."""
    raising = f" (opset {evidence.model.opset} becomes {SINCE})" if evidence.model.opset < SINCE else ""
    found = evidence.hazards_at(norm.names)
    if found:
        return f"written out, {found[0].why}; LayerNormalization computes mean and variance in FP32 inside{raising}"
    return f"an engine runs LayerNormalization as one kernel, with mean and variance in FP32, and the written-out form as several{raising}"


def match(view: Wiring, node: gs.Node) -> Norm | str | None:
    """A LayerNorm whose core ends at ``node``, why it only looks like one, or None."""
    if not is_op(node, "Div", "Mul", "Add"):
        return None
    if node.op == "Add":
        found = find(MOMENTS, node.outputs[0])
        return None if found is None else settled(view, found, node)
    said = search(Any(STANDARD, FLOORED), node.outputs[0], NEAR)
    return settled(view, said, node) if isinstance(said, Found) else said


def settled(view: Wiring, found: Found, core: gs.Node) -> Norm | str:
    """The norm with its affine part, or what forbids it."""
    x, axes = found.tensor("x"), found.axes()
    dimensions = rank(x)
    trailing = (-1,) if dimensions is None else tuple(range(dimensions - len(axes), dimensions))
    shared = leaking(view.is_output, found, core, may_be_shared(found))
    if shared:
        return f"the result of {shared!r} inside the norm is read elsewhere too"
    if dimensions is not None and axes == (1,) and dimensions > 2:
        norm = affine(view, found, core, channels_first=True)
    elif axes and axes == trailing:
        norm = affine(view, found, core, channels_first=False)
    else:
        return f"it normalises axes {axes} of {dimensions if dimensions is not None else 'an unknown number'}; no fused operator does"
    if norm is None:
        return "its scale or bias does not fit the fused operator, or the sizes of the normalised axes are unknown"
    return norm


def affine(view: Wiring, found: Found, core: gs.Node, *, channels_first: bool) -> Norm | None:
    """With scale and bias as vectors (None: no such vectors)."""
    x, axes = found.tensor("x"), found.axes()
    dims = [None] if x.shape is None else [x.shape[axis] for axis in axes]
    fit = channel_fit(len(x.shape), dims[0]) if channels_first else trailing_fit(dims)
    if core.op == "Add":
        gamma = fit(found.weight("gamma")) if found.has("gamma") else None
        beta = fit(found.weight("beta"))
        fitting = beta is not None and (gamma is not None or not found.has("gamma"))
        norm = Norm(found, core, gamma, beta) if fitting else None
    else:
        norm = with_affine(view, found, core, fit)
    if norm is None or (norm.gamma is None and not all(isinstance(size, int) for size in dims)):
        return None
    ones = np.ones([int(size) for size in dims if isinstance(size, int)], np.float32) if norm.gamma is None else norm.gamma
    return Norm(found, norm.last, ones, norm.beta, norm.extra)


def rewrite(write: Writer, norm: Norm) -> None:
    """The fused operator in place of the last node."""
    x, axes, eps = norm.x, norm.found.axes(), norm.found.number("eps", norm.found.number("floor"))
    weights = norm.scale(write.edit)
    dimensions = rank(x)
    if dimensions is None or axes[-1] == dimensions - 1:
        axis = -len(axes)
        write.replace("LayerNormalization", [x, *weights], "layernorm", axis=axis, epsilon=eps)
        return
    last = [0, *range(2, dimensions), 1]
    moved = write.op("Transpose", [x], "channels_last", perm=last)
    normed = write.op("LayerNormalization", [moved, *weights], "layernorm", axis=-1, epsilon=eps)
    write.replace("Transpose", [normed], "channels_first", perm=[last.index(axis) for axis in range(dimensions)])
