"""The profile that decides: insides of operators as a compiler makes them, read from its own layer tables (``strict.assumptions``)."""

from __future__ import annotations

from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.graph.lone import narrow
from fp16fix.graph.model import Model
from fp16fix.strict.fused import fuse


class Compiled:
    """Products, norms, softmax and reductions add in FP32; what a plan stores in FP16 on the way is rounded; FP32 products are FP32.

    An FP32 product alone between casts has FP16 weights. A Gemm is one step. Norms are rounded before scale and bias. A Softmax over a long
    axis keeps its shares and their sum in FP16.
    """

    name: ClassVar[str] = "compiled"
    sums_in_half: ClassVar[bool] = False
    of_half: ClassVar[bool] = False
    one_step: ClassVar[frozenset[str]] = frozenset({"Gemm"})

    def written(self, model: Model) -> Model:
        """As a plan stores it."""
        copy = model.copy()
        narrow(copy)
        fuse(copy)
        return copy

    def result(self, edit: Editor, node: gs.Node, raw: gs.Tensor) -> tuple[gs.Tensor, list[gs.Node]]:  # noqa: ARG002 - other profiles read them
        """As FP32 computes it."""
        return raw, []
