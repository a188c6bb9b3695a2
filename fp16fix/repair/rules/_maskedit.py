"""A mask repair's numbers → the edits: a literal clamped for one reader, masked entries made equal before a softmax."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.graph.model import Model, constant, element_type, numpy_type
from fp16fix.repair.recipe import Repair
from fp16fix.repair.rules._walk import node_named, unmatched

ENTRY = "mask in "
"""Prefix of a repair's numbers that say at which input of which Add a mask comes in."""


def clamp_inputs(model: Model, node: gs.Node, repair: Repair, bound: float) -> None:
    """The literal, for this reader only; readers that were clamped alike share one initializer."""
    ports = [index for index, tensor in enumerate(node.inputs) if tensor.name == repair.tensor and constant(tensor) is not None]
    if not ports:
        raise unmatched(model, repair.rule, repair.node)
    values = node.inputs[ports[0]].values
    clamped = np.asarray(np.clip(values, -bound, bound), values.dtype)
    name = f"{repair.tensor}/clamped"
    twin = model.tensors().get(name)
    held = constant(twin) if twin is not None else None
    shared = twin if held is not None and np.array_equal(held, clamped) else Editor(model).constant(name, clamped)
    for port in ports:
        node.inputs[port] = shared


def level(edit: Editor, node: gs.Node, port: int, numbers: dict[str, float]) -> None:
    """Make masked entries equal before the node: the masks' own sum where they are known, else the floor."""
    tensor = node.inputs[port]
    element = element_type(tensor)
    where = [(key.removeprefix(ENTRY), int(at)) for key, at in sorted(numbers.items()) if key.startswith(ENTRY)]
    entries = [node_named(edit.model, name, "Add", "Sub").inputs[at] for name, at in where]
    out = edit.variable(f"{tensor.name}/levelled", element, tensor.shape)
    floor = edit.constant(f"{node.name}/floor", np.asarray(numbers["floor"], numpy_type(element)))
    node.inputs[port] = out
    if not entries:
        edit.before(node, "Max", f"{node.name}/level", [tensor, floor], [out])
        return
    mask = entries[0]
    for more in entries[1:]:
        mask, left = edit.variable(f"{node.name}/masks", element), mask
        edit.before(node, "Add", f"{node.name}/sum_masks", [left, more], [mask])
    hidden = edit.variable(f"{node.name}/hidden", onnx.TensorProto.BOOL)
    edit.before(node, "Less", f"{node.name}/is_hidden", [mask, floor], [hidden])
    edit.before(node, "Where", f"{node.name}/level", [hidden, mask, tensor], [out])
