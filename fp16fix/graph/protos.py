"""Walks over protos that nobody has checked yet: a graph in an attribute counts, whatever type the attribute is said to have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
