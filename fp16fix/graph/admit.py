"""What ONNX Runtime loads is processed: the checker's complaint becomes a note, and what it complained of is put in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import onnx.checker
import onnxruntime as ort

from fp16fix.errors import ModelError, first_line
from fp16fix.graph.session import options_for

UNNAMED = "graph"
"""What a graph is called that has no name."""


def complaint(subject: onnx.ModelProto | str) -> str:
    """What ``onnx.checker`` has against a model or a file, in its own words; empty if nothing."""
    try:
        onnx.checker.check_model(subject)
    except Exception as error:  # noqa: BLE001 - the checker's own errors, protobuf's and C++ ones share no base class
        return first_line(error)
    return ""


def refuse_unloadable(path: Path, why: str) -> None:
    """A file that the checker refuses must load in ONNX Runtime.

    Raises:
        ModelError: it does not; in the words of both.
    """
    try:
        ort.InferenceSession(str(path), options_for(optimise=False), providers=["CPUExecutionProvider"])
    except Exception as error:
        said = f"onnx.checker refuses it: {why}; and ONNX Runtime does not load it: {first_line(error)}"
        raise ModelError(said, where=str(path), hint="repair the export; nothing was changed") from error


def put_in_order(proto: onnx.ModelProto) -> list[str]:
    """Names for graphs that have none, nodes behind what they read, each output once; in place, with notes on what was done."""
    notes = []
    for graph in graphs_of(proto.graph):
        graph.name = graph.name or UNNAMED
        if sort(graph):
            notes.append(f"the nodes of graph {graph.name!r} were not in topological order and were sorted")
    names = [value.name for value in proto.graph.output]
    if len(set(names)) < len(names):
        for index in reversed([i for i, name in enumerate(names) if name in names[:i]]):
            del proto.graph.output[index]
        notes.append("outputs that were declared twice are declared once")
    return notes


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all bodies under it."""
    yield graph
    for node in graph.node:
        for body in bodies_of(node):
            yield from graphs_of(body)


def bodies_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs that a node holds itself."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def sort(graph: onnx.GraphProto) -> bool:
    """Put nodes behind what they read, otherwise as they stood; whether anything moved. A cycle is left as it is."""
    nodes = list(graph.node)
    made = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{made[name] for name in reads(node) if name in made} for node in nodes]
    if all(before < index for index, each in enumerate(needs) for before in each):
        return False
    order: list[int] = []
    done: set[int] = set()
    while len(order) < len(nodes):
        ready = [index for index, each in enumerate(needs) if index not in done and each <= done]
        if not ready:
            return False
        order += ready
        done.update(ready)
    copies = [onnx.NodeProto.FromString(nodes[index].SerializeToString()) for index in order]
    del graph.node[:]
    graph.node.extend(copies)
    return True


def reads(node: onnx.NodeProto) -> set[str]:
    """Every name that a node and the bodies in it read."""
    inner = (each for body in bodies_of(node) for graph in graphs_of(body) for each in graph.node)
    results = (value.name for body in bodies_of(node) for graph in graphs_of(body) for value in graph.output)
    return {*node.input, *(name for each in inner for name in each.input), *results}


def undeclared(proto: onnx.ModelProto) -> dict[str, onnx.TensorShapeProto]:
    """Take the shapes off the outputs, in place, so that inference says what they are; returns them by name."""
    found = {}
    for value in proto.graph.output:
        if value.type.tensor_type.HasField("shape"):
            found[value.name] = onnx.TensorShapeProto.FromString(value.type.tensor_type.shape.SerializeToString())
            value.type.tensor_type.ClearField("shape")
    return found


def declare(proto: onnx.ModelProto, shapes: Mapping[str, onnx.TensorShapeProto]) -> list[str]:
    """Give outputs their declared shapes again, in place, but for those whose rank is another one; with a note each."""
    notes = []
    for value in proto.graph.output:
        found, declared = value.type.tensor_type, shapes.get(value.name)
        if declared is None:
            continue
        if found.HasField("shape") and len(declared.dim) != len(found.shape.dim):
            notes.append(f"output {value.name!r} is declared with rank {len(declared.dim)} and has rank {len(found.shape.dim)}")
        else:
            found.shape.CopyFrom(declared)
    return notes
