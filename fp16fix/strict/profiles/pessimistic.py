"""The pessimistic profile: operators with function bodies are written out, and sums are held in FP16.

*Compiled*, the profile that decides, is what plans show: products accumulate in FP32, norms, softmax and reductions compute in FP32
inside. *Pessimistic* asks whether a graph would survive a runtime that does not: every intermediate of a function body is stored
in FP16, and a sum is lost once Σ|terms| passes 65504, the bound that holds for any order of summation.
LayerNormalization, RMSNormalization and GroupNormalization keep FP32 insides here too when ``stash_type`` says so (ONNX operator
documentation), InstanceNormalization because ONNX gives it no body to write out.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx
import onnx.shape_inference
import onnx_graphsurgeon as gs

from fp16fix.graph import quick
from fp16fix.graph.edit import Editor
from fp16fix.graph.inline import inline_functions
from fp16fix.graph.model import Model, element_type
from fp16fix.graph.names import make_names_unique
from fp16fix.graph.operators import AVERAGES, PRODUCTS, SUMS, WRITTEN_OUT, operator
from fp16fix.graph.session import infer_types, parted
from fp16fix.half import BF16, FP16, FP32

OPTIONAL_C = 11
"""Opset from which Gemm can do without C (ONNX operator changelog)."""


class Pessimistic:
    """Everything stepwise in FP16."""

    name: ClassVar[str] = "pessimistic"
    sums_in_half: ClassVar[bool] = True
    of_half: ClassVar[bool] = True
    one_step: ClassVar[frozenset[str]] = frozenset()

    def written(self, model: Model) -> Model:
        """Function bodies inlined."""
        inlined = written_out(model)
        return inlined.copy() if inlined is model else inlined

    def result(self, edit: Editor, node: gs.Node, raw: gs.Tensor) -> tuple[gs.Tensor, list[gs.Node]]:
        """Infinite where a sum may have been."""
        return guards(edit, node, raw) if node.op in SUMS | PRODUCTS else (raw, [])


def written_out(model: Model) -> Model:
    """The typed graph with function bodies of FP16 nodes inlined, itself if there are none; weights are lent through, not copied."""
    opset = model.opset
    ids = {
        ("", node.op)
        for node in model.nodes()
        if node.op in WRITTEN_OUT and node.outputs and element_type(node.outputs[0]) in (FP16.onnx, BF16.onnx) and has_body(node.op, opset)
    }
    if not ids:
        return model
    proto, weights = parted(model)
    proto = inline_functions(proto, sorted(ids))
    proto = onnx.shape_inference.infer_shapes(proto)
    graph = gs.import_onnx(proto)
    inlined = Model(graph, model.name, model.digest, io=dict(model.io))
    for tensor in inlined.tensors().values():
        if isinstance(tensor, gs.Constant) and tensor.name in weights:
            tensor.values = weights[tensor.name]
    from fp16fix.graph.load import inline_constants

    for each in inlined.graphs():
        inline_constants(each)
    make_names_unique(inlined)
    infer_types(inlined)
    return inlined


def has_body(op: str, opset: int) -> bool:
    """Whether ONNX defines the operator as a function at this opset."""
    schema: Any = onnx.defs.get_schema(op, opset)
    return bool(schema.has_function or schema.has_context_dependent_function)


def guards(edit: Editor, node: gs.Node, raw: gs.Tensor) -> tuple[gs.Tensor, list[gs.Node]]:
    """The node's raw result with ±inf wherever Σ|terms| passes 65504, and the nodes that compute that."""
    nodes: list[gs.Node] = []

    def emit(op: str, inputs: list[gs.Tensor], element: int = FP32.onnx, **attrs: object) -> gs.Tensor:
        out = edit.variable(f"{node.name}/bound", element)
        nodes.append(quick.node(op, edit.fresh(f"{node.name}/bound"), attrs=dict(attrs), inputs=inputs, outputs=[out]))
        return out

    terms = 2 if node.op in PRODUCTS else 1
    floats = [index for index, t in enumerate(node.inputs) if t.name and element_type(t) in (FP32.onnx, FP16.onnx, BF16.onnx)]
    bound_inputs = list(node.inputs)
    for index in floats[: len(floats) if node.op == "Einsum" else terms]:
        bound_inputs[index] = emit("Abs", [node.inputs[index]])
    if node.op in PRODUCTS and operator(node.op).bias is not None:
        bound_inputs = bound_inputs[: operator(node.op).bias]
    if node.op == "Gemm" and edit.model.opset < OPTIONAL_C:
        bound_inputs.append(edit.constant(f"{node.name}/nothing", np.zeros((1, 1), np.float32)))
    attrs = {key: value for key, value in node.attrs.items() if not (node.op == "Gemm" and key in {"alpha", "beta"})}
    bound = emit(node.op, bound_inputs, **attrs)
    if node.op in AVERAGES:
        size = emit("Div", [emit("Cast", [emit("Size", [node.inputs[0]], 7)], to=1), emit("Cast", [emit("Size", [raw], 7)], to=1)])
        bound = emit("Mul", [bound, size])
    lost = emit("Greater", [bound, edit.constant(f"{node.name}/limit", np.asarray(FP16.largest, np.float32))], 9)
    infinite = edit.constant(f"{node.name}/inf", np.asarray(np.inf, np.float32))
    return emit("Where", [lost, infinite, raw]), nodes
