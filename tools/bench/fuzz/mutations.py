"""One mutation each: a model, its samples or the bytes of either are no longer what somebody made on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Rng = np.random.Generator
Samples = list[dict[str, np.ndarray]]
OPERATORS = (
    *("Add", "Sub", "Mul", "Div", "Pow", "MatMul", "Exp", "Log", "Sqrt", "Reciprocal", "Neg", "Abs", "Relu", "Tanh", "Sigmoid", "Erf"),
    *("Softmax", "ReduceSum", "ReduceMean", "Identity", "Transpose", "Flatten", "Shape", "NonZero", "Loop", "Dropout", "NoSuchOperator"),
)
NUMBERS = (0.0, -0.0, 1e-45, 1e-8, 1e-5, 65504.0, 65520.0, 1e5, 3e38, -3e38, np.inf, -np.inf, np.nan)
SIZES = (-1, 0, 1, 2, 7, 2**31, 2**62)
NAMES = ("", "x", "y", "a/b", "a:0", "\x1b]0;t\x07", "ünï", "n" * 300, "../../up", "x y")


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is changed, and how."""

    name: str
    change: Callable[[onnx.ModelProto, Samples, Rng], None]


def pick(rng: Rng, items: Any) -> Any:
    """One of ``items``; they may be protobuf's."""
    return items[int(rng.integers(len(items)))]


def nodes_of(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes of a graph and its bodies."""
    return [each for node in graph.node for each in (node, *(n for a in node.attribute if a.HasField("g") for n in nodes_of(a.g)))]


def any_node(model: onnx.ModelProto, rng: Rng) -> onnx.NodeProto:
    found: onnx.NodeProto = pick(rng, [*nodes_of(model.graph), *(node for function in model.functions for node in function.node)])
    return found


def any_value(model: onnx.ModelProto, rng: Rng) -> onnx.ValueInfoProto:
    found: onnx.ValueInfoProto = pick(rng, [*model.graph.input, *model.graph.output])
    return found


def operator(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    any_node(model, rng).op_type = pick(rng, OPERATORS)


def dropped(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    del model.graph.node[int(rng.integers(len(model.graph.node)))]


def doubled(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    node = pick(rng, model.graph.node)
    model.graph.node.add().CopyFrom(node)


def shuffled(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def rewired(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    node = any_node(model, rng)
    names = [name for each in nodes_of(model.graph) for name in (*each.input, *each.output)] + ["", "nobody"]
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = pick(rng, names)


def operands(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    node = any_node(model, rng)
    if rng.random() < 0.5 and node.input:
        del node.input[-1]
    else:
        node.input.append(pick(rng, [*node.input, "", "nobody"]))


def attribute(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    node = any_node(model, rng)
    if not node.attribute or rng.random() < 0.3:
        node.attribute.append(
            helper.make_attribute(pick(rng, ("axis", "axes", "perm", "keepdims", "to", "value", "nonsense")), pick(rng, SIZES[:5]))
        )
        return
    found = pick(rng, node.attribute)
    if found.type == onnx.AttributeProto.INT:
        found.i = pick(rng, SIZES)
    elif found.type == onnx.AttributeProto.FLOAT:
        found.f = pick(rng, NUMBERS)
    elif found.type == onnx.AttributeProto.INTS and found.ints:
        found.ints[int(rng.integers(len(found.ints)))] = pick(rng, SIZES)
    else:
        node.attribute.remove(found)


def weight(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    tensor = pick(rng, model.graph.initializer) if model.graph.initializer else None
    if tensor is None or tensor.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(tensor).copy()
    if rng.random() < 0.5:
        values *= np.float32(2.0 ** int(rng.integers(-30, 30)))
    elif values.size:
        values.flat[int(rng.integers(values.size))] = pick(rng, NUMBERS)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def bytes_of_weight(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    tensor = pick(rng, model.graph.initializer) if model.graph.initializer else model.graph.initializer.add(name="new")
    choice = int(rng.integers(4))
    if choice == 0:
        tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]
    elif choice == 1:
        tensor.data_type = pick(rng, (*range(30), 99, -1))
    elif choice == 2:
        tensor.dims.append(pick(rng, SIZES))
    else:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", pick(rng, ("samples/0.npz", "../m.onnx", "/etc/hostname", "nowhere"))),
            ("length", str(pick(rng, SIZES))),
        ):
            tensor.external_data.add(key=key, value=value)


def declared(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    kind = any_value(model, rng).type.tensor_type
    choice = int(rng.integers(4))
    if choice == 0:
        kind.elem_type = pick(rng, (*range(24), 99))
    elif choice == 1:
        kind.ClearField("shape")
    elif choice == 2:
        kind.shape.dim.add().dim_value = pick(rng, SIZES)
    elif kind.shape.dim:
        dim = pick(rng, kind.shape.dim)
        if rng.random() < 0.5:
            dim.dim_param = pick(rng, NAMES)
        else:
            dim.dim_value = pick(rng, SIZES)


def interface(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    values = pick(rng, (model.graph.input, model.graph.output))
    choice = int(rng.integers(3))
    if choice == 0 and values:
        del values[int(rng.integers(len(values)))]
    elif choice == 1 and values:
        values.append(pick(rng, values))
    else:
        model.graph.output.add(name=pick(rng, [name for node in model.graph.node for name in (*node.output, *node.input)] or ["x"]))


def renamed(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    node, name = any_node(model, rng), pick(rng, NAMES)
    if rng.random() < 0.5 or not node.output:
        node.name = name
    else:
        node.output[0] = name


def opset(model: onnx.ModelProto, _: Samples, rng: Rng) -> None:
    imports = pick(rng, (model.opset_import, *(function.opset_import for function in model.functions)))
    pick(rng, imports).version = int(pick(rng, (1, 6, 7, 9, 11, 13, 16, 18, 21, 23, 99)))


def values(_: onnx.ModelProto, samples: Samples, rng: Rng) -> None:
    sample = pick(rng, samples)
    array = sample[pick(rng, sorted(sample))]
    if array.dtype.kind == "f" and array.size:
        array.flat[int(rng.integers(array.size))] = pick(rng, NUMBERS)
    elif array.size and array.dtype.kind == "i":
        array.flat[int(rng.integers(array.size))] = pick(rng, (-1, 0, 10**9, -(2**62)))


def stored(_: onnx.ModelProto, samples: Samples, rng: Rng) -> None:
    sample = pick(rng, samples)
    name = pick(rng, sorted(sample))
    choice = int(rng.integers(4))
    if choice == 0:
        sample[name] = sample[name].astype(pick(rng, (np.float16, np.float64, np.int32, np.bool_, np.complex64, "U8")))
    elif choice == 1:
        sample[name] = sample[name][None]
    elif choice == 2:
        sample[pick(rng, NAMES[1:6])] = sample.pop(name)
    else:
        sample[name] = sample[name][..., :0] if sample[name].ndim else sample[name]


MUTATIONS = tuple(
    Mutation(change.__name__.replace("_", " "), change)
    for change in (
        *(operator, dropped, doubled, shuffled, rewired, operands, attribute, weight, bytes_of_weight, declared, interface, renamed, opset),
        *(values, stored),
    )
)
BYTES = ("bytes of the model", "bytes of a sample")
"""Mutations of files, after they were written."""


def damaged(data: bytes, rng: Rng) -> bytes:
    """A file with a few bits turned, a piece missing or its end cut off."""
    found = bytearray(data)
    choice = int(rng.integers(3))
    if choice == 0:
        return bytes(found[: int(rng.integers(len(found)))])
    if choice == 1:
        start = int(rng.integers(len(found)))
        del found[start : start + int(rng.integers(1, 64))]
        return bytes(found)
    for _ in range(int(rng.integers(1, 6))):
        found[int(rng.integers(len(found)))] ^= 1 << int(rng.integers(8))
    return bytes(found)
