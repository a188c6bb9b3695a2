"""Operators that ONNX defines as functions → their bodies, in the main graph and in those of If, Loop and Scan.

ONNX's inliner (1.23) knows types in the main graph alone and ends in an assertion over a function in a body that asks for one, so that
each body is shown to it as a graph by itself, what it reads from outside as inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx.inliner
import onnx.shape_inference

from fp16fix.graph.protos import bodies_of, reads

Types = Mapping[str, onnx.ValueInfoProto]


def inline_functions(proto: onnx.ModelProto, operators: Sequence[tuple[str, str]]) -> onnx.ModelProto:
    """The model with the named (domain, operator) pairs written out; it may be consumed."""
    proto = onnx.shape_inference.infer_shapes(proto)
    inline_bodies(proto, proto.graph, {}, operators)
    return onnx.inliner.inline_selected_functions(proto, list(operators), inline_schema_functions=True)


def inline_bodies(proto: onnx.ModelProto, graph: onnx.GraphProto, outer: Types, operators: Sequence[tuple[str, str]]) -> None:
    """Write out what stands in the bodies under a graph, the innermost first, in place."""
    types = {**outer, **{value.name: value for value in (*graph.input, *graph.output, *graph.value_info)}}
    types |= {tensor.name: onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in graph.initializer}
    for body in bodies_of(graph.node):
        inline_bodies(proto, body, types, operators)
        if any((each.domain, each.op_type) in operators for each in body.node):
            inline_body(proto, body, types, operators)


def inline_body(proto: onnx.ModelProto, body: onnx.GraphProto, types: Types, operators: Sequence[tuple[str, str]]) -> None:
    """One body as a model by itself, and back."""
    own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
    own |= {name for node in body.node for name in node.output}
    outside = sorted({name for node in body.node for name in reads(node)} - own - {""})
    alone = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, graph=body)
    alone.graph.input.extend(types[name] for name in outside if name in types)
    done = onnx.inliner.inline_selected_functions(alone, list(operators), inline_schema_functions=True)
    del body.node[:]
    body.node.extend(done.graph.node)
    del body.value_info[:]
