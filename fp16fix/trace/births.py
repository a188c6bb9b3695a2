"""FP32 model + typed model → where error is born: every node runs strictly on exact inputs, so that no fault hides behind an earlier one.

In a plain shadow run the first NaN drowns whatever goes wrong after it. Here each strict node reads the FP32 values, rounded as the
typed graph stores them, in the same pass over the same graph; what comes out wrong was born in that node.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor, redirect
from fp16fix.graph.model import Model, bodies, element_type, inner_nodes
from fp16fix.graph.operators import MOVEMENT
from fp16fix.graph.ops import float_inputs, float_outputs
from fp16fix.graph.splice import splice_body
from fp16fix.graph.walk import walk
from fp16fix.half import BF16, FP16, FP32
from fp16fix.trace.damage import Damage, Pair
from fp16fix.trace.segments import Sample
from fp16fix.trace.shadow import PREFIX, compare_in_graph, side_by_side

CEILING_DB = 70.0
"""No tensor is credited with more than one FP16 rounding leaves (about 73 dB): an exact input makes no culprit of its reader."""
BORN_DB = 6.0
"""A node whose worst output is this much worse than its worst input gives birth to error (one bit)."""
STORED = "stored/"
"""Prefix of labels of what rounding a tensor costs by itself."""
GROWTH = 4.0
"""A result this many times an operand that is itself past 65504 needs an answer of its own: an exponent for one leaves the other out."""
NONE: Mapping[str, float] = MappingProxyType({})
INSIDE = "inside/"
"""Prefix of strict nodes that run beside those of an FP32 body."""


class Source(str, Enum):
    """What about a node gives birth to error."""

    RESULT = "result"
    """Its exact result does not survive being stored; whoever reads it must be wide too."""
    OPERANDS = "operands"
    """It magnifies the rounding of what it reads; whoever produces that must be wide too."""


@dataclass(frozen=True, slots=True)
class Birth:
    """One node that loses more than it is given."""

    node: str
    op: str
    tensor: str
    """Its worst output."""
    sqnr_in_db: float
    """Of its worst input as stored in FP16, exact before that; 70 at most."""
    sqnr_out_db: float
    """Of its worst output; −inf with new non-finite values."""
    source: Source
    pins: tuple[str, ...]
    """The node, and whoever reads a result of it that cannot be stored; in graph order."""
    operands: tuple[str, ...] = ()
    """Who produces the operands whose rounding it magnifies; in graph order."""

    @property
    def is_real(self) -> bool:
        """More is lost than FP16 loses anyway."""
        return self.drop_db >= BORN_DB

    @property
    def is_lost(self) -> bool:
        """Values became infinite or NaN."""
        return math.isinf(self.sqnr_out_db)

    @property
    def drop_db(self) -> float:
        """What is lost in this node; lost values count as an output at −200 dB."""
        return self.sqnr_in_db - max(self.sqnr_out_db, -200.0)


def births(
    model: Model,
    typed: Model,
    samples: Iterable[Sample],
    *,
    unstorable: Mapping[str, float] = NONE,
    least_db: float = BORN_DB,
    threads: int = 0,
) -> list[Birth]:
    """Nodes whose output errs more than their stored inputs, worst first.

    Nodes in bodies of If, Loop and Scan are judged over all their visits. The node that holds a body is named only where none in it is:
    then its error comes of rounding what it carries from visit to visit.

    Args:
        model: the FP32 model.
        typed: the same graph, lowered (``repair.lower``).
        samples: run once each.
        unstorable: tensors known to leave FP16, with their largest magnitude. Whoever reads them reads them unrounded, or nothing would be
            seen of what it does itself; passing such a value on, no more than ``GROWTH`` times larger, is no birth.
        least_db: how much more.
        threads: ONNX Runtime threads.
    """
    unstorable = with_states(model, unstorable)
    host, twins = exact_inputs(model, typed, unstorable)
    pairs = [Pair(name, name, twin) for name, twin in twins.strict.items()]
    pairs += [Pair(STORED + name, name, twin) for name, twin in twins.stored.items()]
    errors = compare_in_graph(host, pairs, samples, threads=threads)
    neighbours = Neighbours(
        model, unstorable, {name.removeprefix(STORED) for name, error in errors.items() if name.startswith(STORED) and lost(error)}
    )
    found = [
        birth
        for node in model.nodes()
        if (birth := birth_of(node, errors, neighbours, least_db)) is not None and not passes_on(node, birth, unstorable)
    ]
    real = {birth.node for birth in found if birth.is_real}
    explained = {node.name for node in model.nodes() if any(inner.name in real for inner in inner_nodes(node))}
    return sorted((birth for birth in found if birth.node not in explained), key=lambda birth: (-birth.drop_db, birth.node))


def with_states(model: Model, unstorable: Mapping[str, float]) -> dict[str, float]:
    """The same, with the inputs of bodies that hold such values."""
    found = dict(unstorable)
    for node in model.nodes():
        for body in bodies(node).values():
            for index, tensor in enumerate(body.inputs):
                held = [found[each.name] for each in feeds(node, body, index) if each.name in found]
                if held:
                    found[tensor.name] = max(held)
    return found


def passes_on(node: gs.Node, birth: Birth, unstorable: Mapping[str, float]) -> bool:
    """A result that cannot be stored because an operand cannot, and whatever answers that answers both."""
    read = max((unstorable[t.name] for t in float_inputs(node) if t.name in unstorable), default=0.0)
    return birth.source is Source.RESULT and birth.is_lost and read > 0.0 and unstorable.get(birth.tensor, 0.0) <= GROWTH * read


def lost(error: Damage) -> bool:
    """More than one rounding explains."""
    return CEILING_DB - error.damage_db >= BORN_DB


def birth_of(node: gs.Node, errors: Mapping[str, Damage], neighbours: Neighbours, least_db: float) -> Birth | None:
    """What the errors say of one node."""
    outputs = [errors[t.name] for t in float_outputs(node) if t.name in errors]
    if not outputs:
        return None
    worst = min(outputs, key=lambda error: error.damage_db)
    inside = min([CEILING_DB, *(errors[STORED + t.name].damage_db for t in neighbours.rounded_inputs(node) if STORED + t.name in errors)])
    out = min(worst.damage_db, CEILING_DB)
    if math.isinf(inside) or inside - out < least_db:
        return None
    stored = errors.get(STORED + worst.tensor)
    is_kept = stored is None or stored.damage_db - out >= BORN_DB
    source = Source.OPERANDS if is_kept else Source.RESULT
    pins = neighbours.in_order({node.name, *neighbours.readers(node)})
    operands = neighbours.in_order(neighbours.producers(node)) if is_kept else ()
    return Birth(node.name, node.op, worst.tensor, inside, out, source, pins, operands)


class Neighbours:
    """Float nodes before and after a node; nodes that only move values are looked through, and named too.

    What a body hands out is read by the node that holds it and, on the next visit, by the body itself; what comes into a body is made
    by whoever feeds that node, or by the body's own last visit.
    """

    def __init__(self, model: Model, exact: Collection[str], unstorable: set[str]) -> None:
        self.exact = exact
        self.unstorable = unstorable
        self.place = {node.name: index for index, node in enumerate(model.nodes())}
        self.readers_of: dict[int, list[gs.Node]] = defaultdict(list)
        self.makers_of: dict[int, list[gs.Node]] = defaultdict(list)
        for node in model.nodes():
            for tensor in node.inputs:
                self.readers_of[id(tensor)].append(node)
            for tensor in node.outputs:
                self.makers_of[id(tensor)].append(node)
        for node in model.nodes():
            for body in bodies(node).values():
                for tensor in body.outputs:
                    self.readers_of[id(tensor)].append(node)
                for index, tensor in enumerate(body.inputs):
                    for each in feeds(node, body, index):
                        self.makers_of[id(tensor)] += self.makers_of[id(each)]
                        self.readers_of[id(each)] += self.readers_of[id(tensor)]

    def rounded_inputs(self, node: gs.Node) -> list[gs.Tensor]:
        """Float inputs that its strict twin reads rounded."""
        return [t for t in float_inputs(node) if t.name not in self.exact]

    def in_order(self, names: set[str]) -> tuple[str, ...]:
        """In graph order."""
        return tuple(sorted(names, key=self.place.__getitem__))

    def readers(self, node: gs.Node) -> set[str]:
        """Who reads what cannot be stored, and reads what comes of it as long as that cannot be stored either."""

        def lost(each: gs.Node, *, moves: bool) -> list[gs.Node]:
            held = [t for t in float_outputs(each) if moves or t.name in self.unstorable]
            return [reader for tensor in held for reader in self.readers_of[id(tensor)]]

        return {reader.name for reader in walk(lost(node, moves=False), lambda each: lost(each, moves=each.op in MOVEMENT))}

    def producers(self, node: gs.Node) -> set[str]:
        """Who rounds what the node magnifies."""

        def back(each: gs.Node) -> list[gs.Node]:
            return [maker for tensor in float_inputs(each) for maker in self.makers_of[id(tensor)]]

        return {maker.name for maker in walk(back(node), lambda each: back(each) if each.op in MOVEMENT else [])}


def feeds(node: gs.Node, body: gs.Graph, index: int) -> list[gs.Tensor]:
    """What one input of a Loop's or Scan's body holds: the node's own input, and for a state what the last visit left (ONNX operators)."""
    own = node.inputs[index : index + 1]  # trip count and condition of a Loop may be left out
    if node.op == "Loop":
        return [*own, *([body.outputs[index - 1]] if index >= 2 else [])]
    states = len(body.inputs) - int(node.attrs.get("num_scan_inputs", 0))
    return [*own, *([body.outputs[index]] if index < states else [])]


@dataclass(frozen=True, slots=True)
class Twins:
    """Strict tensors beside their FP32 originals, by the originals' names."""

    strict: dict[str, gs.Tensor]
    """Computed strictly from exact inputs."""
    stored: dict[str, gs.Tensor]
    """The exact value, rounded."""


def exact_inputs(model: Model, typed: Model, unstorable: Collection[str] = ()) -> tuple[Model, Twins]:
    """Both graphs in one, every strict node reading rounded FP32 values instead of strict ones.

    Beside each body of the FP32 graph's own If, Loop and Scan nodes runs a copy of its strict one on the same visits, likewise.
    """
    host, twins = side_by_side(model, typed)
    laid = Laying(model, typed, host, unstorable)
    laid.graph(host.graph, twins, PREFIX)
    return host, Twins(laid.strict, laid.stored)


class Laying:
    """Makes the strict nodes of one host read rounded FP32 values, graph by graph, outer before inner."""

    def __init__(self, model: Model, typed: Model, host: Model, unstorable: Collection[str]) -> None:
        self.own = {node.name for node in model.nodes()}
        self.low = {name: element for name, t in typed.tensors().items() if (element := element_type(t)) in (FP16.onnx, BF16.onnx)}
        self.edit = Editor(host)
        self.unstorable = unstorable
        self.strict: dict[str, gs.Tensor] = {}
        self.stored: dict[str, gs.Tensor] = {}

    def graph(self, graph: gs.Graph, twins: Mapping[str, gs.Tensor], prefix: str) -> None:
        """One graph of the host and, by FP32 tensors' names, the strict twins that lie in it; then the bodies in it."""
        ordered = [node for tensor in graph.inputs if tensor.name in twins for node in self.lay(tensor, twins[tensor.name])]
        late: list[gs.Node] = []
        """Roundings of the node before: its strict twin goes first, so that what that reads is free when these are made."""
        for node in graph.nodes:
            if node.name in self.own:
                ordered += late
                late = []
            ordered.append(node)
            for tensor in node.outputs if node.name in self.own else ():
                twin = twins.get(tensor.name)
                if twin is not None and element_type(twin) == FP32.onnx:
                    self.strict[tensor.name] = twin
                    late += self.lay(tensor, twin)
        graph.nodes[:] = ordered = [*ordered, *late]
        by_name = {node.name: node for node in ordered}
        for node in [node for node in ordered if node.name in self.own]:
            for key, body in bodies(node).items():
                strict = bodies(by_name[prefix + node.name])[key]
                self.graph(body, splice_body(body, strict, INSIDE, prefix), INSIDE + prefix)

    def lay(self, tensor: gs.Tensor, twin: gs.Tensor) -> list[gs.Node]:
        """Let the readers of a twin read the exact value, as stored; returns the nodes that round it. Inputs are their own twins."""
        nodes: list[gs.Node] = []
        exact = tensor
        if tensor.name in self.low:
            nodes, exact = self.edit.rounding(tensor, self.low[tensor.name])
            self.stored[tensor.name] = exact
        if twin is not tensor:
            redirect(twin, tensor if tensor.name in self.unstorable else exact)
        return nodes
