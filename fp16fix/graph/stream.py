"""A proto and its weights → one file, without the weights ever being in a proto: its bytes would hold them a second and a third time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
RAW_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
"""Fields of ONNX's protobuf."""


def stream(proto: onnx.ModelProto, weights: Mapping[str, np.ndarray], file: Path) -> None:
    """Write a proto with its weights inside; the initializers that they belong to are framed by hand and end the graph."""
    frames = [frame(tensor, weights[tensor.name]) for tensor in proto.graph.initializer if tensor.name in weights]
    inner, outer = onnx.GraphProto(), onnx.ModelProto()
    inner.CopyFrom(proto.graph)
    del inner.initializer[:]
    inner.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name not in weights)
    outer.CopyFrom(proto)
    outer.ClearField("graph")
    graph = inner.SerializeToString()
    with file.open("wb") as out:
        out.write(outer.SerializeToString())
        out.write(opening(GRAPH, len(graph) + sum(len(head) + values.nbytes for head, values in frames)) + graph)
        for head, values in frames:
            out.write(head)
            out.write(values.reshape(-1).view(np.uint8).data)


def frame(tensor: onnx.TensorProto, values: np.ndarray) -> tuple[bytes, np.ndarray]:
    """What stands before the bytes of an initializer in its graph, and these."""
    head = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims).SerializeToString()
    head += opening(RAW_DATA, values.nbytes)
    return opening(INITIALIZER, len(head) + values.nbytes) + head, values


def opening(field: int, length: int) -> bytes:
    """Protobuf's tag of a field with a length, and the length, seven bits a byte."""
    found = bytearray([field << 3 | 2])
    while length > 127:
        found.append(length & 127 | 128)
        length >>= 7
    return bytes([*found, length])
