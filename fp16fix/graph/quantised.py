"""Quantised models: QuantizeLinear and DequantizeLinear stay next to what they feed, with scales in the type of that.

INT8 kernels are chosen where a DequantizeLinear stands right before a product and a QuantizeLinear right behind; a Cast or a Mul between
them is an FP16 layer and a round trip through memory instead.
"""

from __future__ import annotations

from fp16fix.errors import ModelError
from fp16fix.graph.model import Model, Node, Tensor
from fp16fix.graph.operators import PRODUCTS, REORDERING, UNPARSED
from fp16fix.graph.ops import DEFAULT_DOMAINS
from fp16fix.graph.opset import raise_in_place

HALF_SCALES = 19
"""Opset from which the scales of QuantizeLinear and DequantizeLinear may be FP16 (ONNX operator changelog)."""
SHOWN = 3
"""Names that a sentence lists."""


def quantizes(node: Node) -> bool:
    """Whether it makes integers of floats by a scale."""
    return node.op == "QuantizeLinear" and node.domain in DEFAULT_DOMAINS


def dequantizes(node: Node) -> bool:
    """Whether it makes floats of integers by a scale."""
    return node.op == "DequantizeLinear" and node.domain in DEFAULT_DOMAINS


def with_half_scales(model: Model) -> Model:
    """The model in an opset whose scales may be FP16, if it has any and can be raised; else itself. What was done is noted."""
    if model.opset >= HALF_SCALES or not any(quantizes(node) or dequantizes(node) for node in model.nodes()):
        return model
    raised = model.copy()
    try:
        raise_in_place(raised, HALF_SCALES)
    except ModelError as error:
        model.notes.append(f"scales of the quantised parts stay FP32: {error.what}")
        return model
    raised.notes.append(f"raised from opset {model.opset} to {HALF_SCALES}, where the scales of QuantizeLinear may be FP16")
    return raised


def multiplies_integers(node: Node) -> bool:
    """Whether a product reads dequantised values alone: an engine multiplies the integers, whatever it stores the result in."""
    return node.op in PRODUCTS and all(made_of_integers(tensor) for tensor in node.inputs[:2])


def made_of_integers(tensor: Tensor) -> bool:
    """Whether a DequantizeLinear makes it, through what only moves values."""
    while tensor.inputs and tensor.inputs[0].op in REORDERING:
        tensor = tensor.inputs[0].inputs[0]
    return bool(tensor.inputs) and dequantizes(tensor.inputs[0])


def is_scale(tensor: Tensor, node: Node) -> bool:
    """Whether a node quantises or dequantises by ``tensor``."""
    return (quantizes(node) or dequantizes(node)) and node.inputs[1] is tensor


def only_quantised(tensor: Tensor) -> bool:
    """Whether everybody who reads it makes integers of it."""
    return bool(tensor.outputs) and all(quantizes(node) for node in tensor.outputs)


def warnings_of(model: Model) -> tuple[str, ...]:
    """The sentence that a dynamically quantised model needs."""
    found = [node for node in model.nodes() if node.op in UNPARSED]
    if not found:
        return ()
    names = ", ".join(f"{node.name} ({node.op})" for node in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return (f"TensorRT's parser has no {names}{more}: quantise with QuantizeLinear and DequantizeLinear, or leave these in floats.",)
