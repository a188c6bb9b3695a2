"""InstanceNorm written out over the spatial axes → ``InstanceNormalization``, FP32 inside; one group over channels too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.found import Found, leaking
from fp16fix.passes.rewrite.pattern import find
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, eager, is_op, node_named, producer, unmatched
from fp16fix.passes.rewrite.rules._norm import STANDARD, Norm, channel_fit, ending_at, may_be_shared, with_affine


class WrittenInstanceNorm:
    """The variance of raw pixels or depths is past FP16 where they themselves fit; the fused operator computes it in FP32."""

    name: ClassVar[str] = "instancenorm"
    order: ClassVar[int] = 20
    of_rounding: ClassVar[bool] = True
    """Mean and variance are FP32 inside."""
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,6,6] x) => (float[2,3,6,6] y) <float k = {900}, float eps = {1000}>
        { s = Mul (x, k) m = ReduceMean <axes = [2, 3]> (s) c = Sub (s, m) q = Mul (c, c) v = ReduceMean <axes = [-2, -1]> (q)
          e = Add (v, eps) d = Sqrt (e) y = Div (c, d) }""",
        """<ir_version: 8, opset_import: ["" : 18]> g (float[2,3,6,6] x) => (float[2,3,6,6] y) <float k = {900}, float eps = {1000},
        float two = {2}, int64[2] a = {2, 3}, float[3,1,1] w = {1, 2, 0.5}, float[1,3,1,1] b = {0, 1, -1}>
        { s = Mul (x, k) m = ReduceMean (s, a) c = Sub (s, m) q = Pow (c, two) v = ReduceMean (q, a) e = Add (v, eps) d = Sqrt (e)
          r = Reciprocal (d) n = Mul (c, r) z = Mul (n, w) y = Add (b, z) }""",
        # one spatial axis: it is the scale along the channels that tells it from a LayerNorm
        """<ir_version: 7, opset_import: ["" : 11]> g (float[2,3,16] x) => (float[2,3,16] y) <float k = {900}, float eps = {1000},
        float[3,1] w = {1, 2, 0.5}>
        { s = Mul (x, k) m = ReduceMean <axes = [2]> (s) c = Sub (s, m) q = Mul (c, c) v = ReduceMean <axes = [2]> (q)
          e = Add (v, eps) d = Sqrt (e) n = Div (c, d) y = Mul (n, w) }""",
        # groups: the inner norm of a GroupNorm written out
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,4,6] x) => (float[2,4,6] y) <float k = {900}, float eps = {1000},
        int64[3] in = {0, 2, -1}, int64[3] out = {2, 4, 6}>
        { s = Mul (x, k) h = Reshape (s, in) m = ReduceMean <axes = [2]> (h) c = Sub (h, m) q = Mul (c, c)
          v = ReduceMean <axes = [2]> (q) e = Add (v, eps) d = Sqrt (e) n = Div (c, d) y = Reshape (n, out) }""",
        # one group over everything but the batch
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,6,6] x) => (float[2,3,6,6] y) <float k = {900}, float eps = {1000},
        float[3,1,1] w = {1, 2, 0.5}>
        { s = Mul (x, k) m = ReduceMean <axes = [1, 2, 3]> (s) c = Sub (s, m) q = Mul (c, c) v = ReduceMean <axes = [1, 2, 3]> (q)
          e = Add (v, eps) d = Sqrt (e) n = Div (c, d) y = Mul (n, w) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        # a LayerNorm
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,16] x) => (float[2,3,16] y) <float eps = {1e-5}>
        { m = ReduceMean <axes = [2]> (x) c = Sub (x, m) q = Mul (c, c) v = ReduceMean <axes = [2]> (q) e = Add (v, eps)
          d = Sqrt (e) y = Div (c, d) }""",
        # the spatial axes, but not all of them
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,6,6] x) => (float[2,3,6,6] y) <float eps = {1e-5}>
        { m = ReduceMean <axes = [2]> (x) c = Sub (x, m) q = Mul (c, c) v = ReduceMean <axes = [2]> (q) e = Add (v, eps)
          d = Sqrt (e) y = Div (c, d) }""",
        # over the batch too, as BatchNorm in training
        """<ir_version: 7, opset_import: ["" : 13]> g (float[2,3,6,6] x) => (float[2,3,6,6] y) <float eps = {1e-5}>
        { m = ReduceMean <axes = [0, 2, 3]> (x) c = Sub (x, m) q = Mul (c, c) v = ReduceMean <axes = [0, 2, 3]> (q) e = Add (v, eps)
          d = Sqrt (e) y = Div (c, d) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """Every InstanceNorm: fused, it is one kernel with FP32 insides, ill or not. What it leaves, ``layernorm`` looks at."""
        view = Wiring(evidence.model)
        for node in evidence.model.nodes():
            norm = match(view, node)
            if norm is not None:
                found = evidence.hazards_at(norm.names)
                why = f"written out, {found[0].why}; " if found else "an engine runs it as one kernel instead of several; "
                why += "InstanceNormalization computes mean and variance in FP32 inside"
                yield Edit(self.name, norm.last.name, self.promise, covers=norm.names, because=why)

    def apply(self, model: Model, repair: Edit) -> None:
        """Put ``InstanceNormalization`` in, on a flattened view where the channels are normalised too."""
        last, view = node_named(model, repair.node), Wiring(model)
        norms = [each for each in (match(view, node) for node in ending_at(last)) if each is not None and each.last is last]
        if not norms:
            raise unmatched(model, self.name, repair.node)
        rewrite(Writer(editor_of(model), last, norms[0].x), norms[0])


def match(view: Wiring, node: gs.Node) -> Norm | None:
    """An InstanceNorm whose core ends at ``node``."""
    found = find(STANDARD, node.outputs[0]) if is_op(node, "Div", "Mul") else None
    if found is None:
        return None
    x, axes = found.tensor("x"), found.axes()
    if x.shape is None or len(x.shape) < 3 or not axes or axes[-1] != len(x.shape) - 1 or axes[0] > 2 or axes[0] < 1:
        return None
    if len(axes) != axes[-1] - axes[0] + 1 or leaking(view.is_output, found, node, may_be_shared(found)):
        return None
    return one_group(view, found, node) if axes[0] == 1 else per_channel(view, found, node)


def per_channel(view: Wiring, found: Found, core: gs.Node) -> Norm | None:
    """Over axes 2 and up; over axis 2 alone only where something says that it is no LayerNorm."""
    x = found.tensor("x")
    # A number that follows a norm over the last axis says nothing of channels.
    norm = with_affine(view, found, core, channel_fit(len(x.shape), x.shape[1], numbers=len(found.axes()) > 1 or regrouped(view, x, core)))
    if len(found.axes()) == 1 and norm.gamma is None and norm.beta is None and not regrouped(view, x, core):
        return None
    count = x.shape[1] if isinstance(x.shape[1], int) else None if norm.gamma is None else norm.gamma.size
    return None if count is None else filled(norm, int(count))


def one_group(view: Wiring, found: Found, core: gs.Node) -> Norm | None:
    """Over axes 1 and up; unless a scale or bias of the whole normalised size follows, which is a LayerNorm's."""
    reader = view.only_user(core.outputs[0])
    fit = channel_fit(len(found.tensor("x").shape), None)
    if is_op(reader, "Mul", "Add") and with_affine(view, found, core, fit).last is core:
        return None
    return filled(Norm(found, core), 1)


def regrouped(view: Wiring, x: gs.Tensor, core: gs.Node) -> bool:
    """Whether the norm stands between two Reshapes: then the middle axis counts groups."""
    reader = view.only_user(core.outputs[0])
    return producer(x, "Reshape") is not None and is_op(reader, "Reshape")


def filled(norm: Norm, count: int) -> Norm:
    """With the scale and bias that the operator demands."""
    gamma = np.ones(count, np.float32) if norm.gamma is None else norm.gamma
    beta = np.zeros(count, np.float32) if norm.beta is None else norm.beta
    return Norm(norm.found, norm.last, gamma, beta, norm.extra)


def rewrite(write: Writer, norm: Norm) -> None:
    """The fused operator in place of the last node."""
    weights, eps = norm.scale(write.edit), norm.found.number("eps")
    if norm.found.axes()[0] > 1:
        write.replace("InstanceNormalization", [norm.x, *weights], "instancenorm", epsilon=eps)
        return
    shape = write.op("Shape", [norm.x], "shape", element=7)
    flat = write.op("Reshape", [norm.x, write.integers([0, 1, -1], "flat_shape")], "flat")
    normed = write.op("InstanceNormalization", [flat, *weights], "instancenorm", epsilon=eps)
    write.replace("Reshape", [normed, shape], "unflat")
