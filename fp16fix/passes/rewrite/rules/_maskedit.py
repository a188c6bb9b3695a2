"""A mask repair's numbers → the edits: a literal clamped for one reader, masked entries made equal before a softmax."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor, editor_of
from fp16fix.graph.model import Model, constant, element_type, numpy_type
from fp16fix.passes.recipe import Edit
from fp16fix.passes.rewrite.rules._match import Wiring, node_named, producer, unmatched

ENTRY = "mask in "
"""Prefix of a repair's numbers that say at which input of which Add a mask comes in."""


def clamp_inputs(model: Model, node: gs.Node, repair: Edit, bound: float) -> None:
    """The literal, for this reader only; readers that were clamped alike share one initializer."""
    ports = [index for index, tensor in enumerate(node.inputs) if tensor.name == repair.tensor and constant(tensor) is not None]
    if not ports:
        raise unmatched(model, repair.by, repair.node)
    values = node.inputs[ports[0]].values
    clamped = np.asarray(np.clip(values, -bound, bound), values.dtype)
    name = f"{repair.tensor}/clamped"
    twin = model.tensors().get(name)
    held = constant(twin) if twin is not None else None
    shared = twin if held is not None and np.array_equal(held, clamped) else editor_of(model).constant(name, clamped)
    for port in ports:
        node.inputs[port] = shared


def level(edit: Editor, node: gs.Node, port: int, numbers: dict[str, float]) -> None:
    """Make masked entries equal before the node: the masks' own sum where they are known, else the floor."""
    tensor = node.inputs[port]
    element = element_type(tensor)
    where = [(key.removeprefix(ENTRY), int(at)) for key, at in sorted(numbers.items()) if key.startswith(ENTRY)]
    entries = [node_named(edit.model, name, "Add", "Sub").inputs[at] for name, at in where]
    floor = edit.constant(f"{node.name}/floor", np.asarray(numbers["floor"], numpy_type(element)))
    if not entries:
        node.inputs[port] = edit.variable(f"{tensor.name}/levelled", element, tensor.shape)
        edit.before(node, "Max", f"{node.name}/level", [tensor, floor], [node.inputs[port]])
        return
    add = last_add(edit, node, tensor)
    anchor = node if add is None else add
    mask = entries[0]
    for more in entries[1:]:
        mask, left = edit.variable(f"{node.name}/masks", element), mask
        edit.before(anchor, "Add", f"{node.name}/sum_masks", [left, more], [mask])
    hidden = edit.variable(f"{node.name}/hidden", onnx.TensorProto.BOOL)
    edit.before(anchor, "Less", f"{node.name}/is_hidden", [mask, floor], [hidden])
    for reader, at, value in [(node, port, mask)] if add is None else replacements(edit, node, add, mask):
        held = reader.inputs[at]
        # The masks' sum may have more axes, or longer ones, than what it stands for.
        reader.inputs[at] = edit.variable(f"{held.name}/levelled", element)
        edit.before(anchor, "Where", f"{node.name}/level", [hidden, value, held], [reader.inputs[at]])


def last_add(edit: Editor, node: gs.Node, tensor: gs.Tensor) -> gs.Node | None:
    """The Add that makes ``tensor``, if only ``node`` reads it: entries are levelled before it.

    A Where between the Add and the Softmax of an attention in FP16 ends the builder of TensorRT-RTX 1.7.1 (segmentation fault).
    """
    maker = producer(tensor, "Add")
    return maker if maker is not None and Wiring(edit.model).feeds_only(tensor, node) and len(tensor.outputs) == 1 else None


def replacements(edit: Editor, node: gs.Node, add: gs.Node, mask: gs.Tensor) -> list[tuple[gs.Node, int, gs.Tensor]]:
    """What the operands of the last Add are under the mask, so that they sum to the mask: (node, input, value)."""
    zero = edit.constant(f"{node.name}/nothing", np.asarray(0, numpy_type(element_type(mask))))
    own = next((at for at, tensor in enumerate(add.inputs) if tensor is mask), None)
    if own is not None:
        return [(add, 1 - own, zero)]
    return [(add, 0, zero), (add, 1, mask)]
