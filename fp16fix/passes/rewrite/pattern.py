"""A pattern of operators and a tensor → what the pattern's names stand for, or why the tensor only looks like it.

A pattern is read from the result backwards: ``Op("Div", Tensor("x"), Op("Sqrt", Tensor("v")))`` matches a tensor made by such a Div.
A name that occurs twice must stand for the same tensor (or number, or axes) both times. Operands of commutative operators match in
either order, every alternative of ``Any`` is tried, and the first complete match wins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from fp16fix.graph.model import Constant, scalar
from fp16fix.graph.model import Tensor as Held
from fp16fix.graph.operators import COMMUTATIVE
from fp16fix.passes.rewrite.found import Found, Misses
from fp16fix.passes.rewrite.rules._match import axes_of, is_op, producer


class Pattern(Protocol):
    """Anything that can say in which ways a tensor matches."""

    def match(self, tensor: Held, found: Found, misses: Misses) -> Iterator[Found]:
        """Every way, given what has matched already; failures go to ``misses``."""
        ...


@dataclass(frozen=True, slots=True)
class Tensor:
    """Any tensor."""

    name: str = ""

    def match(self, tensor: Held, found: Found, misses: Misses) -> Iterator[Found]:
        bound = found.bind(self.name, tensor)
        if bound is None:
            misses.note(found, f"{tensor.name!r} stands where {found.tensor(self.name).name!r} should")
            return
        yield bound


@dataclass(frozen=True, slots=True)
class Number:
    """A constant of one element; ``value`` where only one will do."""

    name: str = ""
    value: float | None = None

    def match(self, tensor: Held, found: Found, misses: Misses) -> Iterator[Found]:
        number = scalar(tensor)
        bound = None if number is None or (self.value is not None and number != self.value) else found.bind(self.name, number)
        if bound is None:
            said = "not a constant" if number is None else f"{number:.4g}"
            misses.note(found, f"{tensor.name!r} is {said}" + ("" if self.value is None else f", not {self.value:g}"))
            return
        yield bound


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant of any size."""

    name: str

    def match(self, tensor: Held, found: Found, misses: Misses) -> Iterator[Found]:
        bound = found.bind(self.name, tensor) if isinstance(tensor, Constant) else None
        if bound is None:
            misses.note(found, f"{tensor.name!r} is not a constant")
            return
        yield bound


class Op:
    """A node of one of the given operators (``"Add Sub"``) whose first inputs match; further inputs are not looked at."""

    def __init__(self, ops: str, *operands: Pattern) -> None:
        self.ops = tuple(ops.split())
        self.operands = operands

    def match(self, tensor: Held, found: Found, misses: Misses) -> Iterator[Found]:
        node = producer(tensor)
        if not is_op(node, *self.ops) or node is None or len(node.inputs) < len(self.operands):
            made = "is an input or a constant" if node is None else f"comes from {node.op} {node.name!r}"
            misses.note(found, f"{tensor.name!r} {made}, not from {' or '.join(self.ops)}")
            return
        orders = [tuple(node.inputs)]
        if node.op in COMMUTATIVE and len(node.inputs) == 2:
            orders.append((node.inputs[1], node.inputs[0]))
        for order in orders:
            yield from self._operands(order, 0, found.through(node), misses)

    def _operands(self, inputs: tuple[Held, ...], index: int, found: Found, misses: Misses) -> Iterator[Found]:
        if index == len(self.operands):
            yield found
            return
        for each in self.operands[index].match(inputs[index], found, misses):
            yield from self._operands(inputs, index + 1, each, misses)


class Reduce:
    """A reduction over constant axes, which the name ``axes`` stands for (non-negative where the rank is known).

    It keeps the reduced dimensions; with ``kept`` it may drop them, and that name stands for 1 or 0.
    """

    def __init__(self, ops: str, operand: Pattern, axes: str = "axes", kept: str = "") -> None:
        self.inner = Op(ops, operand)
        self.axes = axes
        self.kept = kept

    def match(self, tensor: Held, found: Found, misses: Misses) -> Iterator[Found]:
        node = producer(tensor)
        if not is_op(node, *self.inner.ops) or node is None:
            yield from self.inner.match(tensor, found, misses)
            return
        axes, keeps = axes_of(node), float(node.attrs.get("keepdims", 1))
        if axes is None or not (keeps or self.kept):
            fault = "reduces axes computed at run time" if axes is None else "drops the reduced dimensions"
            misses.note(found.through(node), f"{node.name!r} {fault}")
            return
        bound = found.bind(self.axes, axes)
        bound = None if bound is None else bound.bind(self.kept, keeps)
        if bound is None:
            misses.note(found.through(node), f"{node.name!r} reduces axes {axes} (keepdims = {keeps:g}), unlike another reduction")
            return
        yield from self.inner.match(tensor, bound, misses)


@dataclass(frozen=True, slots=True)
class As:
    """A pattern whose result gets a name, to be met again as ``Tensor(name)``."""

    name: str
    pattern: Pattern

    def match(self, tensor: Held, found: Found, misses: Misses) -> Iterator[Found]:
        for bound in Tensor(self.name).match(tensor, found, misses):
            yield from self.pattern.match(tensor, bound, misses)


class Any:
    """One of several patterns, tried in order."""

    def __init__(self, *patterns: Pattern) -> None:
        self.patterns = patterns

    def match(self, tensor: Held, found: Found, misses: Misses) -> Iterator[Found]:
        for pattern in self.patterns:
            yield from pattern.match(tensor, found, misses)


class Square:
    """``Pow(p, 2)``, or ``Mul(p, p)`` of one tensor with itself."""

    def __init__(self, operand: Pattern) -> None:
        self.operand = operand
        self.power = Op("Pow", operand, Number(value=2.0))

    def match(self, tensor: Held, found: Found, misses: Misses) -> Iterator[Found]:
        node = producer(tensor)
        if node is None or not is_op(node, "Mul"):
            yield from self.power.match(tensor, found, misses)
        elif node.inputs[0] is node.inputs[1]:
            yield from self.operand.match(node.inputs[0], found.through(node), misses)
        else:
            misses.note(found.through(node), f"{node.name!r} multiplies {node.inputs[0].name!r} by {node.inputs[1].name!r}, not by itself")


def find(pattern: Pattern, tensor: Held) -> Found | None:
    """The first complete match of a pattern whose result is ``tensor``."""
    return next(pattern.match(tensor, Found(), Misses()), None)


def search(pattern: Pattern, tensor: Held, near: int) -> Found | str | None:
    """The first complete match; failing that, the reason if at least ``near`` nodes had matched, else None."""
    misses = Misses()
    found = next(pattern.match(tensor, Found(), misses), None)
    if found is not None:
        return found
    return misses.why if misses.depth >= near else None
