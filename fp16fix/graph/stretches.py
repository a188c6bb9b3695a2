"""A long graph → stretches of it that follow one another, and which tensors cross the borders between them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import onnx_graphsurgeon as gs

from fp16fix.graph.model import bodies, element_type, graphs_under
from fp16fix.half import BF16


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some of the nodes of a graph, which they stay in."""

    graph: gs.Graph
    """What they read from outside are its inputs; it has no outputs."""
    fed: tuple[str, ...]
    """Tensors read here that earlier stretches made."""
    carried: tuple[str, ...]
    """Tensors made here that later stretches read."""
    spent: tuple[str, ...]
    """Tensors fed that no later stretch reads."""


def stretches(graph: gs.Graph, long: int, window: int) -> list[Stretch]:
    """In order.

    Args:
        graph: nodes in topological order.
        long: nodes of a stretch, at most.
        window: a border is moved back by up to this many nodes to where the fewest tensors cross it.
    """
    nodes = list(graph.nodes)
    parts = [nodes[start:end] for start, end in pairwise(borders(nodes, long, window))]
    read = [reads(part) for part in parts]
    inputs = {tensor.name for tensor in graph.inputs}
    place = {tensor.name: index for index, part in enumerate(parts) for node in part for tensor in node.outputs if tensor.name}
    last = {name: index for index, tensors in enumerate(read) for name in tensors}
    crossing = sorted(name for name, made in place.items() if last.get(name, made) > made)
    found = []
    for index, part in enumerate(parts):
        fed = tuple(sorted(name for name in read[index] if place.get(name, index) < index))
        outside = [tensor for name, tensor in sorted(read[index].items()) if name in inputs or place.get(name, index) < index]
        carried, spent = (tuple(name for name in names if index == at[name]) for names, at in ((crossing, place), (fed, last)))
        found.append(Stretch(subgraph(graph, part, outside), fed, carried, spent))
    return found


def subgraph(graph: gs.Graph, nodes: list[gs.Node], outside: list[gs.Tensor]) -> gs.Graph:
    """A graph of some of the nodes."""
    return gs.Graph(
        nodes=nodes,
        inputs=outside,
        outputs=[],
        name="stretch",
        opset=graph.opset,
        import_domains=graph.import_domains,
        ir_version=graph.ir_version,
    )


def reads(part: list[gs.Node]) -> dict[str, gs.Tensor]:
    """What the nodes of a stretch and of the bodies in them read, by name; some of it they make themselves."""
    inner = (body for node in part for each in bodies(node).values() for body in graphs_under(each))
    found = [
        *(t for node in part for t in node.inputs),
        *(t for body in inner for t in (*body.outputs, *(t for n in body.nodes for t in n.inputs))),
    ]
    return {tensor.name: tensor for tensor in found if isinstance(tensor, gs.Variable) and tensor.name}


def borders(nodes: list[gs.Node], long: int, window: int) -> list[int]:
    """Where stretches begin, and the end."""
    found = [0]
    if len(nodes) <= long:
        return [0, len(nodes)]
    price = prices(nodes)
    while len(nodes) - found[-1] > long:
        places = range(found[-1] + long - window, found[-1] + long + 1)
        found.append(min(places, key=lambda index: (price[index], -index)))
    return [*found, len(nodes)]


def prices(nodes: list[gs.Node]) -> list[int]:
    """For each position how many tensors are alive there; those that NumPy cannot store make a position very dear."""
    change = [0] * (len(nodes) + 2)
    made: dict[str, tuple[int, gs.Tensor]] = {}
    until: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in reads([node]):
            until[name] = index
        made |= {tensor.name: (index, tensor) for tensor in node.outputs if tensor.name}
    for name, (index, tensor) in made.items():
        weight = len(nodes) if element_type(tensor) in (0, BF16.onnx) else 1
        change[index + 1] += weight
        change[until.get(name, index) + 1] -= weight
    alive, total = [], 0
    for step in change:
        total += step
        alive.append(total)
    return alive
