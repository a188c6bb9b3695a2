"""What ONNX Runtime loads is processed: the checker's complaint becomes a note, and what it complained of is put in order."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnx.checker
import onnxruntime as ort

from fp16fix.errors import ModelError, first_line
from fp16fix.graph import runtime
from fp16fix.graph.protos import bodies_of, graphs_of
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
    """A file that the checker refuses must load in ONNX Runtime; with stand-ins, only what is made of it can.

    Raises:
        ModelError: it does not; in the words of both.
    """
    if runtime.stands_in():
        return
    try:
        ort.InferenceSession(str(path), options_for(optimise=False), providers=runtime.providers())
    except Exception as error:
        said = f"onnx.checker refuses it: {why}; and ONNX Runtime does not load it: {first_line(error)}"
        raise ModelError(said, where=str(path), hint="repair the export; nothing was changed") from error


def put_in_order(proto: onnx.ModelProto) -> list[str]:
    """Names for graphs that have none, nodes behind what they read; in place, with notes on what was done."""
    notes = []
    for graph in graphs_of(proto.graph):
        graph.name = graph.name or UNNAMED
        if sort(graph):
            notes.append(f"the nodes of graph {graph.name!r} were not in topological order and were sorted")
    return notes


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


def undeclared(proto: onnx.ModelProto) -> dict[str, onnx.TensorShapeProto]:
    """Take the shapes off the outputs, in place, so that inference says what they are; returns them by name."""
    found = {}
    for value in proto.graph.output:
        if value.type.tensor_type.HasField("shape"):
            found[value.name] = onnx.TensorShapeProto.FromString(value.type.tensor_type.shape.SerializeToString())
            value.type.tensor_type.ClearField("shape")
    return found


def declare(proto: onnx.ModelProto, shapes: Mapping[str, onnx.TensorShapeProto]) -> list[str]:
    """Give outputs their declared shapes again, in place, but for those that are of another shape; with a note each."""
    notes = []
    for value in proto.graph.output:
        found, declared = value.type.tensor_type, shapes.get(value.name)
        if declared is None:
            continue
        if found.HasField("shape") and len(declared.dim) != len(found.shape.dim):
            notes.append(f"output {value.name!r} is declared with rank {len(declared.dim)} and has rank {len(found.shape.dim)}")
        elif found.HasField("shape") and any(map(differ, declared.dim, found.shape.dim)):
            notes.append(f"output {value.name!r} is declared as {dims(declared)} and is {dims(found.shape)}")
        else:
            found.shape.CopyFrom(declared)
    return notes


def differ(one: onnx.TensorShapeProto.Dimension, other: onnx.TensorShapeProto.Dimension) -> bool:
    """Whether two sizes are known and not the same."""
    return one.HasField("dim_value") and other.HasField("dim_value") and one.dim_value != other.dim_value


def dims(shape: onnx.TensorShapeProto) -> str:
    """``1x24x?``."""
    return "x".join(str(each.dim_value) if each.HasField("dim_value") else each.dim_param or "?" for each in shape.dim)
