"""Big weights out of a proto and back into the graph: whatever reads the proto in between copies it several times over."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_graphsurgeon as gs

BIG_TENSOR = 1 << 20
"""Bytes from which a weight is taken out of a big model."""
BIG_MODEL = 256 << 20
"""Bytes from which a model is big."""


def strip(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A proto in which big initializers are graph inputs, and their values; a small model as it is.

    The proto given is not changed; drop it, and the weights exist once.
    """
    if proto.ByteSize() <= BIG_MODEL:
        return proto, {}
    thin = onnx.ModelProto()
    for name, value in proto.ListFields():
        if name.name != "graph":
            copy_field(thin, name.name, value)
    for name, value in proto.graph.ListFields():
        if name.name != "initializer":
            copy_field(thin.graph, name.name, value)
    declared = {value.name for value in proto.graph.input}
    weights: dict[str, np.ndarray] = {}
    for tensor in proto.graph.initializer:
        if tensor.ByteSize() <= BIG_TENSOR:
            thin.graph.initializer.append(tensor)
            continue
        weights[tensor.name] = onnx.numpy_helper.to_array(tensor)
        if tensor.name not in declared:
            thin.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return thin, weights


def copy_field(target: object, name: str, value: object) -> None:
    """One protobuf field, whether repeated, a message or a scalar."""
    held = getattr(target, name)
    if hasattr(held, "extend"):
        held.extend(value)
    elif hasattr(held, "CopyFrom"):
        held.CopyFrom(value)
    else:
        setattr(target, name, value)


def restore(graph: gs.Graph, weights: dict[str, np.ndarray]) -> None:
    """Turn the graph inputs that ``strip`` made into initializers again, in place."""
    kept = []
    for tensor in graph.inputs:
        if tensor.name not in weights:
            kept.append(tensor)
            continue
        tensor.to_constant(weights[tensor.name])
    graph.inputs = kept
