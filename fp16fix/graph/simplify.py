"""onnxsim with guards: its failures become notes, interfaces, names and operators stay as they were."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

import onnx

from fp16fix.graph.operators import REORDERING

GROWTH_LIMIT = "1MB"
"""Constants larger than this are not materialised by folding (a position grid computed by Range and Expand stays computed)."""
SKIPPED = (
    "fuse_attention",
    "fuse_consecutive_concats",
    "fuse_consecutive_log_softmax",
    "fuse_consecutive_mul",
    "fuse_consecutive_reduce",
    "fuse_consecutive_reduce_unsqueeze",
    "fuse_consecutive_slices",
    "fuse_gelu",
    "fuse_gqa",
    "fuse_layer_norm",
    "fuse_lp_normalization",
    "fuse_matmul_add_bias_into_gemm",
    "fuse_matmul_add_bias_into_gemm_batched",
    "fuse_matmul_into_conv",
    "fuse_pad_into_pool",
    "fuse_preceding_mul_into_conv",
    "fuse_qkv",
    "fuse_reduce_sum_into_conv",
    "fuse_rms_norm",
    "fuse_rope",
    "fuse_transpose_into_gemm",
)
"""onnxsim's fusions that rename what the user knows by name, or end in com.microsoft operators that no TensorRT parses. Fusing a norm
is a repair: it is decided by a rule, with its reason, and reported."""
NEEDLESS = ("torch", "sympy")
"""Optional to onnxsim 0.8: a second and 230 MB, and a third of a second."""
HARMLESS = REORDERING | {"Constant"}
"""Operators that simplification may bring in where there were none."""


def simplify(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The simplified proto and notes; the proto given may be consumed.

    Inputs and outputs keep names, order, types and shapes; on any failure the model is used as it was.
    """
    onnxsim = light("onnxsim")
    before = len(proto.graph.node)
    try:
        simplified, _ = onnxsim.simplify(proto, check_n=0, tensor_size_threshold=GROWTH_LIMIT, skipped_optimizers=list(SKIPPED))
        if operators(simplified) - operators(proto) - HARMLESS:
            # A fusion this version has and SKIPPED does not know: fold constants and leave the rest.
            simplified, _ = onnxsim.simplify(proto, check_n=0, tensor_size_threshold=GROWTH_LIMIT, perform_optimization=False)
    except Exception as error:  # noqa: BLE001 - the C++ core raises whatever it likes, and the model is fine without it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        return proto, [f"onnxsim failed ({reason}); the graph is used as it is"]
    if interface(simplified) != interface(proto):
        return proto, ["onnxsim changed the model's interface; the graph is used as it is"]
    after = len(simplified.graph.node)
    return simplified, [f"onnxsim: {before} → {after} nodes"] if after != before else []


def light(name: str) -> ModuleType:
    """Import a module that would import what is ``NEEDLESS``, where that is installed, for parts of it that are not used here.

    That can be imported afterwards as ever.
    """
    hidden = [each for each in NEEDLESS if each not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes an import an ImportError (Python's import system)
    try:
        return import_module(name)
    finally:
        for each in hidden:
            del sys.modules[each]


def interface(proto: onnx.ModelProto) -> list[tuple[str, str, int]]:
    """Role, name and element type of every input and output, in order."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    sides = (("in", proto.graph.input), ("out", proto.graph.output))
    return [(side, v.name, v.type.tensor_type.elem_type) for side, values in sides for v in values if v.name not in constants]


def operators(proto: onnx.ModelProto) -> set[str]:
    """Operators of the main graph, with their domain where it is not ONNX's."""
    return {f"{node.domain}.{node.op_type}" if node.domain not in {"", "ai.onnx"} else node.op_type for node in proto.graph.node}
