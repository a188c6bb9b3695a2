"""A graph as a proto: integers of less than a byte, which onnx-graphsurgeon writes a byte each, are packed as ONNX asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnx.numpy_helper
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import LazyValues

from fp16fix.graph.external import PACKED
from fp16fix.graph.model import element_type, graphs_under


def exported(graph: gs.Graph, *, checked: bool = True) -> onnx.ModelProto:
    """The complete proto of a graph, which stays as it was; ``checked`` as onnx-graphsurgeon checks types."""
    with packed(graph):
        proto: onnx.ModelProto = gs.export_onnx(graph, do_type_check=checked)
    return proto


@contextmanager
def packed(graph: gs.Graph) -> Iterator[None]:
    """Every constant of a type whose elements share a byte is, while the block runs, the very proto that ONNX makes of it."""
    constants = {
        id(tensor): tensor
        for each in graphs_under(graph)
        for node in each.nodes
        for tensor in node.inputs
        if isinstance(tensor, gs.Constant) and element_type(tensor) in PACKED
    }.values()
    held = [(tensor, tensor.values) for tensor in constants]
    try:
        for tensor, values in held:
            tensor.values = LazyValues(onnx.numpy_helper.from_array(values, tensor.name))
        yield
    finally:
        for tensor, values in held:
            tensor.values = values
