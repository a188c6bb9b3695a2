"""√(x·x) → |x|: the square overflows past 256 and vanishes below 2⁻¹², the magnitude does neither."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.errors import ReplayError
from fp16fix.graph.model import Model
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings


class RootOfSquare:
    """Fires where the square is ill; the same real function, without its rounding."""

    name: ClassVar[str] = "root-of-square"
    order: ClassVar[int] = 500
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] y) <float k = {1000}>
        { a = Mul (x, k) s = Mul (a, a) y = Sqrt (s) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4] x, float[4] z) => (float[4] y) { s = Mul (x, z) y = Sqrt (s) }""",
    )

    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """Every ill square under a root."""
        for root in evidence.model.nodes():
            square = squared(root)
            if square is not None and evidence.hazards_at([square.name]):
                why = "the square leaves FP16 and its root comes back: |x| is the same"
                yield Edit(self.name, root.name, self.promise, covers=(square.name, root.name), because=why)

    def apply(self, model: Model, repair: Edit) -> None:
        """The root becomes an Abs of what was squared."""
        root = model.node_map().get(repair.node)
        square = squared(root) if root is not None else None
        if root is None or square is None:
            raise ReplayError(f"no root of a square at {repair.node!r}", where=model.name)
        root.op = "Abs"
        root.inputs[0] = square.inputs[0]


def squared(root: gs.Node) -> gs.Node | None:
    """The Mul of a tensor with itself that ``root`` reads."""
    source = root.inputs[0].inputs[0] if root.op == "Sqrt" and root.inputs[0].inputs else None
    return source if source is not None and source.op == "Mul" and source.inputs[0] is source.inputs[1] else None
