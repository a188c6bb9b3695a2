"""FP32 products as TF32 computes them: both operands rounded to 11 significand bits, sums in FP32 (NVIDIA A100 whitepaper, 2020)."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.graph.lone import wide_products
from fp16fix.graph.model import FLOATS, Model, element_type
from fp16fix.graph.operators import PRODUCTS
from fp16fix.half import FP32

SPLIT = np.float32(2.0**13 + 1.0)
"""Veltkamp's factor: of 24 bits it leaves 11 (Dekker 1971, *A floating-point technique for extending the available precision*)."""
OPERANDS = 2
"""A bias is added in FP32. Einsum multiplies all it has."""


def round_operands(model: Model) -> None:
    """Round, in place, what FP32 products multiply."""
    edit = Editor(model)
    held: dict[int, gs.Tensor] = {}
    for node in wide_products(model):
        assert node.op in PRODUCTS
        for index, tensor in enumerate(node.inputs if node.op == "Einsum" else node.inputs[:OPERANDS]):
            if tensor.name and element_type(tensor) in FLOATS:
                if isinstance(tensor, gs.Constant) and id(tensor) not in held:
                    held[id(tensor)] = edit.constant(f"{tensor.name}/tf32", rounded(tensor.values))
                node.inputs[index] = held[id(tensor)] if isinstance(tensor, gs.Constant) else split(edit, node, tensor)


def rounded(values: np.ndarray) -> np.ndarray:
    """To nearest, ties to even: what Veltkamp's split gives, without its overflow."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    kept = (bits + np.uint32(0x0FFF) + ((bits >> np.uint32(13)) & np.uint32(1))) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(values), kept.view(np.float32), values).astype(np.float32)


def split(edit: Editor, node: gs.Node, x: gs.Tensor) -> gs.Tensor:
    """C = 8193·x; c − (c − x), before ``node``; what overflows there, past 4e34, is NaN, and its verdict fails."""

    def emit(op: str, *inputs: gs.Tensor) -> gs.Tensor:
        out = edit.variable(f"{x.name}/tf32", FP32.onnx, x.shape)
        edit.before(node, op, f"{x.name}/tf32", list(inputs), [out])
        return out

    far = emit("Mul", x, edit.constant(f"{x.name}/split", np.asarray(SPLIT)))
    return emit("Sub", far, emit("Sub", far, x))
