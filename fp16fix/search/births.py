"""FP32 model + typed model → where error is born: every node runs strictly on exact inputs, so that no fault hides behind an earlier one.

In a plain shadow run the first NaN drowns whatever goes wrong after it. Here each strict node reads the FP32 values, rounded as the
typed graph stores them, in the same pass over the same graph; what comes out wrong was born in that node.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.graph.model import Model, element_type
from fp16fix.graph.ops import CONTROL, MOVEMENT, float_inputs, float_outputs
from fp16fix.half import BF16, FP16, FP32
from fp16fix.search.blame import BORN_DB, CEILING_DB
from fp16fix.search.segments import Sample
from fp16fix.search.shadow import Error, Pair, compare_in_graph, side_by_side

STORED = "stored/"
"""Prefix of labels of what rounding a tensor costs by itself."""


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
    unstorable: frozenset[str] = frozenset(),
    least_db: float = BORN_DB,
    threads: int = 0,
) -> list[Birth]:
    """Main-graph nodes whose output errs more than their stored inputs, worst first.

    A node with bodies (If, Loop, Scan) is one node here: what goes wrong inside is born in it.

    Args:
        model: the FP32 model.
        typed: the same graph, lowered (``repair.lower``).
        samples: run once each.
        unstorable: tensors known to leave FP16; a node with bodies reads them unrounded, or nothing would be seen of what it does itself.
        least_db: how much more.
        threads: ONNX Runtime threads.
    """
    host, twins = exact_inputs(model, typed, unstorable)
    pairs = [Pair(name, name, twin) for name, twin in twins.strict.items()]
    pairs += [Pair(STORED + name, name, twin) for name, twin in twins.stored.items()]
    errors = compare_in_graph(host, pairs, samples, threads=threads)
    neighbours = Neighbours(
        model, unstorable, {name.removeprefix(STORED) for name, error in errors.items() if name.startswith(STORED) and lost(error)}
    )
    found = [birth for node in model.graph.nodes if (birth := birth_of(node, errors, neighbours, least_db)) is not None]
    return sorted(found, key=lambda birth: (-birth.drop_db, birth.node))


def lost(error: Error) -> bool:
    """More than one rounding explains."""
    return CEILING_DB - error.damage_db >= BORN_DB


def birth_of(node: gs.Node, errors: Mapping[str, Error], neighbours: Neighbours, least_db: float) -> Birth | None:
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
    """Float nodes of the main graph before and after a node; nodes that only move values are looked through, and named too."""

    def __init__(self, model: Model, exact: frozenset[str], unstorable: set[str]) -> None:
        self.exact = exact
        self.unstorable = unstorable
        self.place = {node.name: index for index, node in enumerate(model.graph.nodes)}
        self.own = {id(node) for node in model.graph.nodes}

    def rounded_inputs(self, node: gs.Node) -> list[gs.Tensor]:
        """Float inputs that its strict twin reads rounded."""
        return [t for t in float_inputs(node) if not (node.op in CONTROL and t.name in self.exact)]

    def in_order(self, names: set[str]) -> tuple[str, ...]:
        """In graph order."""
        return tuple(sorted(names, key=self.place.__getitem__))

    def readers(self, node: gs.Node) -> set[str]:
        """Who reads what cannot be stored, and reads what comes of it as long as that cannot be stored either."""
        found: set[str] = set()
        pending = [t for t in float_outputs(node) if t.name in self.unstorable]
        while pending:
            for reader in pending.pop().outputs:
                if id(reader) in self.own and reader.name not in found:
                    found.add(reader.name)
                    pending += [t for t in float_outputs(reader) if reader.op in MOVEMENT or t.name in self.unstorable]
        return found

    def producers(self, node: gs.Node) -> set[str]:
        """Who rounds what the node magnifies."""
        found: set[str] = set()
        pending = float_inputs(node)
        while pending:
            for producer in pending.pop().inputs:
                if id(producer) in self.own and producer.name not in found:
                    found.add(producer.name)
                    pending += float_inputs(producer) if producer.op in MOVEMENT else []
        return found


@dataclass(frozen=True, slots=True)
class Twins:
    """Strict tensors beside their FP32 originals, by the originals' names."""

    strict: dict[str, gs.Tensor]
    """Computed strictly from exact inputs."""
    stored: dict[str, gs.Tensor]
    """The exact value, rounded."""


def exact_inputs(model: Model, typed: Model, unstorable: frozenset[str] = frozenset()) -> tuple[Model, Twins]:
    """Both graphs in one, every strict node reading rounded FP32 values instead of strict ones."""
    low = {name: element for name, t in typed.tensors().items() if (element := element_type(t)) in (FP16.onnx, BF16.onnx)}
    host, twins = side_by_side(model, typed)
    edit = Editor(host)
    strict, stored = {}, {}
    after: dict[int, list[gs.Node]] = {}
    for producer, tensor in own_tensors(model, host):
        twin = twins.get(tensor.name)
        if twin is None or element_type(twin) != FP32.onnx:
            continue
        if twin is not tensor:
            strict[tensor.name] = twin
        if tensor.name not in low:
            if twin is not tensor:
                redirect(twin, tensor, tensor)
            continue
        nodes, rounded = rounding(edit, tensor, low[tensor.name])
        stored[tensor.name] = rounded
        after[id(producer)] = [*after.get(id(producer), ()), *nodes]
        if twin is not tensor:
            redirect(twin, rounded, tensor if tensor.name in unstorable else rounded)
    ordered = list(after.get(id(None), ()))
    for node in host.graph.nodes:
        ordered += [node, *after.get(id(node), ())]
    host.graph.nodes[:] = ordered
    return host, Twins(strict, stored)


def own_tensors(model: Model, host: Model) -> list[tuple[gs.Node | None, gs.Tensor]]:
    """The FP32 graph's own tensors in the host, with their producers."""
    names = {node.name for node in model.graph.nodes}
    found: list[tuple[gs.Node | None, gs.Tensor]] = [(None, tensor) for tensor in host.graph.inputs]
    return found + [(node, t) for node in host.graph.nodes if node.name in names for t in node.outputs if t.name]


def redirect(old: gs.Tensor, new: gs.Tensor, for_control: gs.Tensor) -> None:
    """Every reader of ``old`` reads ``new``, those in bodies too; nodes with bodies read ``for_control``."""
    for reader in list(old.outputs):
        for index, used in enumerate(reader.inputs):
            if used is old:
                reader.inputs[index] = for_control if reader.op in CONTROL else new


def rounding(edit: Editor, tensor: gs.Tensor, element: int) -> tuple[list[gs.Node], gs.Tensor]:
    """Cast to the low format and back."""
    narrow, wide = edit.variable(f"{tensor.name}/narrow", element), edit.variable(f"{tensor.name}/stored", FP32.onnx)
    wide.dtype = np.dtype(np.float32)
    down = gs.Node("Cast", edit.fresh(f"{tensor.name}/narrow"), attrs={"to": element}, inputs=[tensor], outputs=[narrow])
    up = gs.Node("Cast", edit.fresh(f"{tensor.name}/stored"), attrs={"to": FP32.onnx}, inputs=[narrow], outputs=[wide])
    return [down, up], wide
