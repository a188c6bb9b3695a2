"""A Loop whose condition FP16 never meets would run for ever: its strict twin is stopped after a multiple of the rounds that FP32 took.

What was stopped fails there, whatever its values are by then: an engine would hang on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fp16fix.graph import quick
from fp16fix.graph.edit import Editor
from fp16fix.graph.model import Model, element_type
from fp16fix.graph.opset import raise_in_place

MULTIPLE = 4
"""Times as many rounds as FP32 took at most: what takes longer has lost what ends it."""
LEAST = 1024
"""Rounds that cost nothing, for samples that take longer than those that were counted."""
CHOOSING = 9
"""Opset from which there is a Where."""
BOOL, INT64 = onnx.TensorProto.BOOL, onnx.TensorProto.INT64
NAMED = re.compile(r"Name:'([^']*)'")
"""How ONNX Runtime names the node that it failed in, the outermost first."""


def limit_of(rounds: int) -> int:
    """Rounds after which a Loop is stopped that FP32 ended after so many."""
    return max(LEAST, MULTIPLE * rounds)


def guard(loop: str) -> str:
    """Name of the node that fails where a Loop was stopped."""
    return f"{loop}/never ends"


def stopped(model: Model, message: str) -> str | None:
    """The Loop over which a run of ``bound``'s model failed, by what ONNX Runtime said; None if it failed over something else."""
    guards = {guard(name): name for name in model.rounds}
    return next((guards[name] for name in NAMED.findall(message) if name in guards), None)


def why_failed(model: Model, message: str) -> str:
    """The same in a sentence, and what else ONNX Runtime said as it is."""
    loop = stopped(model, message)
    if loop is None:
        return message
    rounds = model.rounds[loop]
    return f"Loop {loop!r} never ends: {limit_of(rounds):,} rounds and more, of which FP32 takes {rounds:,} at most"


def ending(model: Model, rounds: Mapping[str, int]) -> Model:
    """A copy that fails where a Loop takes many more rounds than were seen, none of those not named; the same where there is no Loop."""
    loops = {node.name: rounds.get(node.name, 0) for node in model.nodes() if node.op == "Loop"}
    if not loops:
        return model
    copy = model.copy()
    copy.rounds = loops
    bound(copy, guarded=True)
    return copy


def bound(model: Model, *, guarded: bool) -> None:
    """Give every Loop whose rounds were counted a limit, in place; ``guarded``, also a node behind it that fails if the limit was met."""
    loops = [node for node in model.nodes() if node.op == "Loop" and node.name in model.rounds]
    if loops:
        raise_in_place(model, CHOOSING)
    for node in loops:
        edit = Editor(model)
        limit = edit.constant(f"{node.name}/rounds", np.asarray(limit_of(model.rounds[node.name]), np.int64))
        within = limited(edit, node, limit)
        if guarded:
            Guard(edit, node).watch(within)


def limited(edit: Editor, node: gs.Node, limit: gs.Constant) -> gs.Tensor | None:
    """Let a Loop take no more rounds than the limit; whether its own number of rounds is less, if it has one."""
    own = node.inputs[0]
    if not own.name:
        node.inputs[0] = limit
        return None
    within, node.inputs[0] = edit.variable(f"{node.name}/within", BOOL, []), edit.variable(f"{node.name}/limited", INT64, [])
    edit.before(node, "Less", f"{node.name}/within", [own, limit], [within])
    edit.before(node, "Where", f"{node.name}/limited", [within, own, limit], [node.inputs[0]])
    return within


class Guard:
    """Fails where a Loop was stopped."""

    def __init__(self, edit: Editor, node: gs.Node) -> None:
        self.edit = edit
        self.node = node
        self.last = node
        """Behind which the next node is put."""

    def watch(self, within: gs.Tensor | None) -> None:
        """Hand on what the Loop gives, unless its condition still holds and it was not ``within`` its own number of rounds."""
        results = [tensor for tensor in self.node.outputs if element_type(tensor)]
        left = self.condition_left()
        held = left if within is None else self.then("And", [left, self.then("Not", [within], BOOL)], BOOL)
        row = self.then("Cast", [held], INT64, to=INT64)
        nothing = self.edit.constant(f"{self.node.name}/nothing", np.zeros((1, 0), np.int64))
        # A row that there is not; the one that there is asks Expand to leave everything as it is.
        shape = self.then("Gather", [nothing, row], INT64, axis=0)
        self.last.name = guard(self.node.name)
        for tensor in results:
            raw = self.edit.variable(f"{tensor.name}/unguarded", element_type(tensor), tensor.shape)
            self.node.outputs[self.node.outputs.index(tensor)] = raw
            self.last = self.edit.after(self.last, "Expand", f"{tensor.name}/guarded", [raw, shape], [tensor])

    def condition_left(self) -> gs.Variable:
        """What the condition was in the end, carried round as one more state."""
        body, states = self.node.attrs["body"], len(self.node.inputs) - 2
        taken, handed, left = (self.made(what, BOOL) for what in ("taken", "handed", "left"))
        start = self.node.inputs[1] if self.node.inputs[1].name else self.edit.constant(f"{self.node.name}/start", np.asarray(True))
        self.node.inputs.append(start)
        self.node.outputs.insert(states, left)
        body.inputs.append(taken)
        body.nodes.append(quick.node("Identity", self.edit.fresh(f"{self.node.name}/hand"), inputs=[body.outputs[0]], outputs=[handed]))
        body.outputs.insert(states + 1, handed)
        return left

    def then(self, op: str, inputs: list[gs.Tensor], element: int, **attrs: Any) -> gs.Variable:
        """A node behind the Loop and what was put there already; what it makes."""
        result = self.made(op, element)
        self.last = self.edit.after(self.last, op, f"{self.node.name}/{op}", inputs, [result], **attrs)
        return result

    def made(self, what: str, element: int) -> gs.Variable:
        """A new scalar."""
        return self.edit.variable(f"{self.node.name}/{what}", element, [])
