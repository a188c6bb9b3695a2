"""What a compiler's kernels do inside operators that a parser shows as one layer → those steps as ONNX nodes, for the profile ``compiled``.

``strict.assumptions`` has the evidence of each.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.graph.model import Model, element_type
from fp16fix.graph.ops import DEFAULT_DOMAINS
from fp16fix.half import FP32
from fp16fix.strict.insides import INSIDES
from fp16fix.strict.steps import FORMATS, Expansion, put

LONG = 2**14
"""Keys of a row from which a Softmax is several kernels, where rows are few: 16,383 are one in plans of TensorRT-RTX 1.7.1."""
ALONG_AXIS = 13
"""Opset from which Softmax works along one axis; before, along all from it on (ONNX operator changelog)."""
PER_CHANNEL = 21
"""Opset from which GroupNormalization scales by channel; before, by group."""


def fuse(model: Model) -> None:
    """Write out, in place, the FP16 and BF16 operators of which a compiled kernel stores steps."""
    edit, written = Editor(model), list[Expansion]()
    for node in list(model.nodes()):
        if node.domain not in DEFAULT_DOMAINS or not node.outputs or element_type(node.outputs[0]) not in FORMATS:
            continue
        if node.op in WRITERS:
            written.append(Expansion(edit, node, model.opset))
            WRITERS[node.op](written[-1])
    put(model, written)


def norm(step: Expansion) -> None:
    """Normalised values are narrow before they are scaled and shifted; left inside where other outputs are read or the rank is open."""
    node = step.node
    if any(tensor.name and tensor.outputs for tensor in node.outputs[1:]):
        return
    rank = len(node.outputs[0].shape) if node.outputs[0].shape is not None else 0
    parameters = [along(step, tensor, rank) for tensor in node.inputs[1:] if tensor.name]
    if any(tensor is None for tensor in parameters):
        return
    scale, *bias = [tensor for tensor in parameters if tensor is not None]
    plain = [step.number(np.ones(node.inputs[1].shape))]
    if node.op != "LayerNormalization":
        plain.append(step.number(np.zeros(node.inputs[1].shape)))
    held = step.op(node.op, step.x, *plain, **node.attrs)
    if bias:
        step.last("Add", step.op("Mul", held, scale, element=FP32.onnx), bias[0])
    else:
        step.last("Mul", held, scale)


def along(step: Expansion, parameter: gs.Tensor, rank: int) -> gs.Constant | None:
    """A scale or bias in a shape that broadcasts against the result; None where it is computed at run time or the rank is open."""
    if not isinstance(parameter, gs.Constant) or not rank:
        return None
    if step.node.op == "LayerNormalization":
        return parameter
    if step.node.op == "GroupNormalization" and step.opset < PER_CHANNEL:
        return None
    return step.number(np.asarray(parameter.values).reshape(-1, *[1] * (rank - 2)))


def softmax(step: Expansion) -> None:
    """Of a long row shares before division, and their sum, are stored narrow; which rows are long may be known at run time only."""
    node, shape = step.node, step.x.shape
    axis = int(node.attrs.get("axis", -1 if step.opset >= ALONG_AXIS else 1))
    if shape is None or axis not in range(-len(shape), len(shape)) or (step.opset < ALONG_AXIS and axis not in (-1, len(shape) - 1)):
        return
    count = shape[axis]
    if isinstance(count, int) and count < LONG:
        return
    keep = {"keepdims": 1}

    def reduced(op: str, x: gs.Tensor) -> gs.Tensor:
        by_input = step.opset >= (13 if op == "ReduceSum" else 18)
        axes = [step.edit.constant(f"{node.name}/axes", np.asarray([axis]))] if by_input else []
        return step.op(op, x, *axes, element=FP32.onnx, **keep, **({} if by_input else {"axes": [axis]}))

    shifted = step.op("Sub", step.x, reduced("ReduceMax", step.x), element=FP32.onnx)
    shares = stored(step, step.op("Exp", shifted, element=FP32.onnx), axis, count)
    step.last("Div", shares, stored(step, reduced("ReduceSum", shares), axis, count))


def stored(step: Expansion, x: gs.Tensor, axis: int, count: object) -> gs.Tensor:
    """``x`` as the narrow type holds it, in FP32; where the row's length is open, only if it is long."""
    held = step.op("Cast", step.op("Cast", x, to=step.element), element=FP32.onnx, to=FP32.onnx)
    if isinstance(count, int):
        return held
    index = step.edit.constant(f"{step.node.name}/axis", np.asarray(axis))
    length = step.op("Gather", step.op("Shape", step.x, element=INT64), index, element=INT64)
    limit = step.edit.constant(f"{step.node.name}/long", np.asarray(LONG - 1))
    return step.op("Where", step.op("Greater", length, limit, element=BOOL), held, x, element=FP32.onnx)


WRITERS = {"Softmax": softmax, **dict.fromkeys((op for op, each in INSIDES.items() if "NORMALIZATION" in each.layers), norm)}
"""A norm that one layer computes."""
INT64, BOOL = 7, 9
"""``onnx.TensorProto`` element types."""
