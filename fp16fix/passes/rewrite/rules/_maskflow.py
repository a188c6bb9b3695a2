"""A mask's value → where it goes: what is added to it on the way, which operators end it, or why its size matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.model import constant, element_type, is_float, magnitude
from fp16fix.graph.operators import COMPARISONS, MOVEMENT, PLACING, SATURATING, operator
from fp16fix.passes.rewrite.rules._match import Wiring, is_op, producer
from fp16fix.ranges.range import Range

CARRIES = MOVEMENT | PLACING | {"Cast"}
DEPTH = 40


@dataclass(frozen=True, slots=True)
class State:
    """A mask value under way, in units of the literal: value = sign · literal · gain + something of magnitude ≤ ``beside``."""

    sign: int
    gain: float = 1.0
    beside: float = 0.0
    """Largest magnitude (calibration) of what masked and unmasked entries stand beside or had added."""
    spread: bool = False
    """Something was added to masked entries, so they are no longer equal to each other."""
    entry: tuple[str, int] | None = None
    """The Add, and its input, where the mask met what it masks; None before, and once anything but sums lies behind."""


@dataclass(frozen=True, slots=True)
class End:
    """An operator that cannot tell the mask's value from infinity."""

    node: gs.Node
    port: int
    state: State


@dataclass(slots=True)
class Flow:
    """What became of one source."""

    ends: list[End] = field(default_factory=list)
    why_not: str = ""


class Walker:
    """Follows sources forward through one model."""

    def __init__(self, view: Wiring, ranges: Mapping[str, Range]) -> None:
        self.view = view
        self.ranges = ranges
        self.narrow = view.model.narrow

    def from_reader(self, source: gs.Tensor, reader: gs.Node, *, infinite: bool) -> Flow:
        """One use of a literal."""
        flow = Flow()
        self.read(flow, source, reader, State(sign_of(source, self.ranges)), DEPTH)
        if infinite and any(self.guarded(end.node) for end in flow.ends):
            flow.why_not = "the graph looks for the NaN that a fully masked row makes of −inf"
        return flow

    def from_tensor(self, source: gs.Tensor, *, infinite: bool) -> Flow:
        """Every use of a tensor that holds a mask."""
        flow = Flow()
        self.follow(flow, source, State(sign_of(source, self.ranges)), DEPTH)
        if infinite and any(self.guarded(end.node) for end in flow.ends):
            flow.why_not = "the graph looks for the NaN that a fully masked row makes of −inf"
        return flow

    def guarded(self, end: gs.Node) -> bool:
        """Whether the softmax's NaN is caught on purpose."""
        return any(is_op(reader, "IsNaN") for out in end.outputs for reader in out.outputs)

    def follow(self, flow: Flow, tensor: gs.Tensor, state: State, depth: int) -> None:
        """All readers of ``tensor``."""
        if self.view.is_output(tensor):
            flow.why_not = f"it reaches the output {tensor.name!r}"
        for reader in {id(each): each for each in tensor.outputs}.values():
            self.read(flow, tensor, reader, state, depth)

    def read(self, flow: Flow, tensor: gs.Tensor, reader: gs.Node, state: State, depth: int) -> None:
        """One reader: an end, a step further, or a reason against."""
        if depth == 0 or flow.why_not:
            return
        port = next(index for index, each in enumerate(reader.inputs) if each is tensor)
        if self.ends(reader, port, state):
            flow.ends.append(End(reader, port, state))
            return
        after = self.after(reader, port, state)
        if isinstance(after, str):
            flow.why_not = after
        else:
            self.follow(flow, reader.outputs[0], after, depth - 1)

    def ends(self, reader: gs.Node, port: int, state: State) -> bool:
        """Whether the reader's answer is that for an infinite mask."""
        if is_op(reader, "Softmax", "Exp", "Hardmax", "ArgMax"):
            return state.sign < 0
        if is_op(reader, "TopK"):
            largest = bool(reader.attrs.get("largest", 1))
            return (state.sign < 0) == largest and not reader.outputs[0].outputs and not self.view.is_output(reader.outputs[0])
        if is_op(reader, "ArgMin"):
            return state.sign > 0
        if is_op(reader, *COMPARISONS):
            return self.size(reader.inputs[1 - port]) + state.beside < self.narrow.largest / 8
        if state.sign == -operator(reader.op).extreme and is_op(reader, reader.op):
            seen = self.ranges.get(reader.outputs[0].name)
            return seen is not None and seen.absmax < self.narrow.largest
        return is_op(reader, *SATURATING) or (is_op(reader, "Attention") and port == 3)

    def after(self, reader: gs.Node, port: int, state: State) -> State | str:
        """The state behind a reader that passes the mask on, or why its value matters there."""
        others = [each for index, each in enumerate(reader.inputs) if index != port and each.name and is_float(each)]
        if is_op(reader, *CARRIES) and is_float(reader.outputs[0]):
            return replace(state, beside=max([state.beside, *(self.finite(each) for each in others)]), entry=None)
        if is_op(reader, "Where", "Max", "Min"):
            return replace(state, beside=max([state.beside, *(self.finite(each) for each in others)]), entry=None)
        if is_op(reader, "Neg"):
            return replace(state, sign=-state.sign, entry=None)
        if is_op(reader, "Add", "Sub") and len(others) == 1:
            return self.summed(reader, port, self.finite(others[0]), state)
        if is_op(reader, "Mul", "Div") and len(others) == 1:
            return self.scaled(reader, port, others[0], state)
        return f"{reader.op} {reader.name!r} computes with its value"

    def summed(self, reader: gs.Node, port: int, size: float, state: State) -> State:
        """Through a sum with something of that size; a sum with another mask (size 0) leaves masked entries equal."""
        turned = reader.op == "Sub" and port == 1
        sign = -state.sign if turned else state.sign
        entry = state.entry if state.spread or size == 0.0 else (reader.name, port)
        return replace(state, sign=sign, beside=state.beside + size, spread=state.spread or size > 0.0, entry=None if turned else entry)

    def scaled(self, reader: gs.Node, port: int, other: gs.Tensor, state: State) -> State | str:
        """Through a product: by a number, or by a mask of zeros and ones."""
        values = constant(other)
        number = float(values.reshape(-1)[0]) if values is not None and values.size == 1 else 0.0
        if reader.op == "Div":
            number = 1.0 / number if port == 0 and number else 0.0
        if number:
            sign, size = (1 if number > 0 else -1), abs(number)
            return replace(state, sign=sign * state.sign, gain=state.gain * size, beside=state.beside * size, entry=None)
        turn = switch(other, self.ranges) if reader.op == "Mul" else 0
        why = f"{reader.op} {reader.name!r} multiplies it by more than zeros and ones"
        return replace(state, sign=turn * state.sign, entry=None) if turn else why

    def size(self, tensor: gs.Tensor) -> float:
        """Largest magnitude seen; inf if unknown."""
        values = constant(tensor)
        if values is not None:
            return magnitude(values)
        seen = self.ranges.get(tensor.name)
        return np.inf if seen is None else seen.absmax

    def finite(self, tensor: gs.Tensor) -> float:
        """Largest magnitude seen of what is no mask: the side of a range that is itself masked does not count."""
        values = constant(tensor)
        if values is not None:
            inside = np.abs(values[np.abs(values) < self.narrow.overflow])
            return float(np.max(inside, initial=0.0))
        seen = self.ranges.get(tensor.name)
        if seen is None:
            return 0.0 if switch(tensor, self.ranges) else np.inf
        sides = [abs(side) for side in (seen.low, seen.high) if abs(side) < self.narrow.overflow]
        return max(sides, default=np.inf)


def sign_of(source: gs.Tensor, ranges: Mapping[str, Range]) -> int:
    """Sign of a mask's extreme value."""
    values = constant(source)
    if values is not None:
        return 1 if values.reshape(-1)[int(np.argmax(np.abs(values)))] > 0 else -1
    seen = ranges.get(source.name)
    if seen is None or seen.nonfinite:
        return -1
    extreme = seen.low if abs(seen.low) >= abs(seen.high) else seen.high
    return 1 if extreme > 0 else -1


def switch(tensor: gs.Tensor, ranges: Mapping[str, Range]) -> int:
    """1 for a tensor of zeros and ones, −1 for zeros and minus ones, 0 for anything else."""
    values = constant(tensor)
    if values is not None:
        inside = set(np.unique(values).tolist())
        return 1 if inside <= {0.0, 1.0} else -1 if inside <= {0.0, -1.0} else 0
    seen = ranges.get(tensor.name)
    if seen is None or (seen.noise != 0.0 and not from_truth(tensor)):
        return 1 if seen is None and from_truth(tensor) else 0
    return 1 if seen.low >= 0.0 and seen.high <= 1.0 else -1 if seen.low >= -1.0 and seen.high <= 0.0 else 0


def from_truth(tensor: gs.Tensor) -> bool:
    """Whether the tensor is a Cast of truth values."""
    node = producer(tensor, "Cast")
    return node is not None and element_type(node.inputs[0]) == 9
