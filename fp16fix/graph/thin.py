"""Big weights out of a proto and back into the graph: whatever reads the proto in between copies it several times over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_graphsurgeon as gs

from fp16fix.graph.external import PACKED, bring_in, is_external, slice_of, tensors_of

BIG_TENSOR = 1 << 20
"""Bytes from which a weight is taken out of a big model, and left in its file."""
BIG_MODEL = 256 << 20
"""Bytes from which a model is big."""


def strip(proto: onnx.ModelProto, source: Path | None = None) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A proto in which big initializers are graph inputs, and their values; a small model as it is, whole.

    Args:
        proto: not changed where the model is big: drop it, and the weights exist once.
        source: the model's file, for what lies beside it; big weights stay there until they are looked at.

    Raises:
        ModelError: external data is not where it should be.
    """
    if size_of(proto, source) <= BIG_MODEL:
        bring_all_in(proto, source)
        return proto, {}
    thin = onnx.ModelProto()
    for name, value in proto.ListFields():
        if name.name != "graph":
            copy_field(thin, name.name, value)
    for name, value in proto.graph.ListFields():
        if name.name not in {"initializer", "node"}:
            copy_field(thin.graph, name.name, value)
    weights: dict[str, np.ndarray] = {}
    for tensor in proto.graph.initializer:
        values = big_values(tensor, source)
        if values is None:
            thin.graph.initializer.append(tensor)
        else:
            weights[tensor.name] = values
    given = {output.name for output in proto.graph.output}
    for node in proto.graph.node:
        values = big_values(node.attribute[0].t, source) if is_literal(node) and node.output[0] not in given else None
        if values is None:
            thin.graph.node.append(node)
        else:
            weights[node.output[0]] = values
    declare(thin, weights)
    bring_all_in(thin, source)
    return thin, weights


def size_of(proto: onnx.ModelProto, source: Path | None) -> int:
    """Bytes of a model with all that lies beside it."""
    if source is None:
        return int(proto.ByteSize())
    return source.stat().st_size + sum(slice_of(tensor, source).length for tensor in tensors_of(proto) if is_external(tensor))


def bring_all_in(proto: onnx.ModelProto, source: Path | None) -> None:
    """Leave nothing outside."""
    for tensor in tensors_of(proto):
        if is_external(tensor) and source is not None:
            bring_in(tensor, slice_of(tensor, source))


def is_literal(node: onnx.NodeProto) -> bool:
    """A Constant with a tensor of its own."""
    return node.op_type == "Constant" and node.domain in {"", "ai.onnx"} and [each.name for each in node.attribute] == ["value"]


def big_values(tensor: onnx.TensorProto, source: Path | None) -> np.ndarray | None:
    """Values too big to stay in a proto that is copied; None for others."""
    if not is_external(tensor):
        return onnx.numpy_helper.to_array(tensor) if tensor.ByteSize() > BIG_TENSOR else None
    if source is None or tensor.data_type in PACKED:
        return None
    place = slice_of(tensor, source)
    return place.mapped(tensor) if place.length > BIG_TENSOR else None


def declare(thin: onnx.ModelProto, weights: dict[str, np.ndarray]) -> None:
    """Big weights as graph inputs, where they are not."""
    declared = {value.name for value in thin.graph.input}
    for name, values in weights.items():
        if name not in declared:
            element = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
            thin.graph.input.append(onnx.helper.make_tensor_value_info(name, element, values.shape))


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
