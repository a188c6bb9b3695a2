"""Reference graph → for each output, which axes hold mixed units, and whether probabilities are in it.

An axis may hold mixed units where the graph itself makes its entries differ: a Concat along it joins tensors, or literals along it
(factors, divisors, the rows of a product's weights, a norm's scale) are of sizes more than 2⁵ apart. Along batch, time and space every
entry is computed alike, and one that is small there, or among the outputs of a product with rows of one size, is so by its data: FP16
owes it nothing. All is read by walking back from the output over operators that keep axes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from fp16fix.graph.model import Constant, Model, Node, Tensor, Variable, bodies
from fp16fix.graph.operators import CONVERTING, GUARDS, KEEPING_AXES, MOVEMENT, PROBABILITIES, SELECTION, operator

APART = 2.0**5
"""Scales that differ by more are different scales: beside an entry this much larger, an error of 50 dB is one of 20 dB."""
LONGEST = 1024
"""Entries of an axis at most: more are positions or words, and their sums would not be small."""
MOVING = MOVEMENT | SELECTION | CONVERTING
"""Operators through which a probability stays one: they move it or choose among some."""
GUARDING = GUARDS | {"Expand", "Identity"}
"""What may stand between a sum and the division by it: an eps, a floor, a shape."""
FAR = 64
"""Operators that are walked back over, and tensors that are looked at."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis that may hold mixed units."""

    axis: int
    """From the last one as −1."""
    parts: tuple[int, ...] = ()
    """Lengths of what a Concat joins, each of one unit as far as the graph tells; empty where every entry may have its own."""


@dataclass(frozen=True, slots=True)
class Channels:
    """What the graph says of one output."""

    axes: tuple[Axis, ...] = ()
    probabilities: bool = False
    """Some of it comes out of Softmax or Sigmoid."""


PLAIN = Channels()
"""Of an output about which nothing is known."""


def channels_of(model: Model) -> Mapping[str, Channels]:
    """By output. Axes that the graph declares free are left out: their entries are not the same ones in every sample."""
    made: dict[str, Channels] = {}
    for output in model.graph.outputs:
        axes = (each for each in told_apart(output) if not is_free(output, each.axis))
        made[output.name] = Channels(tuple(sorted(axes, key=lambda each: each.axis)), holds_probability(output))
    return MappingProxyType(made)


def is_free(tensor: Tensor, axis: int) -> bool:
    """Whether a dimension has a name, not a number."""
    shape = tensor.shape
    return shape is not None and -len(shape) <= axis and isinstance(shape[axis], str)


def told_apart(output: Tensor) -> list[Axis]:
    """Axes of a tensor whose entries the graph makes differ; the parts of a Concat are units only where nothing else tells more."""
    found: dict[int, tuple[int, ...]] = {}
    todo: deque[tuple[Tensor, tuple[int, ...] | None]] = deque([(output, None)])
    seen: set[tuple[int, tuple[int, ...] | None]] = set()
    while todo and len(seen) < FAR:
        tensor, order = todo.popleft()
        if (id(tensor), order) in seen or not tensor.inputs:
            continue
        seen.add((id(tensor), order))
        node = tensor.inputs[0]
        for each in joined(node, tensor):
            found.setdefault(placed(each.axis, order), each.parts)
        for axis in scaled(node, tensor):
            found[placed(axis, order)] = ()
        todo += behind(node, tensor, order)
    return [Axis(axis, parts) for axis, parts in found.items()]


def placed(axis: int, order: tuple[int, ...] | None) -> int:
    """An axis of a tensor as one of the output; ``order`` has for each axis of the output the tensor's, from the first."""
    return axis if order is None else order.index(axis % len(order)) - len(order)


def joined(node: Node, tensor: Tensor) -> Iterator[Axis]:
    """The axis of a Concat."""
    if node.op != "Concat" or len(node.inputs) < 2 or tensor.shape is None:
        return
    axis = int(node.attrs["axis"]) % len(tensor.shape)
    lengths = [None if each.shape is None else each.shape[axis] for each in node.inputs]
    known = all(isinstance(length, (int, np.integer)) for length in lengths)
    yield Axis(axis - len(tensor.shape), tuple(int(length) for length in lengths if length) if known else ())


def scaled(node: Node, tensor: Tensor) -> Iterator[int]:
    """Axes, from the last, along which literals of a node are of very different sizes."""
    if node.op in {"Mul", "Div"}:
        for values in literals(node.inputs):
            yield from (axis - values.ndim for axis in range(values.ndim) if differ(sizes(values, axis)))
    elif operator(node.op).channels == 1:
        rank = len(tensor.shape) if tensor.shape is not None else node.inputs[1].values.ndim if node.op == "Conv" else 0
        if rank and any(differ(sizes(values, int(node.op == "ConvTranspose"))) for values in literals(node.inputs[1:2])):
            yield 1 - rank
    elif operator(node.op).channels == -1:
        across = 0 if node.attrs.get("transB") else -1
        if any(differ(sizes(values, across)) for values in literals(node.inputs[1:2])):
            yield -1


def literals(tensors: Iterable[Tensor]) -> Iterator[np.ndarray]:
    """The values of those that are float arrays."""
    for each in tensors:
        if isinstance(each, Constant) and each.values.dtype.kind == "f" and each.values.ndim:
            yield each.values


def sizes(values: np.ndarray, axis: int) -> np.ndarray:
    """Root mean square of each entry of an axis; of none where it is too long to be looked at."""
    length = values.shape[axis]
    if length > LONGEST:
        return np.zeros(0)
    rows = np.moveaxis(values, axis, 0).reshape(length, -1)
    found: np.ndarray = np.sqrt([np.square(row, dtype=np.float64).mean() for row in rows])
    return found


def differ(found: np.ndarray) -> bool:
    """Whether sizes are more than ``APART`` apart; zeros have none."""
    alive = found[found > 0.0]
    return alive.size > 1 and bool(alive.max() > APART * alive.min())


def behind(node: Node, tensor: Tensor, order: tuple[int, ...] | None) -> Iterator[tuple[Tensor, tuple[int, ...] | None]]:
    """What a node reads that has the same axes, in what order."""
    if node.op == "Transpose" and "perm" in node.attrs:
        perm = [int(axis) for axis in node.attrs["perm"]]
        now = range(len(perm)) if order is None else order
        if len(now) == len(perm):
            yield node.inputs[0], tuple(perm[axis] for axis in now)
    elif node.op in KEEPING_AXES:
        yield from ((each, order) for each in node.inputs if isinstance(each, Variable) and same_rank(each, tensor))


def same_rank(one: Tensor, other: Tensor) -> bool:
    """As far as shapes are known."""
    return one.shape is None or other.shape is None or len(one.shape) == len(other.shape)


def is_share(node: Node) -> bool:
    """A Softmax written out: something over its own sum, or Exp of a LogSoftmax."""
    above = [each.inputs[0] if each.inputs else None for each in node.inputs]
    if node.op == "Exp":
        return above[0] is not None and above[0].op == "LogSoftmax"
    if node.op != "Div":
        return False
    below = above[1]
    while below is not None and below.op in GUARDING and below.inputs[0].inputs:
        below = below.inputs[0].inputs[0]
    return below is not None and below.op == "ReduceSum" and below.inputs[0] is node.inputs[0]


def holds_probability(output: Tensor, left: int = FAR) -> bool:
    """Whether Softmax or Sigmoid feed it over nothing but moves and products of their likes; If, Loop and Scan are looked into."""
    if not output.inputs or not left:
        return False
    node = output.inputs[0]
    if node.op in PROBABILITIES or is_share(node):
        return True
    read = [each for each in node.inputs if isinstance(each, Variable)]
    if node.op == "Mul":
        return len(read) == 2 and all(holds_probability(each, left - 1) for each in read)
    inner = [each for body in bodies(node).values() for each in body.outputs]
    return any(holds_probability(each, left - 1) for each in ((*read, *inner) if node.op in MOVING else inner))
