"""The second gate: what a kernel does that holds the sums of its products in FP16, which TensorRT does not promise it will not."""

from __future__ import annotations

from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.graph.operators import PRODUCTS
from fp16fix.strict.blocks import OPSET, conv, few_terms, matmul
from fp16fix.strict.profiles.compiled import Compiled
from fp16fix.strict.profiles.pessimistic import guards


class Accumulate(Compiled):
    """FP16 products round their sum to FP16 after every 16 exact terms; a product not written in blocks is lost past Σ|a||b| = 65504.

    Scalar factors in front are applied behind the sum. Shares of attention are divided last.
    """

    name: ClassVar[str] = "accumulate"
    of_half: ClassVar[bool] = True

    def result(self, edit: Editor, node: gs.Node, raw: gs.Tensor) -> tuple[gs.Tensor, list[gs.Node]]:
        """Of a product, its sum in blocks."""
        if node.op not in PRODUCTS or few_terms(node):
            return raw, []
        writer = conv if node.op == "Conv" else matmul if node.op in {"MatMul", "Gemm"} else None
        found = writer(edit, node, raw) if writer is not None and edit.model.opset >= OPSET else None
        return guards(edit, node, raw) if found is None else found
