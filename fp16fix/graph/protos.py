"""Walks over protos that nobody has checked yet, and their order: a graph in an attribute counts, whatever type it is said to have."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

import onnx


def bodies_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """Graphs that nodes hold themselves."""
    for node in nodes:
        for attribute in node.attribute:
            yield from (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all bodies under it."""
    yield graph
    for body in bodies_of(graph.node):
        yield from graphs_of(body)


def sort(graph: onnx.GraphProto) -> bool:
    """Put nodes behind what they read, otherwise as they stood; whether anything moved. A cycle is left as it is."""
    nodes = list(graph.node)
    made = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{made[name] for name in reads(node) if name in made} for node in nodes]
    if all(before < index for index, each in enumerate(needs) for before in each):
        return False
    order = topological(needs)
    if len(order) < len(nodes):
        return False
    copies = [onnx.NodeProto.FromString(nodes[index].SerializeToString()) for index in order]
    del graph.node[:]
    graph.node.extend(copies)
    return True


def topological(needs: Sequence[set[int]]) -> list[int]:
    """Numbers behind those they need, the lowest that can come first (Kahn 1962); those of a cycle are missing."""
    left = [len(each) for each in needs]
    readers: list[list[int]] = [[] for _ in needs]
    for index, each in enumerate(needs):
        for before in each:
            readers[before].append(index)
    ready, order = [index for index, count in enumerate(left) if not count], []
    while ready:
        order.append(heapq.heappop(ready))
        for reader in readers[order[-1]]:
            left[reader] -= 1
            if not left[reader]:
                heapq.heappush(ready, reader)
    return order


def reads(node: onnx.NodeProto) -> set[str]:
    """Every name that a node and the bodies in it read."""
    inner = (each for body in bodies_of([node]) for graph in graphs_of(body) for each in graph.node)
    results = (value.name for body in bodies_of([node]) for graph in graphs_of(body) for value in graph.output)
    return {*node.input, *(name for each in inner for name in each.input), *results}
