"""A graph as the proto that a session is opened with: nodes, weights and interface; what is known of tensors in between stays out.

ONNX Runtime infers types and shapes itself. A repair opens dozens of sessions, and onnx-graphsurgeon's export, which is for files that
last, takes three times as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter, update_import_domains
from onnx_graphsurgeon.ir.tensor import LazyValues, SparseValues

from fp16fix.graph.external import PACKED
from fp16fix.graph.model import element_type

SMALL = 64
"""Bytes up to which initializers of one value are one: the time that ONNX Runtime takes to open a graph grows with their square."""
INT, FLOAT, INTS = onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT, onnx.AttributeProto.INTS


def lean(graph: gs.Graph, stubs: Mapping[int, onnx.TensorProto]) -> onnx.ModelProto:
    """The proto of a main graph, which stays as it was.

    Args:
        graph: with the types of inputs and outputs.
        stubs: by ``id`` of a constant, what stands for it.
    """
    proto = onnx.ModelProto(ir_version=graph.ir_version or onnx.IR_VERSION, opset_import=update_import_domains(graph))
    proto.functions.extend(OnnxExporter.export_function(function) for function in graph.functions)
    write(proto.graph, graph, stubs, checked=True)
    return proto


def write(into: onnx.GraphProto, graph: gs.Graph, stubs: Mapping[int, onnx.TensorProto], *, checked: bool) -> None:
    """A graph into an empty proto; ``checked``: inputs and outputs must have types, which those of a body need not have."""
    into.name = graph.name
    into.input.extend(OnnxExporter.export_value_info_proto(tensor, checked) for tensor in graph.inputs)
    into.output.extend(OnnxExporter.export_value_info_proto(tensor, checked) for tensor in graph.outputs)
    constants = {tensor.name: tensor for tensor in graph.outputs if isinstance(tensor, gs.Constant)}
    alike: dict[tuple[Any, ...], str] = {}
    for node in graph.nodes:
        held = [tensor for tensor in node.inputs if isinstance(tensor, gs.Constant)]
        names = {
            tensor.name: tensor.name if tensor.name in constants else alike.setdefault(content(tensor), tensor.name) for tensor in held
        }
        constants |= {tensor.name: tensor for tensor in held if names[tensor.name] == tensor.name}
        read, written = [names.get(tensor.name, tensor.name) for tensor in node.inputs], [tensor.name for tensor in node.outputs]
        made = into.node.add(op_type=node.op, name=node.name, input=read, output=written)
        if node.domain:
            made.domain = node.domain
        for key, value in node.attrs.items():
            attribute(made, key, value, stubs)
    for tensor in constants.values():
        initializer(into, tensor, stubs)


def content(tensor: gs.Constant) -> tuple[Any, ...]:
    """What stands for a small constant's value, so that alike ones are written once; for another, its name."""
    values = tensor._values  # noqa: SLF001 - looked at, it would be read
    if not isinstance(values, np.ndarray) or values.nbytes > SMALL or element_type(tensor) in PACKED:
        return (tensor.name,)
    return element_type(tensor), values.shape, values.tobytes()


def attribute(node: onnx.NodeProto, key: str, value: Any, stubs: Mapping[int, onnx.TensorProto]) -> None:
    """One attribute of a node; kinds that are rare are left to onnx-graphsurgeon."""
    kind = type(value)
    if kind is int:
        node.attribute.add(name=key, type=INT, i=value)
    elif kind is float:
        node.attribute.add(name=key, type=FLOAT, f=value)
    elif kind is list and value and all(type(each) is int for each in value):
        node.attribute.add(name=key, type=INTS, ints=value)
    elif kind is gs.Graph:
        body = node.attribute.add(name=key, type=onnx.AttributeProto.GRAPH)
        write(body.g, value, stubs, checked=False)
    else:
        node.attribute.extend(OnnxExporter.export_attributes({key: value}))


def initializer(into: onnx.GraphProto, tensor: gs.Constant, stubs: Mapping[int, onnx.TensorProto]) -> None:
    """One constant, or what stands for it."""
    values = tensor._values  # noqa: SLF001 - looked at, it would be read
    if id(tensor) in stubs:
        into.initializer.append(stubs[id(tensor)])
    elif isinstance(values, SparseValues):
        into.sparse_initializer.append(OnnxExporter.export_sparse_tensor_proto(tensor))
    elif not isinstance(values, LazyValues) and element_type(tensor) in PACKED:
        into.initializer.append(onnx.numpy_helper.from_array(values, tensor.name))
    else:
        into.initializer.append(OnnxExporter.export_tensor_proto(tensor))
