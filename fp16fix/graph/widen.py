"""A model that arrives mixed (FP16/BF16 tensors, Casts between) → the FP32 function it means, with the author's placement remembered."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph import quick
from fp16fix.graph.edit import redirect
from fp16fix.graph.model import FLOATS, Model, element_type
from fp16fix.graph.operators import TYPED_BY_ATTRIBUTE
from fp16fix.graph.ops import is_float_node
from fp16fix.half import BF16, FP16, FP32


def widen(model: Model) -> None:
    """Make every float tensor FP32, in place.

    Casts between floats go; what they said is kept: ``model.placed`` names the nodes that the author put in FP32 or BF16 (in a
    model that has FP16 nodes, an FP32 node is a decision), ``model.io`` the element types of inputs and outputs.
    """
    model.io = {t.name: element_type(t) for t in (*model.graph.inputs, *model.graph.outputs) if element_type(t) in FLOATS}
    low = any(element_type(t) in (FP16.onnx, BF16.onnx) for node in model.nodes() for t in node.outputs if t.name)
    if low:
        model.placed = placement(model)
    drop_casts(model)
    for graph in model.graphs():
        for node in graph.nodes:
            widen_attributes(node)
        for tensor in (*graph.inputs, *graph.outputs, *(t for node in graph.nodes for t in (*node.inputs, *node.outputs))):
            if tensor.name and element_type(tensor) in FLOATS and element_type(tensor) != FP32.onnx:
                if isinstance(tensor, gs.Constant):
                    tensor.values = np.asarray(tensor.values).astype(np.float32)
                    tensor._export_dtype = None  # noqa: SLF001 - its values say it from here on
                else:
                    tensor.dtype = np.dtype(np.float32)


def placement(model: Model) -> dict[str, str]:
    """Nodes that compute in FP32 or BF16 in a mixed graph."""
    placed = {}
    for node in model.nodes():
        if node.op == "Cast" or not is_float_node(node):
            continue
        own = {element_type(t) for t in node.outputs if t.name} & set(FLOATS)
        if FP32.onnx in own:
            placed[node.name] = FP32.name
        elif BF16.onnx in own:
            placed[node.name] = BF16.name
    return placed


def drop_casts(model: Model) -> None:
    """Remove Casts from float to float; one that feeds a graph output becomes Identity, so that the name stays."""
    graphs = list(model.graphs())
    for graph in graphs:
        outputs = {id(t) for t in graph.outputs}
        kept = []
        for node in graph.nodes:
            if node.op != "Cast" or element_type(node.inputs[0]) not in FLOATS or element_type(node.outputs[0]) not in FLOATS:
                kept.append(node)
                continue
            source, target = node.inputs[0], node.outputs[0]
            if id(target) in outputs:
                node.op, node.attrs = "Identity", {}
                kept.append(node)
                continue
            redirect(target, source, outputs_of=graphs)
            node.inputs.clear()
            node.outputs.clear()
        graph.nodes[:] = kept


def widen_attributes(node: gs.Node) -> None:
    """Output types that an attribute states."""
    if node.op not in TYPED_BY_ATTRIBUTE or not node.outputs or element_type(node.outputs[0]) not in FLOATS:
        return
    if node.op == "Cast":
        node.attrs["to"] = FP32.onnx
    elif node.op == "ConstantOfShape" and isinstance(node.attrs.get("value"), gs.Constant):
        value = node.attrs["value"]
        node.attrs["value"] = quick.constant(value.name, np.asarray(value.values).astype(np.float32))
    elif "dtype" in node.attrs:
        node.attrs["dtype"] = FP32.onnx
