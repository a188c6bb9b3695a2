"""The default profile, as TensorRT documents and its parser shows: products, norms, softmax and reductions compute in FP32 inside."""

from __future__ import annotations

from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.graph.model import Model


class Engine:
    """Insides of operators are what TensorRT's parser makes of them, see ``strict.insides``: mostly one layer that computes in FP32."""

    name: ClassVar[str] = "engine"
    sums_in_half: ClassVar[bool] = False

    def written(self, model: Model) -> Model:
        """As it is."""
        return model

    def result(self, edit: Editor, node: gs.Node, raw: gs.Tensor) -> tuple[gs.Tensor, list[gs.Node]]:  # noqa: ARG002 - other profiles read them
        """As FP32 computes it."""
        return raw, []
