"""Nodes → what each does to the outputs by itself: FP32 graphs with a switch a node that lets its strict result through.

What lies before a node is exact when it alone is strict: it is computed once, and the nodes of each stretch have a graph that begins there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fp16fix.errors import ModelError
from fp16fix.graph import quick
from fp16fix.graph.edit import Editor, drop_unread, redirect, rounding_of
from fp16fix.graph.model import Model, element_type, inner_nodes, numpy_type
from fp16fix.graph.ops import float_outputs
from fp16fix.graph.random import random_nodes
from fp16fix.graph.session import Session
from fp16fix.graph.stretches import prices, reads
from fp16fix.strict.emulate import emulate
from fp16fix.strict.rounds import bound
from fp16fix.trace.births import exact_inputs
from fp16fix.trace.segments import Sample

ALL, WHOLE = "\0all", "\0whole"
"""Keys that are no node's name."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Damage is Σ(ref − x)² / Σ ref² of each output, lost values counted as wholly wrong, 1 at most an output, added up over outputs."""

    alone: dict[str, float]
    """Node → damage when it alone computes strictly and everything else in FP32."""
    together: float
    """Damage when all of them do."""
    everything: float
    """Damage when the whole graph does."""

    @property
    def explained(self) -> float:
        """``together`` against ``everything``, 1 at most and where there is nothing to explain."""
        return min(1.0, self.together / self.everything) if self.everything > 0.0 else 1.0

    def share(self, node: str) -> float:
        """A node's part in the damage that the nodes do one at a time; all shares add up to 1, or are 0 if there is no damage."""
        total = sum(self.alone.values())
        return self.alone.get(node, 0.0) / total if total > 0.0 else 0.0


def shares(
    model: Model,
    typed: Model,
    nodes: Sequence[str],
    samples: Iterable[Sample],
    *,
    unstorable: Collection[str] = (),
    threads: int = 0,
) -> Shares:
    """``alone``, and two more passes a sample: of all the nodes together, and of the whole typed graph; arguments are the same."""
    kept = list(samples)
    by_node = alone(model, typed, nodes, kept, unstorable=unstorable, threads=threads)
    totals: dict[str, list[np.ndarray]] = {}
    exact = []
    board = Session(switchboard(model, typed, nodes, unstorable), threads=threads, arena=False)
    for sample in kept:
        exact.append(arrays(board, {**sample, **switches(nodes, ())}))
        add(totals, ALL, exact[-1], attempted(board, exact[-1], {**sample, **switches(nodes, nodes)}))
    del board  # its working memory, before the next session takes its own
    strict = Session(emulate(typed), threads=threads, arena=False)
    for sample, reference in zip(kept, exact, strict=True):
        add(totals, WHOLE, reference, attempted(strict, reference, sample))
    return Shares(by_node, damage(totals.get(ALL, [])), damage(totals.get(WHOLE, [])))


def alone(
    model: Model,
    typed: Model,
    nodes: Sequence[str],
    samples: Sequence[Sample],
    *,
    unstorable: Collection[str] = (),
    threads: int = 0,
) -> dict[str, float]:
    """Node → damage when it alone computes strictly, see ``Shares``: one pass a sample for each, of what lies behind it.

    Args:
        model: the FP32 model.
        typed: the same graph, lowered.
        nodes: by name, those of bodies too.
        samples: few will do.
        unstorable: see ``births``.
        threads: ONNX Runtime threads.
    """
    parts = pieces(model, nodes)
    crossing = sorted({name for part in parts for name in part.fed})
    totals: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory(prefix="fp16fix-share-") as scratch:
        files = {name: f"{index}.npy" for index, name in enumerate(crossing)}
        folders = [Path(scratch) / str(number) for number in range(len(samples))]
        exact = []
        session = Session(model, threads=threads, arena=False, inner=crossing)
        for folder, sample in zip(folders, samples, strict=True):
            folder.mkdir()
            found = session.run(sample, whole=True)
            for name, file in files.items():
                np.save(folder / file, found[name])
            exact.append([np.asarray(found[tensor.name]) for tensor in model.graph.outputs])
        del session
        for part in parts:
            board = Session(begun(switchboard(model, typed, part.nodes, unstorable), part), threads=threads, arena=False)
            for folder, sample, whole in zip(folders, samples, exact, strict=True):
                fed = {f"{FED}{name}": np.load(folder / files[name]) for name in part.fed}
                reference = [whole[index] for index in part.given]
                for name in part.nodes:
                    add(totals, name, reference, attempted(board, reference, {**sample, **fed, **switches(part.nodes, (name,))}))
            del board
    return {name: damage(totals.get(name, [])) for name in nodes}


FED = "fed/"
"""Prefix of what a graph that begins later is fed with."""
PIECES, AT_LEAST = 32, 2
"""Stretches, of so many nodes that are asked about at least: each takes a graph of its own."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the nodes that are asked about, and where the graph begins that tells of them."""

    nodes: tuple[str, ...]
    given: tuple[int, ...]
    """Which outputs are made in it: those before are exact."""
    fed: tuple[str, ...] = ()
    """What is made before it and read in it."""


def pieces(model: Model, names: Sequence[str]) -> list[Piece]:
    """The nodes in stretches, parted where little crosses; a graph that draws random numbers begins at its beginning."""
    nodes = list(model.graph.nodes)
    place = {inner.name: index for index, node in enumerate(nodes) for inner in (node, *inner_nodes(node))}
    ordered = sorted(names, key=place.__getitem__)
    count = min(PIECES, len(names) // AT_LEAST)
    if count < 2 or random_nodes(model):
        return [Piece(tuple(names), tuple(range(len(model.graph.outputs))))]
    price = prices(nodes)
    window = max(1, len(nodes) // (4 * count))
    wanted = [place[ordered[len(ordered) * number // count]] for number in range(1, count)]
    best = {min(range(max(1, at - window), min(len(nodes) - 1, at + window) + 1), key=lambda index: (price[index], index)) for at in wanted}
    starts = [0, *sorted(index for index in best if price[index] < len(nodes)), len(nodes)]
    found = []
    for start, end in pairwise(starts):
        own = tuple(name for name in ordered if start <= place[name] < end)
        made = {tensor.name for node in nodes[:start] for tensor in node.outputs}
        later = {tensor.name for node in nodes[start:] for tensor in node.outputs}
        given = tuple(index for index, tensor in enumerate(model.graph.outputs) if tensor.name in later)
        if own:
            found.append(Piece(own, given, tuple(sorted(reads(nodes[start:]).keys() & made))))
    return found


def begun(host: Model, part: Piece) -> Model:
    """A switchboard that begins where its nodes do, in place: what was made before is fed, what was handed out before is not."""
    host.graph.outputs = [host.graph.outputs[index] for index in part.given]
    tensors, graphs = host.graph.tensors(), list(host.graphs())
    for name in part.fed:
        old = tensors[name]
        # Sizes that are declared may be stale; ranks are not.
        shape = None if old.shape is None else [f"{FED}{name}/{axis}" for axis in range(len(old.shape))]
        new = quick.variable(f"{FED}{name}", dtype=numpy_type(element_type(old)), shape=shape)
        host.graph.inputs.append(new)
        redirect(old, new, outputs_of=graphs)
    drop_unread(host.graph)
    return host


def arrays(session: Session, sample: Sample) -> list[np.ndarray]:
    """Outputs in order."""
    return [np.asarray(value) for value in session.run(sample).values()]


def add(totals: dict[str, list[np.ndarray]], key: str, exact: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> None:
    """One sample's sums an output."""
    figures = [sums(reference, value) for reference, value in zip(exact, values, strict=True)]
    totals[key] = [old + new for old, new in zip(totals[key], figures, strict=True)] if key in totals else figures


def switchboard(model: Model, typed: Model, nodes: Sequence[str], unstorable: Collection[str] = ()) -> Model:
    """The FP32 graph in which input ``switch/k`` makes the readers of the k-th node's outputs see its strict results.

    A switch of a node in a body holds for every visit.
    """
    host, twins = exact_inputs(model, typed, unstorable)
    edit = Editor(host)
    by_name = host.node_map()
    by_strict = {id(node) for tensor in twins.strict.values() for node in tensor.inputs}
    after: dict[int, list[gs.Node]] = {}
    for number, name in enumerate(nodes):
        switch = quick.variable(f"switch/{number}", dtype=np.dtype(bool), shape=[])
        host.graph.inputs.append(switch)
        graph = edit.owner(by_name[name])
        for tensor in float_outputs(by_name[name]):
            twin = twins.strict.get(tensor.name)
            if twin is None:
                continue
            out = edit.variable(f"{tensor.name}/switched", onnx.TensorProto.FLOAT, tensor.shape)
            exact = [node for node in tensor.outputs if id(node) not in by_strict]
            redirect(tensor, out, readers=exact, outputs_of=[graph])
            where = quick.node("Where", edit.fresh(f"{tensor.name}/switch"), inputs=[switch, twin, tensor], outputs=[out])
            # What strict readers read is rounded from the switched tensor, so that casts come behind the switch.
            late = rounding_of(twins.stored[tensor.name]) or () if tensor.name in twins.stored else ()
            after.setdefault(id(twin.inputs[0]), []).extend((where, *late))
    moved = {id(node) for nodes_ in after.values() for node in nodes_}
    for graph in list(host.graphs()):
        graph.nodes[:] = [each for node in graph.nodes if id(node) not in moved for each in (node, *after.get(id(node), ()))]
    drop_unread(host.graph)
    # With a switch on, the exact graph's own Loops hang on strict values.
    bound(host, guarded=False)
    return host


def switches(nodes: Sequence[str], on: Iterable[str]) -> dict[str, np.ndarray]:
    """What the switchboard is fed with some of them on."""
    wanted = set(on)
    return {f"switch/{number}": np.asarray(name in wanted) for number, name in enumerate(nodes)}


def attempted(session: Session, exact: Sequence[np.ndarray], sample: Sample) -> list[np.ndarray]:
    """Outputs in order; those that have another shape than FP32's, or do not come because the run fails, are wholly lost."""
    try:
        found = arrays(session, sample)
    except ModelError:
        found = [np.empty(0)] * len(exact)
    return [own if own.shape == ref.shape else lost(ref) for own, ref in zip(found, exact, strict=True)]


def lost(reference: np.ndarray) -> np.ndarray:
    """An output of which nothing is right."""
    return np.full(reference.shape, np.nan if reference.dtype.kind == "f" else None)


PIECE = 1 << 20
"""Elements compared at once, so that large outputs need no float64 copies of themselves."""


def sums(reference: np.ndarray, value: np.ndarray) -> np.ndarray:
    """[Σ ref², Σ (ref − x)²]; a lost value counts as one that misses its signal, at least the average; integers that differ count 1."""
    ref, x = reference.reshape(-1), value.reshape(-1)
    if reference.dtype.kind != "f":
        return np.asarray([float(ref.size), float((ref != x).sum())])
    total = np.zeros(4)
    for start in range(0, ref.size, PIECE):
        total += piece_sums(ref[start : start + PIECE].astype(np.float64), x[start : start + PIECE].astype(np.float64))
    signal, noise, missed, lost = total
    return np.asarray([signal, noise + max(missed, signal * lost / max(1, ref.size))])


def piece_sums(ref: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[Σ ref², Σ (ref − x)² where both are finite, Σ ref² of lost values, how many those are]; what FP32 lost itself is left out."""
    known = np.isfinite(ref)
    ref, x = ref[known], x[known]
    lost = ~np.isfinite(x)
    error = ref[~lost] - x[~lost]
    return np.asarray([ref @ ref, error @ error, ref[lost] @ ref[lost], lost.sum()], np.float64)


def damage(totals: Sequence[np.ndarray]) -> float:
    """Added up over outputs, each at most 1."""
    return float(sum(min(1.0, noise / signal) if signal > 0.0 else float(noise > 0.0) for signal, noise in totals))
