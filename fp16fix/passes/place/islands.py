"""What must be wide → the set of nodes that runs wide, by minimum cut between what a compiled plan moves more and inserting casts.

Every float node is on one of two sides. A wide product costs the extra bytes it moves and the extra time of its FLOPs; inside of a kernel
FP32 costs nothing (``place.price``). A tensor whose producer and readers disagree costs one Cast (shared by its readers). Two hazards a
node apart become one island when that is cheaper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fp16fix.graph.model import Constant, Model, Node, Tensor, bodies
from fp16fix.graph.operators import PRODUCTS
from fp16fix.graph.ops import float_inputs, float_outputs, is_float_node
from fp16fix.passes.place.pins import Forced
from fp16fix.passes.place.price import Price
from fp16fix.ranges.range import Range

NODE = 4096
"""What one more wide node costs besides what it moves, in bytes: one more thing to explain."""
CAST = NODE
"""What a Cast inside of a kernel costs: a rounding that the node beyond it would not need. Two hazards one node apart become one island."""
BORDER = 1
"""What a Cast at a kernel's border costs: nothing in a plan, which stores the narrow side."""
FLOPS_PER_BYTE = 100
"""FP32 FLOPs that take as long as a byte of memory traffic: tensor-core FP16 is an order of magnitude faster, so extra time is
FLOPs / FLOPS_PER_BYTE in bytes (A100: 19.5 TFLOP/s FP32 against 1.6–2.0 TB/s gives about 10 per byte at equal cost; the matrix
units raise what is lost to about ten times that for the FP16 path, hence charged at 1/10 of a byte per FP32 FLOP at most)."""
LARGE = 2**30
SCALE = 64
"""Bytes a unit of capacity stands for (maximum_flow takes 32-bit integers)."""


@dataclass(frozen=True, slots=True)
class Islands:
    """The cut and its price."""

    nodes: frozenset[str]
    forced: frozenset[str]
    """Those of ``nodes`` that something forces; the rest is cheaper wide than casts around it."""
    cost_bytes: int
    """What a compiled plan moves more with them, in bytes (``place.price``)."""


def islands(model: Model, ranges: Mapping[str, Range], force: Forced, allow: frozenset[str] = frozenset()) -> Islands:
    """The cheapest set of wide nodes that contains everything forced.

    Args:
        model: the graph that will be lowered.
        ranges: shapes of its tensors, for sizes.
        force: from ``pins.forced``.
        allow: nodes the user wants in FP16 whatever is found.
    """
    nothing = Islands(frozenset(), frozenset(), 0)
    return Network(model, ranges, force, allow).cut() if force.nodes or force.tensors else nothing


class Network:
    """The flow network: source = wide, sink = FP16."""

    def __init__(self, model: Model, ranges: Mapping[str, Range], force: Forced, allow: frozenset[str]) -> None:
        self.ranges = ranges
        self.price = Price(model, ranges)
        self.index: dict[object, int] = {"wide": 0, "half": 1}
        self.edges: dict[tuple[int, int], int] = {}
        self.names: list[str] = []
        for node in model.nodes():
            if is_float_node(node):
                self.names.append(node.name)
                self.add_node(node, force, allow)
        for node in model.nodes():
            for tensor in float_outputs(node):
                self.add_tensor(tensor)

    def vertex(self, key: object) -> int:
        return self.index.setdefault(key, len(self.index))

    def edge(self, a: int, b: int, bytes_: float) -> None:
        capacity = min(LARGE, max(1, math.ceil(bytes_ / SCALE)))
        self.edges[a, b] = min(LARGE, self.edges.get((a, b), 0) + capacity)

    def add_node(self, node: Node, force: Forced, allow: frozenset[str]) -> None:
        vertex = self.vertex(node.name)
        if node.name in allow:
            self.edges[vertex, 1] = LARGE
            return
        moved = self.price.product(node) if node.op in PRODUCTS else 0
        self.edge(vertex, 1, NODE + moved + flops(node, self.ranges) * 10 / FLOPS_PER_BYTE)
        borders = [t for body in bodies(node).values() for t in (*body.inputs, *body.outputs)]
        touches = {t.name for t in (*float_inputs(node), *float_outputs(node), *borders)}
        if node.name in force.nodes or touches & force.tensors:
            self.edges[0, vertex] = LARGE

    def add_tensor(self, tensor: Tensor) -> None:
        """One Cast where the producer's side and some reader's side differ."""
        maker = tensor.inputs[0]
        producer = self.index[maker.name]
        reading = [node for node in tensor.outputs if node.name in self.index]
        readers = sorted({self.index[node.name] for node in reading})
        if not readers:
            return
        cost = BORDER if all(self.price.crosses(maker, node) for node in reading) else CAST
        down, up = self.vertex(("down", tensor.name)), self.vertex(("up", tensor.name))
        self.edge(producer, down, cost)
        self.edge(up, producer, cost)
        for reader in readers:
            self.edges[down, reader] = LARGE
            self.edges[reader, up] = LARGE

    def cut(self) -> Islands:
        """Nodes on the wide side of a minimum cut."""
        if not any(a == 0 for a, _ in self.edges):
            return Islands(frozenset(), frozenset(), 0)
        # Most repairs pin nothing, and SciPy takes a third of a second to import.
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import breadth_first_order, maximum_flow

        size = len(self.index)
        keys = sorted(self.edges)
        matrix = csr_matrix(
            ([self.edges[key] for key in keys], ([a for a, _ in keys], [b for _, b in keys])), shape=(size, size), dtype=np.int32
        )
        result = maximum_flow(matrix, 0, 1)
        residual = matrix - result.flow
        residual.data = np.maximum(residual.data, 0)
        residual.eliminate_zeros()
        reached = set(breadth_first_order(residual, 0, return_predecessors=False).tolist())
        wide = frozenset(name for name in self.names if self.index[name] in reached)
        forced = frozenset(name for name in wide if (0, self.index[name]) in self.edges)
        return Islands(wide, forced, self.price.of(wide))


def costs(nodes: Iterable[Node], ranges: Mapping[str, Range]) -> dict[str, float]:
    """What each node costs a search that keeps it wide: its FLOPs, and one for being there at all."""
    return {node.name: 1.0 + flops(node, ranges) for node in nodes}


def flops(node: Node, ranges: Mapping[str, Range]) -> float:
    """Multiply-adds counted as two; 0 for what is not a product (its time is its traffic)."""
    outputs = float_outputs(node)
    seen = ranges.get(outputs[0].name) if outputs else None
    if seen is None:
        return 0.0
    return 2.0 * math.prod(seen.shape) * inner_length(node, ranges)


def inner_length(node: Node, ranges: Mapping[str, Range]) -> int:
    """Terms of each dot product."""

    def shape(index: int) -> tuple[int, ...]:
        if index >= len(node.inputs):
            return ()
        tensor = node.inputs[index]
        seen = ranges.get(tensor.name)
        return tuple(tensor.shape) if isinstance(tensor, Constant) else seen.shape if seen is not None else ()

    if node.op in {"Conv", "ConvTranspose"}:
        weight = shape(1)
        return math.prod(weight[1:]) if node.op == "Conv" else math.prod((weight[:1] + weight[2:]) if weight else ())
    if node.op in PRODUCTS:
        left = shape(0)
        return (left[0] if node.attrs.get("transA") else left[-1]) if left else 0
    return 0
