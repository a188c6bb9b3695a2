"""Nodes and their laws → what is special about tensors: whose small values matter, how fast they grow, which never meet FP16."""

from __future__ import annotations

from collections.abc import Iterable

from fp16fix.graph.model import Model, Node, Tensor, Variable, scalar
from fp16fix.graph.operators import AVERAGES, CARRIES_SMALL, CONTROL, GUARDS, operator
from fp16fix.passes.rescale.equations import Equation, constant_power, operands

Laws = list[tuple[Node, tuple[Equation, ...]]]
"""Every node, outer graphs first, with its equations."""
DEGREE = 4.0
"""Head-room is widened for products of up to this many activations."""


def inside(nodes: Iterable[Node], wide: frozenset[str]) -> set[str]:
    """Tensors that only nodes in FP32 touch."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for node in nodes:
        found[node.name in wide] |= {tensor.name for tensor in operands(node).values()}
    return found[True] - found[False]


def delicate(laws: Laws) -> dict[str, float]:
    """Tensors whose small values matter by themselves, because a reciprocal, a root or a logarithm follows: down to which value.

    An eps that is added on the way, or a floor, hides what is smaller; 0.0 where there is none.
    """
    found: dict[str, float] = {}
    for node, law in reversed(laws):
        ports = operands(node)
        small = f"x{operator(node.op).small}"
        if small in ports and law and (constant_power(node) or 0) < 1:
            found[ports[small].name] = 0.0
        if node.op in CARRIES_SMALL and any(t.name in found for t in node.outputs):
            moving = [t for p, t in ports.items() if p[0] == "x" and isinstance(t, Variable)]
            floor = max([found.get(t.name, 0.0) for t in node.outputs] + [guard(t) for t in ports.values() if node.op in GUARDS])
            found |= {t.name: min(floor, found.get(t.name, floor)) for t in moving if len(moving) == 1}
    return found


def guard(tensor: Tensor) -> float:
    """The literal that a tensor is, if it is positive; else 0.0."""
    return max(scalar(tensor) or 0.0, 0.0)


def averaged(model: Model) -> set[str]:
    """Activations that are read for their mean alone: what is small beside it does not show, and its window guards small means."""
    results = {tensor.name for graph in model.graphs() for tensor in graph.outputs}
    made = [tensor for node in model.nodes() for tensor in node.outputs if tensor.outputs and tensor.name not in results]
    return {tensor.name for tensor in made if all(node.op in AVERAGES for node in tensor.outputs)}


def degrees(model: Model, laws: Laws) -> dict[str, float]:
    """By how many octaves each activation grows when the graph's inputs grow by one: a square doubles the head-room it needs.

    The laws say so themselves: a tensor twice as large is one whose exponent was forgotten. Sums grow as their fastest operand.
    """
    found = {tensor.name: 1.0 for graph in model.graphs() for tensor in graph.inputs}
    for node, law in laws:
        ports = operands(node)
        for equation in law:
            results = [(port, factor) for port, factor in equation if port[0] == "y"]
            if len(results) == 1 and not any(port[0] == "@" for port, _ in equation):
                (result, scale), name = results[0], ports[results[0][0]].name
                grown = -sum(factor * found.get(ports[port].name, 0.0) for port, factor in equation if port != result) / scale
                found[name] = max(found.get(name, -DEGREE), min(DEGREE, grown))
        for tensor in node.outputs if node.op in CONTROL else ():
            found[tensor.name] = 1.0
    return found
