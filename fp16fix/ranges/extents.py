"""Shapes of the tensors inside If, Loop and Scan bodies, as a run shows them; a branch that never ran has none.

A shape becomes a row like any other figure (``ranges.probe``): its rank and its first dimensions, the largest of all visits.
"""

from __future__ import annotations

import numpy as np

from fp16fix.graph.model import Model, Tensor, element_type
from fp16fix.ranges.probe import FLOAT, INT64, Probes, beside

RANK = 8
"""Dimensions that a row holds; tensors of more have no known shape (TensorRT has 8, ``nvinfer1::Dims::MAX_DIMS``)."""
COLUMNS = ("max",) * (RANK + 1)


class Extents:
    """Rows of shapes, added to a model that is probed already; ``shapes_of`` reads them."""

    def __init__(self, probed: Model, wanted: frozenset[str]) -> None:
        """Probe the named tensors of bodies; what the model hands out already, it still does."""
        self.probes = Probes(probed, COLUMNS, row)
        with beside(probed):
            self.probes.install(lambda tensor: tensor.name in wanted)

    def shapes_of(self, found: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
        """By tensor, of one run."""
        rows = ((name, matrix.reshape(-1, RANK + 1).max(axis=0)) for name, matrix in self.probes.rows_of(found))
        return {name: tuple(int(size) for size in row[1 : int(row[0]) + 1]) for name, row in rows if 0 <= row[0] <= RANK}


class Rounds:
    """Counts how often the bodies of Loops run, in a model that is probed already."""

    def __init__(self, probed: Model) -> None:
        """Count in every Loop; what the model hands out already, it still does."""
        loops = [node for node in probed.nodes() if node.op == "Loop"]
        self.of = {node.attrs["body"].inputs[0].name: node.name for node in loops if node.attrs["body"].inputs}
        self.probes = Probes(probed, ("sum",), lambda probes, _: probes.emit("Identity", [probes.literal([[1.0]])]))
        with beside(probed):
            self.probes.install(lambda tensor: tensor.name in self.of)

    def counted(self, found: dict[str, np.ndarray]) -> dict[str, int]:
        """By Loop, of one run."""
        return {self.of[name]: int(matrix.sum()) for name, matrix in self.probes.rows_of(found)}


def inside_bodies(model: Model) -> frozenset[str]:
    """Names of the FP32 tensors that bodies make or take in."""
    graphs = list(model.graphs())[1:]
    inner = (tensor for graph in graphs for tensor in (*graph.inputs, *(t for node in graph.nodes for t in node.outputs)))
    return frozenset(tensor.name for tensor in inner if tensor.name and element_type(tensor) == FLOAT)


def row(probes: Probes, tensor: Tensor) -> Tensor:
    """Rank, then dimensions, then zeros."""
    shape = probes.emit("Shape", [tensor], INT64)
    rank = probes.emit("Shape", [shape], INT64)
    padded = probes.emit("Concat", [shape, probes.literal([0] * RANK, np.int64)], INT64, axis=0)
    kept = probes.emit("Slice", [padded, probes.literal([0], np.int64), probes.literal([RANK], np.int64)], INT64)
    cells = probes.emit("Cast", [probes.emit("Concat", [rank, kept], INT64, axis=0)], to=FLOAT)
    return probes.emit("Reshape", [cells, probes.literal([1, RANK + 1], np.int64)])
