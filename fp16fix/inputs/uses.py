"""A graph input → what the graph does with it, as far as it tells what values make sense: a table to look up, a mask, a shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fp16fix.graph.model import Node, Tensor, Variable, constant, scalar
from fp16fix.graph.operators import CARRIERS, CONVERTING, operator

PASSES = CARRIERS | {"Cast", "Clip"}
"""Operators that pass the values of their first operand on as they are (a Clip: those that count)."""
_EMBED = {0: 2, 1: 4, 8: 3}
"""EmbedLayerNormalization (com.microsoft): operand of ids → operand of their table."""

_SCALES = {("Resize", 2), ("Upsample", 1)}
"""Operands that hold a factor for each axis."""


@dataclass(frozen=True, slots=True)
class Uses:
    """What became of one input."""

    rows: int | None
    """Size of the smallest table it indexes, if that is known."""
    indexes: bool
    """It indexes something, of known size or not."""
    masks: bool
    """It ends in ``1 − x``, a condition of Where, or Not."""
    adds: bool
    """It is added to something: a float mask of this kind is 0 where allowed and very negative elsewhere."""
    shapes: bool
    """It decides a shape."""
    reshapes: bool = False
    """The shape of a Reshape, whose elements must fit it."""
    scales: bool = False
    """It says how many times larger a Resize or an Upsample makes each axis."""


def uses(tensor: Variable) -> Uses:
    """Follow ``tensor`` through data movement to the ops that use its values."""
    met = _consumers(tensor)
    tables = [table for node, slot in met if (table := _table(node, slot)) is not None]
    sizes = [size for size in tables if size > 0]
    return Uses(
        rows=min(sizes, default=None),
        indexes=bool(tables),
        masks=any(_masks(node, slot) for node, slot in met),
        adds=any(node.op == "Add" for node, _ in met),
        shapes=any(operator(node.op).shape == slot for node, slot in met),
        reshapes=any(node.op == "Reshape" and slot == 1 for node, slot in met),
        scales=any((node.op, slot) in _SCALES for node, slot in met),
    )


def _consumers(tensor: Variable) -> list[tuple[Node, int]]:
    """Every (node, operand index) that sees the values of ``tensor`` unchanged."""
    found, waiting, seen = [], [tensor], {tensor.name}
    while waiting:
        current = waiting.pop()
        for node in current.outputs:
            slots = [slot for slot, operand in enumerate(node.inputs) if operand is current]
            found += [(node, slot) for slot in slots]
            passes = (node.op in PASSES and 0 in slots) or (node.op == "Where" and {1, 2} & set(slots))
            for output in node.outputs[:1] if passes else ():
                if output.name not in seen:
                    seen.add(output.name)
                    waiting.append(output)
    return found


def _table(node: Node, slot: int) -> int | None:
    """Rows of the table that operand ``slot`` looks up; 0 if it indexes something of unknown size, None if it is no index."""
    if node.op == "EmbedLayerNormalization" and slot in _EMBED:
        return _extent(node.inputs[_EMBED[slot]], 0)
    if node.op in {"Gather", "GatherElements"} and slot == 1:
        return _extent(node.inputs[0], int(node.attrs.get("axis", 0)))
    if node.op == "OneHot" and slot == 0:
        return int(scalar(node.inputs[1]) or 0)
    return 0 if operator(node.op).index == slot else None


def _extent(table: Tensor, axis: int) -> int:
    """Size of ``table`` along ``axis``, 0 if unknown; behind casts the weights themselves may be meant."""
    while not table.shape and table.inputs and table.inputs[0].op in CONVERTING | {"Identity"}:
        table = table.inputs[0].inputs[0]
    shape: Any = table.shape or ()
    if not shape and table.inputs and table.inputs[0].op == "Constant":
        shape = table.inputs[0].attrs["value"].shape
    return int(shape[axis]) if shape and isinstance(shape[axis], (int, np.integer)) else 0


def _masks(node: Node, slot: int) -> bool:
    if node.op == "Sub" and slot == 1:
        left = constant(node.inputs[0])
        return left is not None and bool(np.all(left == 1))
    return (node.op == "Where" and slot == 0) or node.op == "Not"
