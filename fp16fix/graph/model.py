"""``Model``: one ONNX model held as an onnx-graphsurgeon graph whose node and tensor names are unique across subgraphs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx

# What a graph is made of, for whoever reads graphs; onnx-graphsurgeon itself is for whoever edits them.
# ruff: noqa: PLC0414 - an alias is how a name is passed on (PEP 484)
from onnx_graphsurgeon import Constant as Constant
from onnx_graphsurgeon import Graph as Graph
from onnx_graphsurgeon import Node as Node
from onnx_graphsurgeon import Tensor as Tensor
from onnx_graphsurgeon import Variable as Variable

from fp16fix.graph.opaque import Opaque
from fp16fix.graph.quick import TENSOR, copied
from fp16fix.half import BF16, FP16, FP32, Format

FLOATS = (FP32.onnx, FP16.onnx, BF16.onnx, onnx.TensorProto.DOUBLE)
"""Element types that count as activations; integer tensors never do."""


@dataclass(slots=True)
class Model:
    """A mutable graph and where it came from; rules and ``lower`` edit a ``copy()`` of it, nothing else does."""

    graph: Graph
    name: str
    """Stem of the file, for messages and default output names."""
    digest: str = ""
    """SHA-256 of the file's bytes (external data included)."""
    notes: list[str] = field(default_factory=list)
    """What loading had to say: simplifier skipped, names made up, …"""
    source: Path | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    placed: dict[str, str] = field(default_factory=dict)
    """Nodes the author of a mixed model put in ``fp32`` or ``bf16``: respected as pins."""
    io: dict[str, int] = field(default_factory=dict)
    """Element types of float inputs and outputs in the user's file; the graph itself is held in FP32."""
    border: set[str] = field(default_factory=set)
    """Nodes that stand between the interface and what the graph stores (``passes.rescale.fold``): FP32, and no pins."""
    rounds: dict[str, int] = field(default_factory=dict)
    """How often the body of a Loop ran in FP32, at most; in FP16 one may never end (``strict.rounds``)."""
    narrow: Format = FP16
    """What it is to run in: hazards, ranges and rules ask this for the limits that matter."""
    opaque: Opaque = field(default_factory=Opaque)
    """What was cut out because nothing here computes it; files that are written of the model are whole again."""

    def copy(self) -> Model:
        """A model whose graph can be edited without touching this one; weight values are shared, never edited in place."""
        return Model(
            copied(self.graph),
            self.name,
            self.digest,
            list(self.notes),
            self.source,
            dict(self.metadata),
            dict(self.placed),
            dict(self.io),
            set(self.border),
            dict(self.rounds),
            self.narrow,
            self.opaque,
        )

    def graphs(self) -> Iterator[Graph]:
        """The main graph, then every If/Loop/Scan body, outer before inner, in node order."""
        yield from graphs_under(self.graph)

    def nodes(self) -> Iterator[Node]:
        """Every node of every graph."""
        for graph in self.graphs():
            yield from graph.nodes

    def node_map(self) -> dict[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.nodes()}

    def tensors(self) -> dict[str, Tensor]:
        """Tensors by name, those of bodies included."""
        found: dict[str, Tensor] = {}
        for tensor in every_tensor(self):
            if tensor.name:
                found.setdefault(tensor.name, tensor)
        return found

    def weight(self) -> int:
        """Bytes of initializers."""
        return sum(tensor.values.nbytes for tensor in self.tensors().values() if isinstance(tensor, Constant))

    @property
    def opset(self) -> int:
        """Version of the default ONNX domain."""
        return int(self.graph.opset)


def graphs_under(graph: Graph) -> Iterator[Graph]:
    """``graph`` and every body nested in it, outer before inner."""
    yield graph
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, Graph):
                yield from graphs_under(value)


def bodies(node: Node) -> dict[str, Graph]:
    """Subgraph attributes of a node: ``then_branch``/``else_branch`` of If, ``body`` of Loop and Scan."""
    return {key: value for key, value in node.attrs.items() if isinstance(value, Graph)}


def inner_nodes(node: Node) -> list[Node]:
    """Every node in the bodies of a node, however deep; outer before inner."""
    return [inner for body in bodies(node).values() for graph in graphs_under(body) for inner in graph.nodes]


def tell_apart(model: Model, dimensions: Collection[str]) -> None:
    """Undo these names of dimensions, in place: each dimension of an input gets its own, and nothing is said of other tensors.

    Engines take dimensions of one name for equal, and ONNX Runtime gives tensors of equal shapes one buffer. "?" is no name.
    """
    undone = {*dimensions, "?"}
    inputs = {id(tensor) for tensor in model.graph.inputs}
    for tensor in every_tensor(model):
        if isinstance(tensor, Variable) and tensor.shape is not None and undone.intersection(map(str, tensor.shape)):
            own = f"/{tensor.name}/" if id(tensor) in inputs else ""
            tensor.shape = [dim if dim not in undone else f"{dim}{own}{axis}" if own else None for axis, dim in enumerate(tensor.shape)]


def every_tensor(model: Model) -> Iterator[Tensor]:
    """Each as often as it is met, those of bodies too."""
    for graph in model.graphs():
        yield from (*graph.inputs, *graph.outputs)
        for node in graph.nodes:
            yield from (*node.inputs, *node.outputs)


def is_tensor(tensor: Tensor) -> bool:
    """Whether it is a tensor, and no sequence, optional or map."""
    return getattr(tensor, "type", TENSOR) == TENSOR


def element_type(tensor: Tensor) -> int:
    """``onnx.TensorProto`` element type, 0 if unknown or no tensor. graphsurgeon holds numpy types, or ONNX ints where numpy has none."""
    dtype = tensor.dtype
    if dtype is None or not is_tensor(tensor):
        return 0
    return int(dtype) if isinstance(dtype, (int, np.integer)) else element_of(dtype)


@cache
def element_of(dtype: Any) -> int:
    """``onnx.TensorProto`` element type of a numpy type."""
    if np.dtype(dtype) == np.dtype(ml_dtypes.bfloat16):
        return BF16.onnx
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def numpy_type(element: int) -> Any:
    """What graphsurgeon wants as ``dtype`` for an ONNX element type."""
    return np.dtype(ml_dtypes.bfloat16) if element == BF16.onnx else onnx.helper.tensor_dtype_to_np_dtype(element)


def is_float(tensor: Tensor) -> bool:
    """Whether the tensor holds FP32, FP16, BF16 or FP64 values."""
    return element_type(tensor) in FLOATS


def constant(tensor: Tensor) -> np.ndarray | None:
    """The values of an initializer, or None. Read only: shared between copies of a model."""
    return tensor.values if isinstance(tensor, Constant) else None


def magnitude(values: np.ndarray) -> float:
    """Largest magnitude, NaN if there is one, 0 of nothing; without a copy of what may be a table of gigabytes."""
    return float(np.maximum(float(values.max()), -float(values.min()))) if values.size else 0.0


def scalar(tensor: Tensor) -> float | None:
    """The value of a one-element float or integer initializer, or None."""
    values = constant(tensor) if isinstance(tensor, Constant) and int(np.prod(tensor.shape)) == 1 else None
    return None if values is None else float(values.reshape(-1)[0])
