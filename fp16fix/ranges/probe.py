"""Probes: nodes that reduce a tensor to one short row inside the graph, and carry rows out of If, Loop and Scan bodies.

No tensor leaves the runtime: each becomes one row. What a loop body or a branch saw over many visits, or none, is folded into one row
before it leaves the control node, so that rows have the same shape whatever the trip counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx

from fp16fix.graph import quick
from fp16fix.graph.edit import Editor
from fp16fix.graph.model import Constant, Graph, Model, Node, Tensor, Variable, bodies, element_type

PROBING = 13
"""Oldest opset in which every probe is written the same way; a copy of an older model is raised to it for measuring."""

LARGEST = 3.4e38
"""Stands for infinity in rows."""

FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL

SMALL = 1 << 12
"""Elements up to which alike tensors are looked at together."""
PILE = 1 << 18
"""Elements of a pile of them, which waits in memory until it is looked at: 1 MiB."""

Reduce = Callable[["Probes", Tensor], Tensor]
"""Writes nodes that turn a tensor into a ``[1, columns]`` row, or a pile of them, ``[tensors, elements]``, into one row each."""


class Probes:
    """Adds probes to one model; ``emit`` is what a ``Reduce`` writes nodes with."""

    def __init__(self, model: Model, kinds: Sequence[str], reduce: Reduce, *, piles: bool = False) -> None:
        """Probe ``model`` with rows whose columns fold over visits by ``max``, ``min`` or ``sum``.

        ``piles``: ``reduce`` asks neither which tensor it is given nor for its shape, so that small ones of one size can share its nodes.
        """
        self.model = model
        self.kinds = tuple(kinds)
        self.columns = len(self.kinds)
        self.reduce = reduce
        self.piles = piles
        self.height = 0
        """Tensors in the pile that is looked at; 0 where it is a tensor by itself."""
        self.elements = 0
        """Of each of them."""
        self.edit = Editor(model)
        self.nodes: list[Node] = []
        self.made: set[int] = set()
        """Nodes put where tensors are yet to be probed."""
        self.order: list[str] = []
        """Tensors of the main graph, one row each, in the order of the ``rows`` output."""
        self.rows = "rows"
        """The output that carries them; another name where the model has a tensor of this one."""
        self.nested: list[tuple[str, str]] = []
        """(tensor of a body, name of the output that carries its row)."""

    def emit(self, op: str, inputs: Sequence[Any], element: int = FLOAT, **attrs: Any) -> Tensor:
        """One node with one output."""
        out = self.edit.variable(f"probe/{op}", element)
        self.nodes.append(quick.node(op, self.edit.fresh(f"probe/{op}"), attrs=attrs, inputs=list(inputs), outputs=[out]))
        return out

    def literal(self, values: Any, dtype: Any = np.float32) -> Constant:
        """A constant operand."""
        return self.edit.constant("probe/c", np.asarray(values, dtype))

    def scalars(self, op: str, tensor: Tensor) -> Tensor:
        """``tensor`` reduced over everything to a cell, of shape ``[1]``; a pile to one of each, ``[1, tensors]``."""
        flat = self.emit("Reshape", [tensor, self.literal([-1], np.int64)]) if not self.height else tensor
        axis = 1 if self.height else 0
        if self.model.opset >= 18 or (op == "ReduceSum" and self.model.opset >= 13):
            cells = self.emit(op, [flat, self.literal([axis], np.int64)], keepdims=1)
        else:
            cells = self.emit(op, [flat], axes=[axis], keepdims=1)
        return self.emit("Transpose", [cells], perm=[1, 0]) if self.height else cells

    def count(self, tensor: Tensor) -> Tensor:
        """Elements of a tensor, of each of a pile, as a cell."""
        if self.height:
            return self.literal([[self.elements] * self.height])
        return self.emit("Cast", [self.emit("Reshape", [self.emit("Size", [tensor], INT64), self.literal([1], np.int64)], INT64)], to=FLOAT)

    def row(self, cells: Sequence[Tensor]) -> Tensor:
        """Cells as a ``[1, columns]`` row, of a pile as a row each."""
        together = self.emit("Concat", cells, axis=0)
        if self.height:
            return self.emit("Transpose", [together], perm=[1, 0])
        return self.emit("Reshape", [together, self.literal([1, self.columns], np.int64)])

    def added_up(self, count: Tensor, row: Callable[[Tensor], Tensor]) -> Tensor:
        """The sum of ``row(0) … row(count − 1)``, made one after another.

        Args:
            count: an INT64 scalar.
            row: writes nodes that make a ``[1, columns]`` row of a step, an INT64 scalar; it may read any tensor of the graph.
        """
        step, going, before = (
            self.edit.variable(f"probe/{name}", element, shape)
            for name, element, shape in (("step", INT64, []), ("going", BOOL, []), ("before", FLOAT, [1, self.columns]))
        )
        outside, self.nodes = self.nodes, []
        after = self.emit("Add", [before, row(step)])
        still = self.emit("Identity", [going], BOOL)
        graph = self.model.graph
        body = Graph(
            self.nodes, [step, going, before], [still, after], name="pieces", opset=graph.opset, import_domains=graph.import_domains
        )
        self.nodes = outside
        total = self.edit.variable("probe/Loop", FLOAT, [1, self.columns])
        inputs = [count, self.literal(True, np.bool_), self.literal(np.zeros((1, self.columns)))]
        self.nodes.append(Node("Loop", self.edit.fresh("probe/Loop"), attrs={"body": body}, inputs=inputs, outputs=[total]))
        return total

    def install(self, wanted: Callable[[Tensor], bool]) -> None:
        """Probe every wanted tensor; main-graph rows become the output ``rows``, those of bodies one output each."""
        graph = self.model.graph
        piled = self.pile_up(wanted) if self.piles else []
        together = {name for names, _ in piled for name in names}
        rows, carried = self.graph_rows(graph, lambda tensor: tensor.name not in together and wanted(tensor))
        self.order = [*(name for names, _ in piled for name in names), *(name for name, _ in rows)]
        rows = [*(("", matrix) for _, matrix in piled), *rows]
        outputs = []
        if rows:
            out = self.edit.variable("rows", FLOAT)
            self.rows = out.name
            graph.nodes.append(Node("Concat", self.edit.fresh("probe/rows"), attrs={"axis": 0}, inputs=[t for _, t in rows], outputs=[out]))
            outputs.append(out)
        self.nested = [(name, tensor.name) for name, tensor in carried]
        graph.outputs = [*outputs, *(tensor for _, tensor in carried)]

    def pile_up(self, wanted: Callable[[Tensor], bool]) -> list[tuple[list[str], Tensor]]:
        """Look at the small tensors of the main graph by size; the names in each pile, and their rows."""
        graph, waiting, piled = self.model.graph, dict[int, list[Tensor]](), list[tuple[list[str], Tensor]]()
        ordered: list[Node] = []

        def look(elements: int) -> None:
            flat, tensors = self.literal([1, elements], np.int64), waiting.pop(elements)
            self.nodes, self.height, self.elements = [], len(tensors), elements
            pile = self.emit("Concat", [self.emit("Reshape", [tensor, flat]) for tensor in tensors], axis=0)
            piled.append(([tensor.name for tensor in tensors], self.reduce(self, pile)))
            self.height = 0
            self.made |= {id(node) for node in self.nodes}
            ordered.extend(self.nodes)

        for node in [None, *graph.nodes]:
            if node is not None:
                ordered.append(node)
            for tensor in graph.inputs if node is None else node.outputs:
                elements = size_of(tensor)
                if tensor.name and 0 < elements <= SMALL and wanted(tensor):
                    waiting.setdefault(elements, []).append(tensor)
                    if len(waiting[elements]) * elements >= PILE:
                        look(elements)
        for elements in list(waiting):
            if len(waiting[elements]) > 1:
                look(elements)
        graph.nodes[:] = ordered
        return piled

    def rows_of(self, found: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """(tensor, its rows) of one run of the probed model."""
        if self.order:
            yield from ((name, row[None, :]) for name, row in zip(self.order, found[self.rows], strict=True))
        for name, output in self.nested:
            yield name, found[output]

    def graph_rows(self, graph: Graph, wanted: Callable[[Tensor], bool]) -> tuple[list[tuple[str, Tensor]], list[tuple[str, Tensor]]]:
        """Rows of this graph's own tensors, and matrices carried out of the bodies in it."""
        rows: list[tuple[str, Tensor]] = []
        carried: list[tuple[str, Tensor]] = []
        ordered: list[Node] = []
        for tensor in graph.inputs:
            if wanted(tensor):
                rows.append((tensor.name, self.probe(tensor, ordered)))
        for node in graph.nodes:
            ordered.append(node)
            if id(node) in self.made:
                continue
            own = list(node.outputs)
            carried += self.carry(node, wanted, ordered)
            for tensor in own:
                if tensor.name and wanted(tensor):
                    rows.append((tensor.name, self.probe(tensor, ordered)))
        graph.nodes[:] = ordered
        return rows, carried

    def probe(self, tensor: Tensor, ordered: list[Node]) -> Tensor:
        """The row of one tensor; its nodes follow the producer at once, so that the tensor can be freed."""
        self.nodes = []
        row = self.reduce(self, tensor)
        ordered += self.nodes
        return row

    def carry(self, node: Node, wanted: Callable[[Tensor], bool], ordered: list[Node]) -> list[tuple[str, Tensor]]:
        """Give a control node one more output for every tensor probed inside its bodies."""
        carried: list[tuple[str, Tensor]] = []
        inner = bodies(node)
        for key, body in inner.items():
            rows, deeper = self.graph_rows(body, wanted)
            for name, matrix in (*rows, *deeper):
                out = self.edit.variable(f"{name}/rows", FLOAT)
                node.outputs.append(out)
                body.outputs.append(matrix)
                for attribute in ("scan_output_axes", "scan_output_directions"):
                    if attribute in node.attrs:
                        node.attrs[attribute] = [*node.attrs[attribute], 0]
                for other_key, other in inner.items():
                    if other_key != key:
                        other.outputs.append(self.nothing(other))
                self.nodes = []
                folded = self.folded(out)
                ordered += self.nodes
                carried.append((name, folded))
        return carried

    def folded(self, matrix: Tensor) -> Tensor:
        """Rows of all visits, however many, as one row."""
        flat = self.emit("Reshape", [matrix, self.literal([-1, self.columns], np.int64)])
        rows = self.emit("Concat", [self.literal([self.neutral()]), flat], axis=0)
        cells = []
        for index, kind in enumerate(self.kinds):
            column = self.emit("Gather", [rows, self.literal(index, np.int64)], axis=1)
            cells.append(self.scalars({"max": "ReduceMax", "min": "ReduceMin", "sum": "ReduceSum"}[kind], column))
        return self.row(cells)

    def neutral(self) -> list[float]:
        """The row of no visit: it changes nothing it is folded with."""
        return [{"max": -LARGEST, "min": LARGEST, "sum": 0.0}[kind] for kind in self.kinds]

    def nothing(self, graph: Graph) -> Tensor:
        """The neutral row, made inside ``graph``: the branch not taken saw nothing."""
        self.nodes = []
        out = self.emit("Identity", [self.literal([self.neutral()])])
        self.made |= {id(node) for node in self.nodes}
        graph.nodes.extend(self.nodes)
        return out


@contextmanager
def beside(model: Model) -> Iterator[None]:
    """What the model hands out already, it still does, in front of what is installed meanwhile."""
    outputs = list(model.graph.outputs)
    yield
    model.graph.outputs = [*outputs, *model.graph.outputs]


def size_of(tensor: Tensor) -> int:
    """Elements of a tensor whose shape is static, else 0."""
    shape = tensor.shape
    return math.prod(shape) if shape is not None and all(isinstance(size, (int, np.integer)) for size in shape) else 0


def is_fp32(tensor: Tensor) -> bool:
    """Whether a tensor is an FP32 activation."""
    return isinstance(tensor, Variable) and element_type(tensor) == FLOAT


def rounded(probes: Probes, tensor: Tensor) -> Tensor:
    """``tensor`` through the model's narrow type and back."""
    nodes, stored = probes.edit.rounding(tensor, probes.model.narrow.onnx)
    probes.nodes += nodes
    return stored
