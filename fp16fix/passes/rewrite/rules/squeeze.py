"""Squeeze without axes → with those that calibration saw to be 1: TensorRT fixes ranks when it builds, and asks for them.

Without axes it refuses the plan if any dimension that it does not know may be 1 (IShuffleLayer, ISqueezeLayer).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model, Node
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Writer, eager, is_op, node_named, range_of


class SqueezeAxes:
    """A Squeeze that leaves its axes to the run has no rank for a builder."""

    name: ClassVar[str] = "squeeze-axes"
    order: ClassVar[int] = 15
    promise: ClassVar[Promise] = Promise.EXACT
    for_builder: ClassVar[bool] = True
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[n,1,8] x) => (float[a,b] y) { s = Squeeze (x) y = Relu (s) }""",
        """<ir_version: 7, opset_import: ["" : 12]> g (float[n,1,8] x) => (float[a,b] y) { s = Squeeze (x) y = Relu (s) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,1,8] x) => (float[4,8] y) { s = Squeeze (x) y = Relu (s) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[n,1,8] x) => (float[a,b] y) <int64[1] a = {1}>
        { s = Squeeze (x, a) y = Relu (s) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """Every Squeeze without axes of a tensor that is not static and whose shape was seen."""
        for node in evidence.model.nodes():
            if not is_op(node, "Squeeze") or has_axes(node) or is_static(node):
                continue
            seen = range_of(evidence, node.inputs[0])
            axes = [axis for axis, size in enumerate(seen.shape) if size == 1] if seen is not None else []
            if axes:
                why = f"its axes are left to the run, and a builder must know them: {', '.join(map(str, axes))}, of size 1 in the samples"
                values = tuple((f"axis {k}", float(axis)) for k, axis in enumerate(axes))
                yield Edit(self.name, node.name, self.promise, covers=(node.name,), values=values, because=why)

    def apply(self, model: Model, repair: Edit) -> None:
        """Say the axes."""
        node = node_named(model, repair.node, "Squeeze")
        inputs, attrs = Writer(editor_of(model), node, node.inputs[0]).axes("axes", [int(axis) for _, axis in repair.values], 13)
        while len(node.inputs) > 1:
            node.inputs.pop()
        node.inputs.extend(inputs)
        node.attrs.update(attrs)


def has_axes(node: Node) -> bool:
    """As an attribute or as an input."""
    return bool(node.attrs.get("axes")) or (len(node.inputs) > 1 and bool(node.inputs[1].name))


def is_static(node: Node) -> bool:
    """Whether a builder can work its axes out."""
    shape = node.inputs[0].shape
    return shape is not None and all(isinstance(size, int) for size in shape)
