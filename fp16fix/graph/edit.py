"""The few verbs that rules use to edit a graph: fresh names, new nodes beside old ones, rewiring, removal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph import quick
from fp16fix.graph.model import Model, inner_nodes, numpy_type
from fp16fix.half import FP32


class Editor:
    """Edits one model; knows every name in use, so that what it makes is unique, and which graph owns which node."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._names = set(model.tensors()) | {node.name for node in model.nodes()} | model.opaque.names
        self._counts: dict[str, int] = {}
        """Highest number given to each base name, so that a base used often costs no search."""
        self._near: dict[int, int] = {}
        """Where in a graph, by ``id``, a node was found last: edits mostly follow the order of nodes."""

    @cached_property
    def _owner(self) -> dict[int, gs.Graph]:
        """The graph of each node, by ``id``; what makes no nodes need not know it."""
        return {id(node): graph for graph in self.model.graphs() for node in graph.nodes}

    @cached_property
    def graphs(self) -> list[gs.Graph]:
        """Of the model, as they were when this was asked first; of bodies made since it knows nothing."""
        return list(self.model.graphs())

    @cached_property
    def _nodes(self) -> dict[str, gs.Node]:
        """By name, as they were when this was asked first, or last missed one."""
        return {node.name: node for graph in self.graphs for node in graph.nodes}

    def node(self, name: str) -> gs.Node | None:
        """The node of that name, if there is one."""
        found = self._nodes.get(name)
        if found is None or not found.outputs:
            # Made or removed meanwhile.
            del self._nodes
            found = self._nodes.get(name)
        return found

    def fresh(self, base: str) -> str:
        """``base``, or ``base_2``, ``base_3``… if taken."""
        count = self._counts.get(base, 1)
        name = base if count == 1 else f"{base}_{count}"
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._counts[base] = count
        self._names.add(name)
        return name

    def owner(self, node: gs.Node) -> gs.Graph:
        """The graph (main or body) that holds ``node``."""
        if id(node) not in self._owner:
            # Somebody else put it there meanwhile.
            del self._owner
        return self._owner[id(node)]

    def variable(self, base: str, element: int, shape: Any = None) -> gs.Variable:
        """A new tensor of an ONNX element type."""
        return quick.variable(self.fresh(base), dtype=numpy_type(element), shape=shape)

    def constant(self, base: str, values: np.ndarray) -> gs.Constant:
        """A new initializer."""
        return quick.constant(self.fresh(base), values=values)

    def insert(self, graph: gs.Graph, index: int, op: str, name: str, inputs: list[Any], outputs: list[Any], **attrs: Any) -> gs.Node:
        """A new node at ``index`` of ``graph.nodes`` (keep the order topological)."""
        node = quick.node(op, self.fresh(name), attrs=attrs, inputs=inputs, outputs=outputs)
        graph.nodes.insert(index, node)
        self._owner[id(node)] = graph
        return node

    def before(self, anchor: gs.Node, op: str, name: str, inputs: list[Any], outputs: list[Any], **attrs: Any) -> gs.Node:
        """A new node just before ``anchor`` in the same graph."""
        graph = self.owner(anchor)
        return self.insert(graph, self.position(graph, anchor), op, name, inputs, outputs, **attrs)

    def after(self, anchor: gs.Node, op: str, name: str, inputs: list[Any], outputs: list[Any], **attrs: Any) -> gs.Node:
        """A new node just after ``anchor`` in the same graph."""
        graph = self.owner(anchor)
        return self.insert(graph, self.position(graph, anchor) + 1, op, name, inputs, outputs, **attrs)

    def position(self, graph: gs.Graph, node: gs.Node) -> int:
        """Index of ``node`` by identity (graphsurgeon compares nodes by content)."""
        nodes, near = graph.nodes, self._near.get(id(graph), 0)
        for index in chain(range(near, len(nodes)), range(min(near, len(nodes)))):
            if nodes[index] is node:
                self._near[id(graph)] = index
                return index
        raise ValueError(f"{node.name} is not in graph {graph.name}")

    def rounding(self, tensor: gs.Tensor, element: int, rounded: gs.Tensor | None = None) -> tuple[list[gs.Node], gs.Tensor]:
        """``tensor`` in a low format and back in FP32: the two Casts, to be put into a graph, and what they make.

        Args:
            tensor: in FP32.
            element: the low format.
            rounded: what they are to make; a new tensor if None.
        """
        rounded = self.variable(f"{tensor.name}/rounded", FP32.onnx, tensor.shape) if rounded is None else rounded
        narrow = self.variable(f"{tensor.name}/low", element, tensor.shape)
        down = quick.node("Cast", self.fresh(f"{tensor.name}/round"), attrs={"to": element}, inputs=[tensor], outputs=[narrow])
        up = quick.node("Cast", self.fresh(f"{tensor.name}/unround"), attrs={"to": FP32.onnx}, inputs=[narrow], outputs=[rounded])
        return [down, up], rounded

    def remove(self, node: gs.Node) -> None:
        """Take ``node`` out; its outputs lose their producer."""
        graph = self.owner(node)
        del graph.nodes[self.position(graph, node)]
        node.inputs.clear()
        node.outputs.clear()
        del self._owner[id(node)]


_shared: ContextVar[Editor | None] = ContextVar("editor", default=None)


@contextmanager
def edited(model: Model) -> Iterator[None]:
    """For many small edits of one model in turn: ``editor_of`` it is the same one, which looks through the model once."""
    before = _shared.set(Editor(model))
    try:
        yield
    finally:
        _shared.reset(before)


def shared_of(model: Model) -> Editor | None:
    """The editor of a model that is being ``edited``."""
    shared = _shared.get()
    return shared if shared is not None and shared.model is model else None


def editor_of(model: Model) -> Editor:
    """Of a model that may be being ``edited``."""
    return shared_of(model) or Editor(model)


def graphs_of(model: Model) -> Iterable[gs.Graph]:
    """Of a model that may be being ``edited``: rules make no bodies."""
    shared = shared_of(model)
    return model.graphs() if shared is None else shared.graphs


def node_of(model: Model, name: str) -> gs.Node | None:
    """The node of that name, of a model that may be being ``edited``; None if there is none."""
    shared = shared_of(model)
    return next((node for node in model.nodes() if node.name == name), None) if shared is None else shared.node(name)


def rounding_of(tensor: gs.Tensor) -> tuple[gs.Node, gs.Node] | None:
    """The pair of Casts, down and up, that made a rounded tensor; None for one that was made otherwise."""
    up = tensor.inputs[0] if tensor.inputs else None
    if up is None or up.op != "Cast" or not up.inputs[0].inputs:
        return None
    down = up.inputs[0].inputs[0]
    return (down, up) if down.op == "Cast" else None


def redirect(old: gs.Tensor, new: gs.Tensor, *, readers: Iterable[gs.Node] | None = None, outputs_of: Iterable[gs.Graph] = ()) -> None:
    """Whoever reads ``old`` reads ``new``, nodes in bodies too.

    Args:
        old: keeps its producer.
        new: may be anything the readers can see.
        readers: only these nodes; None for all.
        outputs_of: graphs that hand out ``new`` in the place of ``old``, too; a body may hand out what lies around it.
    """
    for reader in list(old.outputs) if readers is None else readers:
        for index, used in enumerate(reader.inputs):
            if used is old:
                reader.inputs[index] = new
    for graph in outputs_of:
        graph.outputs[:] = [new if each is old else each for each in graph.outputs]


def put_behind(graph: gs.Graph, made: Mapping[str, gs.Node]) -> None:
    """Put nodes into a main graph, each right behind what makes a tensor of it, by the tensor's name."""
    behind = [(node, [made[tensor.name] for tensor in node.outputs if tensor.name in made]) for node in graph.nodes]
    graph.nodes[:] = [each for node, more in behind for each in (node, *more)]


def put_before_readers(graph: gs.Graph, groups: Iterable[Sequence[gs.Node]]) -> None:
    """Put nodes into a main graph, each group right before the first node that reads what it makes, itself or in a body.

    What nobody reads comes first.
    """
    waiting = {tensor.name: group for group in groups for node in group for tensor in node.outputs}
    ordered: list[gs.Node] = []

    def place(group: Sequence[gs.Node]) -> None:
        ordered.extend(group)
        for tensor in [tensor for node in group for tensor in node.outputs]:
            del waiting[tensor.name]

    for node in graph.nodes:
        for reader in (node, *inner_nodes(node)):
            for tensor in reader.inputs:
                if tensor.name in waiting:
                    place(waiting[tensor.name])
        ordered.append(node)
    first, ordered = ordered, []
    while waiting:
        place(next(iter(waiting.values())))
    graph.nodes[:] = [*ordered, *first]


def drop_unread(graph: gs.Graph) -> None:
    """Drop nodes that no output needs, in place (a runtime would run them); order, bodies and interface stay."""
    graph.cleanup(remove_unused_node_outputs=False, recurse_subgraphs=False, remove_unused_graph_inputs=False)
