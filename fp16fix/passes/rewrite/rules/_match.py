"""A model → who makes and who uses each tensor, and the verbs with which a rule replaces a match by new nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.errors import ReplayError
from fp16fix.graph.edit import Editor, graphs_of, node_of
from fp16fix.graph.model import Model, bodies, constant, element_type, magnitude, numpy_type, scalar
from fp16fix.graph.operators import COMMUTATIVE
from fp16fix.graph.ops import DEFAULT_DOMAINS
from fp16fix.passes.recipe import Edit, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.ranges.range import Range

R = TypeVar("R")


class Wiring:
    """Read-only questions about one model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._outputs = {id(tensor) for graph in graphs_of(model) for tensor in graph.outputs}

    def is_output(self, tensor: gs.Tensor) -> bool:
        """Whether the tensor leaves its graph (main or body)."""
        return id(tensor) in self._outputs

    def feeds_only(self, tensor: gs.Tensor, *nodes: gs.Node) -> bool:
        """Whether every use of ``tensor`` is by one of ``nodes``."""
        return not self.is_output(tensor) and all(any(user is node for node in nodes) for user in tensor.outputs)

    def only_user(self, tensor: gs.Tensor) -> gs.Node | None:
        """The one node that uses ``tensor``, if nothing else does."""
        first = tensor.outputs[0] if tensor.outputs else None
        return first if first is not None and self.feeds_only(tensor, first) else None


def is_op(node: gs.Node | None, *ops: str) -> bool:
    """Whether ``node`` is one of these operators of the default domain."""
    return node is not None and node.op in ops and node.domain in DEFAULT_DOMAINS


def producer(tensor: gs.Tensor, *ops: str) -> gs.Node | None:
    """The node that makes ``tensor``; with ``ops``, only if it is one of these operators."""
    node = tensor.inputs[0] if tensor.inputs else None
    return node if not ops or is_op(node, *ops) else None


def operands(node: gs.Node) -> list[tuple[gs.Tensor, gs.Tensor]]:
    """Both orders of a commutative node's two inputs; one order for the rest."""
    first, second = node.inputs[0], node.inputs[1]
    return [(first, second), (second, first)] if node.op in COMMUTATIVE else [(first, second)]


def with_scalar(node: gs.Node) -> tuple[gs.Tensor, float] | None:
    """(variable operand, value of the one-element constant operand) of a binary node."""
    if len(node.inputs) != 2:
        return None
    for tensor, literal in operands(node):
        value = scalar(literal)
        if value is not None and not isinstance(tensor, gs.Constant):
            return tensor, value
    return None


def rank(tensor: gs.Tensor) -> int | None:
    """Number of dimensions, if inferred."""
    return None if tensor.shape is None else len(tensor.shape)


def axes_of(node: gs.Node) -> tuple[int, ...] | None:
    """Axes of a reduction as non-negative numbers where the rank is known, sorted; None if not constant; () for all axes."""
    found: Any = node.attrs.get("axes")
    if len(node.inputs) > 1 and node.inputs[1].name:
        found = constant(node.inputs[1])
        if found is None:
            return None
    if found is None:
        return ()
    dimensions = rank(node.inputs[0])
    return tuple(sorted(int(a) % dimensions if dimensions else int(a) for a in np.reshape(found, -1)))


def reduction(node: gs.Node) -> tuple[tuple[int, ...], bool] | None:
    """(axes, keepdims) of a reduction, or None if the axes are computed at run time."""
    axes = axes_of(node)
    return None if axes is None else (axes, bool(node.attrs.get("keepdims", 1)))


def range_of(evidence: Findings, tensor: gs.Tensor) -> Range | None:
    """What calibration saw of a tensor; None if it was not measured (a body that never ran, a constant)."""
    return evidence.ranges.get(tensor.name)


def absmax(evidence: Findings, tensor: gs.Tensor) -> float | None:
    """Largest magnitude of a tensor or initializer, if known."""
    values = constant(tensor)
    if values is not None:
        return magnitude(values)
    found = range_of(evidence, tensor)
    return None if found is None else found.absmax


def node_named(model: Model, name: str, *ops: str) -> gs.Node:
    """The node a repair names.

    Raises:
        ReplayError: no node of that name, or another operator.
    """
    node, hint = node_of(model, name), "the recipe belongs to another model"
    if node is None:
        raise ReplayError(f"no node is called {name!r}", where=model.name, hint=hint)
    if ops and not is_op(node, *ops):
        raise ReplayError(f"{name!r} is a {node.op}, not {' or '.join(ops)}", where=model.name, hint=hint)
    return node


def unmatched(model: Model, rule: str, name: str) -> ReplayError:
    """The error for a repair whose pattern is not there."""
    return ReplayError(f"{rule} finds nothing to rewrite at {name!r}", where=model.name, hint="the recipe belongs to another model")


class Writer:
    """Writes new nodes just before ``anchor``; ``replace`` gives the anchor's output to the last of them."""

    def __init__(self, edit: Editor, anchor: gs.Node, like: gs.Tensor) -> None:
        self.edit = edit
        self.anchor = anchor
        self.element = element_type(like)

    def op(self, op: str, inputs: Sequence[gs.Tensor], label: str, element: int | None = None, **attrs: Any) -> gs.Tensor:
        """The output of a new node called ``<anchor>/<label>``; ``element`` where it is not the anchor's float type."""
        out = self.edit.variable(f"{self.anchor.name}/{label}_out", self.element if element is None else element)
        self.edit.before(self.anchor, op, f"{self.anchor.name}/{label}", list(inputs), [out], **attrs)
        return out

    def number(self, value: float, label: str) -> gs.Constant:
        """A scalar initializer of the anchor's float type."""
        return self.edit.constant(f"{self.anchor.name}/{label}", np.asarray(value, numpy_type(self.element)))

    def integers(self, values: Sequence[int], label: str) -> gs.Constant:
        """An INT64 vector initializer."""
        return self.edit.constant(f"{self.anchor.name}/{label}", np.asarray(values, np.int64))

    def axes(self, op: str, axes: Sequence[int], since: int) -> tuple[list[gs.Constant], dict[str, Any]]:
        """Axes as an input from opset ``since`` on, as an attribute before; nothing for all axes."""
        if not axes:
            return [], {}
        if self.edit.model.opset >= since:
            return [self.integers(axes, f"{op}_axes")], {}
        return [], {"axes": list(axes)}

    def reduce(self, op: str, tensor: gs.Tensor, axes: Sequence[int], label: str, *, keepdims: bool = True) -> gs.Tensor:
        """A reduction, axes written as the opset wants them (ReduceSum: input from 13 on; the others from 18 on)."""
        inputs, attrs = self.axes(label, axes, 13 if op == "ReduceSum" else 18)
        return self.op(op, [tensor, *inputs], label, keepdims=int(keepdims), **attrs)

    def replace(self, op: str, inputs: Sequence[gs.Tensor], label: str, **attrs: Any) -> gs.Node:
        """The last new node takes over the anchor's outputs; the anchor goes, with whatever fed only it."""
        feeding = list(self.anchor.inputs)
        outputs = list(self.anchor.outputs)
        self.anchor.outputs.clear()
        node = self.edit.before(self.anchor, op, f"{self.anchor.name}/{label}", list(inputs), outputs, **attrs)
        self.edit.remove(self.anchor)
        sweep(self.edit, feeding)
        return node


def sweep(edit: Editor, tensors: Iterable[gs.Tensor]) -> None:
    """Remove the producers of tensors that nobody uses any more, and theirs."""
    kept = {id(tensor) for graph in edit.model.graphs() for tensor in graph.outputs}
    waiting = list(tensors)
    while waiting:
        node = producer(waiting.pop())
        if node is None or bodies(node) or any(out.outputs or id(out) in kept for out in node.outputs):
            continue
        waiting += list(node.inputs)
        edit.remove(node)


def eager(look: Callable[[R, Findings], Iterator[Edit | Refusal]]) -> Callable[[R, Findings], tuple[Edit | Refusal, ...]]:
    """A rule's ``propose`` that has finished looking before the first repair is applied to the same model."""

    @wraps(look)
    def propose(rule: R, evidence: Findings) -> tuple[Edit | Refusal, ...]:
        return tuple(look(rule, evidence))

    return propose
