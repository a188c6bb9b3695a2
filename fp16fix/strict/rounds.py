"""A Loop whose condition FP16 never meets would run for ever: its strict twin stops after a multiple of the rounds that FP32 took."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.graph.model import Model

MULTIPLE = 4
"""Times as many rounds as FP32 took at most: what takes longer has lost what ends it."""
LEAST = 1024
"""Rounds that cost nothing, for samples that take longer than those that were counted."""


def bound(model: Model) -> None:
    """Give every Loop whose rounds were counted a limit, in place."""
    edit = Editor(model)
    for node in list(model.nodes()):
        if node.op == "Loop" and node.name in model.rounds:
            limit = edit.constant(f"{node.name}/rounds", np.asarray(max(LEAST, MULTIPLE * model.rounds[node.name]), np.int64))
            node.inputs[0] = limited(edit, node, limit) if node.inputs[0].name else limit


def limited(edit: Editor, node: gs.Node, limit: gs.Constant) -> gs.Tensor:
    """The node's own number of rounds, or the limit where that is less."""
    own, made = node.inputs[0], edit.variable(f"{node.name}/limited", onnx.TensorProto.INT64)
    below = edit.variable(f"{node.name}/below", onnx.TensorProto.BOOL)
    edit.before(node, "Less", f"{node.name}/below", [own, limit], [below])
    edit.before(node, "Where", f"{node.name}/limited", [below, own, limit], [made])
    return made
