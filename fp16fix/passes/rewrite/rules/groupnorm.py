"""Reshape → InstanceNormalization → Reshape → Mul → Add, as exporters write GroupNorm → ``GroupNormalization``, from opset 21 on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model, constant
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.found import Found, leaking
from fp16fix.passes.rewrite.pattern import Op, Tensor, Weight, find
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, eager, is_op, node_named, producer, unmatched
from fp16fix.passes.rewrite.rules._norm import Norm, channel_fit, ending_at, with_affine

SINCE = 21
"""Opset from which GroupNormalization takes one scale a channel; the opset is not raised for it: InstanceNormalization holds in FP16."""
NORMED = Op("InstanceNormalization", Op("Reshape", Tensor("x"), Tensor("inner")), Weight("scale"), Weight("bias"))
GROUPED = Op("Reshape", NORMED, Tensor("outer"))


class WrittenGroupNorm:
    """InstanceNormalization holds in FP16 already; GroupNormalization saves an engine two reshapes and storing what lies between."""

    name: ClassVar[str] = "groupnorm"
    order: ClassVar[int] = 40
    of_rounding: ClassVar[bool] = True
    """Mean and variance are FP32 inside."""
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        # what the affine parts add and take away again
        """<ir_version: 10, opset_import: ["" : 21]> g (float[2,4,6,6] x) => (float[2,4,6,6] y) <int64[3] in = {0, 2, -1},
        int64[4] out = {2, 4, 6, 6}, float[2] s = {1, 2}, float[2] t = {60, -60}, float[4,1,1] w = {1000, 800, 500, 1000},
        float[4,1,1] b = {-60000, -48000, 30000, 60000}>
        { h = Reshape (x, in) n = InstanceNormalization <epsilon = 0.25> (h, s, t) u = Reshape (n, out) z = Mul (u, w)
          y = Add (z, b) }""",
        # computed shapes, an inner scale that the outer one takes back, no bias behind
        """<ir_version: 10, opset_import: ["" : 22]> g (float[N,4,6] x) => (float[N,4,6] y) <int64[3] in = {0, 2, -1},
        float[2] s = {40000, 60000}, float[2] t = {0, 2}, float[4,1] w = {0.01, 0.02, 0.005, 0.01}>
        { h = Reshape (x, in) n = InstanceNormalization <epsilon = 0.25> (h, s, t) o = Shape (x) u = Reshape (n, o) y = Mul (w, u) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        # before opset 21
        """<ir_version: 8, opset_import: ["" : 18]> g (float[2,4,6,6] x) => (float[2,4,6,6] y) <int64[3] in = {0, 2, -1},
        int64[4] out = {2, 4, 6, 6}, float[2] one = {1, 1}, float[2] zero = {0, 0}>
        { h = Reshape (x, in) n = InstanceNormalization <epsilon = 0.25> (h, one, zero) y = Reshape (n, out) }""",
        # another shape comes out
        """<ir_version: 10, opset_import: ["" : 21]> g (float[2,4,6,6] x) => (float[2,4,36] y) <int64[3] in = {0, 2, -1},
        int64[3] out = {2, 4, 36}, float[2] one = {1, 1}, float[2] zero = {0, 0}>
        { h = Reshape (x, in) n = InstanceNormalization <epsilon = 0.25> (h, one, zero) y = Reshape (n, out) }""",
        # the batch is folded into the groups
        """<ir_version: 10, opset_import: ["" : 21]> g (float[2,4,6,6] x) => (float[2,4,6,6] y) <int64[3] in = {1, 4, -1},
        int64[4] out = {2, 4, 6, 6}, float[4] one = {1, 1, 1, 1}, float[4] zero = {0, 0, 0, 0}>
        { h = Reshape (x, in) n = InstanceNormalization <epsilon = 0.25> (h, one, zero) y = Reshape (n, out) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """Every GroupNorm of a model that is at opset 21 already."""
        view = Wiring(evidence.model)
        for node in evidence.model.nodes():
            norm = match(view, node)
            if norm is not None:
                why = "an engine runs GroupNormalization as one layer, FP32 inside, instead of two reshapes, a norm and its affine part"
                yield Edit(self.name, norm.last.name, self.promise, covers=norm.names, because=why)

    def apply(self, model: Model, repair: Edit) -> None:
        """Put ``GroupNormalization`` in, the inner scale and bias folded into the outer ones."""
        last, view = node_named(model, repair.node), Wiring(model)
        norms = [each for each in (match(view, node) for node in ending_at(last)) if each is not None and each.last is last]
        if not norms:
            raise unmatched(model, self.name, repair.node)
        norm = norms[0]
        write = Writer(editor_of(model), last, norm.x)
        groups, eps = norm.found.weight("scale").size, inner(norm.found).attrs.get("epsilon", 1e-5)
        write.replace("GroupNormalization", [norm.x, *norm.scale(write.edit)], "groupnorm", num_groups=groups, epsilon=eps)


def inner(found: Found) -> gs.Node:
    """The InstanceNormalization of a match."""
    return next(node for node in found.nodes if node.op == "InstanceNormalization")


def match(view: Wiring, node: gs.Node) -> Norm | None:
    """A GroupNorm whose second Reshape is ``node``."""
    found = find(GROUPED, node.outputs[0]) if view.model.opset >= SINCE and is_op(node, "Reshape") else None
    if found is None or leaking(view.is_output, found, node):
        return None
    x, groups = found.tensor("x"), found.weight("scale").size
    if x.shape is None or len(x.shape) < 3 or not isinstance(x.shape[1], int) or x.shape[1] % groups:
        return None
    if not keeps_batch(x, found.tensor("inner"), groups) or not same_shape(x, node, found.tensor("outer")):
        return None
    norm = with_affine(view, found, node, channel_fit(len(x.shape), x.shape[1]))
    repeat = x.shape[1] // groups
    scale, bias = np.repeat(found.weight("scale"), repeat), np.repeat(found.weight("bias"), repeat)
    gamma = np.ones_like(scale) if norm.gamma is None else norm.gamma
    beta = np.zeros_like(bias) if norm.beta is None else norm.beta
    return Norm(found, norm.last, gamma * scale, gamma * bias + beta, norm.extra)


def keeps_batch(x: gs.Tensor, shape: gs.Tensor, groups: int) -> bool:
    """Whether the first Reshape is to [N, groups, …] of the same N."""
    sizes = constant(shape)
    if sizes is None or sizes.size < 3 or int(sizes[1]) != groups:
        return False
    return int(sizes[0]) == 0 or (isinstance(x.shape[0], int) and int(sizes[0]) == x.shape[0])


def same_shape(x: gs.Tensor, node: gs.Node, shape: gs.Tensor) -> bool:
    """Whether the second Reshape gives x's shape back: it takes it from x, or both are known and equal."""
    source = producer(shape, "Shape")
    if source is not None and source.inputs[0] is x and not {"start", "end"} & set(source.attrs):
        return True
    after = node.outputs[0].shape
    return after is not None and all(isinstance(size, int) for size in after) and list(after) == list(x.shape)
