"""What ONNX Runtime loads is processed: the checker's complaint becomes a note, and what it complained of is put in order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx.checker
import onnxruntime as ort

from fp16fix.errors import ModelError, first_line
from fp16fix.graph import runtime
from fp16fix.graph.opaque import opaque_nodes
from fp16fix.graph.protos import graphs_of, sort
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


def refuse_unloadable(path: Path, proto: onnx.ModelProto, why: str) -> None:
    """A file that the checker refuses must load in ONNX Runtime; with stand-ins or operators that are cut out, only what is made of it can.

    Raises:
        ModelError: it does not; in the words of both.
    """
    if runtime.stands_in() or opaque_nodes(proto):
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
