"""In: a model and inputs. Out: what it computes when every float tensor is binary16, by a rewrite of its own (no fp16fix inside).

ONNX Runtime's CPU provider computes FP16 nodes in FP32, so the graph stays FP32 and every float tensor goes through a pair of
Casts, to FLOAT16 and back, where it is produced; weights and inputs are rounded beforehand. Insides of an operator stay FP32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
import onnxruntime as ort
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

from .case import Array, Feeds

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def strict(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every float tensor that a node produces or an initializer holds is rounded to binary16.

    FP16 parts of the model are retyped to FP32 first, so a model that is already mixed becomes FP16 throughout, whatever its
    own Casts say. Inputs are not touched: round them with `half`. Raises ValueError for a tensor whose type is unknown.
    """
    typed = onnx.shape_inference.infer_shapes(model, check_type=True)
    known = _types(typed.graph)
    _rewrite(typed.graph, known)
    return typed


def half(array: Array) -> Array:
    """Float arrays rounded to the nearest binary16 (past 65504: inf), as float32; other arrays unchanged."""
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32) if array.dtype.kind == "f" else array


def run(model: onnx.ModelProto, samples: Iterable[Feeds]) -> dict[str, Array]:
    """Outputs by name on ONNX Runtime's CPU provider, unoptimised, one thread; the samples' values are joined in one flat array."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    rows = [session.run(names, feeds) for feeds in samples]
    return {name: np.concatenate([np.ravel(row[index]) for row in rows]) for index, name in enumerate(names)}


def run_strict(model: onnx.ModelProto, samples: Iterable[Feeds], wide_inputs: tuple[str, ...] = ()) -> dict[str, Array]:
    """Outputs of `strict(model)`; every float input but those named in `wide_inputs` is rounded too."""
    rounded = ({name: array if name in wide_inputs else half(array) for name, array in feeds.items()} for feeds in samples)
    return run(strict(model), rounded)


def overflowing(model: onnx.ModelProto, samples: Iterable[Feeds]) -> list[str]:
    """Names of the float tensors at the graph's top level that are not finite in strict FP16, in graph order."""
    emulated = strict(model)
    produced = [name for node in emulated.graph.node if node.op_type == "Cast" and node.name.endswith("/strict") for name in node.output]
    present = {output.name for output in emulated.graph.output}
    emulated.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in produced if name not in present)
    values = run(emulated, ({name: half(array) for name, array in feeds.items()} for feeds in samples))
    return [name for name in produced if not np.isfinite(values[name]).all()]


def sqnr_db(reference: Array, other: Array) -> float:
    """10 log10(sum ref² / sum (ref - other)²) in decibels; inf when equal, -inf when a value became non-finite."""
    if not np.isfinite(other[np.isfinite(reference)]).all():
        return -math.inf
    finite = np.isfinite(reference)
    truth, error = reference[finite].astype(np.float64), (reference - other)[finite].astype(np.float64)
    noise = float(np.sum(error**2))
    if noise == 0.0:
        return math.inf
    signal = float(np.sum(truth**2))
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def worst_db(reference: dict[str, Array], other: dict[str, Array]) -> float:
    """The lowest SQNR over all outputs, in decibels; an integer output that differs counts by value."""
    return min(sqnr_db(reference[name], other[name]) for name in sorted(reference))


def _types(graph: GraphProto) -> dict[str, int]:
    known: dict[str, int] = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.HasField("tensor_type"):
            known[value.name] = value.type.tensor_type.elem_type
    for node in graph.node:
        for body in _bodies(node):
            known |= _types(body)
    return known


def _bodies(node: NodeProto) -> list[GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH]


def _rewrite(graph: GraphProto, known: dict[str, int]) -> None:
    for tensor in graph.initializer:
        if tensor.data_type in FLOATS:
            tensor.CopyFrom(numpy_helper.from_array(half(numpy_helper.to_array(tensor)), tensor.name))
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        for body in _bodies(node):
            _rewrite(body, known)
        _retype(node)
        graph.node.extend(_rounded(node, known))


def _retype(node: NodeProto) -> None:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT16:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float32)))


def _rounded(node: NodeProto, known: dict[str, int]) -> list[NodeProto]:
    """The node, then for each float output a Cast to FLOAT16 and one back that carries the output's name."""
    written = [node]
    for index, name in enumerate(node.output):
        if not name:
            continue
        if name not in known:
            raise ValueError(f"the type of tensor {name!r} (node {node.name!r}) is unknown: shape inference says nothing of it")
        if known[name] not in FLOATS:
            continue
        node.output[index], narrow = f"{name}/wide", f"{name}/half"
        written.append(helper.make_node("Cast", [f"{name}/wide"], [narrow], name=f"{name}/narrow", to=TensorProto.FLOAT16))
        written.append(helper.make_node("Cast", [narrow], [name], name=f"{name}/strict", to=TensorProto.FLOAT))
    return written
