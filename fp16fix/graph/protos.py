"""Walks over protos that nobody has checked yet (a graph in an attribute counts, whatever type that is said to have), and saving."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

LIMIT = 2**31 - 2**26
"""Protobuf messages end at 2 GiB, of which the nodes take a few."""


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


def save_proto(proto: onnx.ModelProto, path: Path) -> None:
    """Write a proto, which stays as it is; weights past what protobuf holds go into a file beside it."""
    if proto.ByteSize() < LIMIT:
        onnx.save(proto, path)
        return
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    onnx.save(copy, path, save_as_external_data=True, location=f"{path.name}.data")
