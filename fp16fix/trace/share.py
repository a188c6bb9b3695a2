"""Nodes → what each does to the outputs by itself: one FP32 graph with a switch a node that lets its strict result through."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fp16fix.errors import ModelError
from fp16fix.graph import quick
from fp16fix.graph.edit import Editor, drop_unread, redirect, rounding_of
from fp16fix.graph.model import Model
from fp16fix.graph.ops import float_outputs
from fp16fix.graph.session import Session
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
    """One FP32 pass a sample for each node, and two more; the graph is compiled once.

    Args:
        model: the FP32 model.
        typed: the same graph, lowered.
        nodes: by name, those of bodies too.
        samples: few will do.
        unstorable: see ``births``.
        threads: ONNX Runtime threads.
    """
    board = Session(switchboard(model, typed, nodes, unstorable), threads=threads, arena=False)
    totals: dict[str, list[np.ndarray]] = {}
    kept: list[tuple[Sample, list[np.ndarray]]] = []
    for sample in samples:
        exact = [np.asarray(value) for value in board.run({**sample, **switches(nodes, ())}).values()]
        kept.append((sample, exact))
        for on, key in (*(((name,), name) for name in nodes), (nodes, ALL)):
            add(totals, key, exact, attempted(board, exact, {**sample, **switches(nodes, on)}))
    del board  # its working memory, before the next session takes its own
    strict = Session(emulate(typed), threads=threads, arena=False)
    for sample, exact in kept:
        add(totals, WHOLE, exact, attempted(strict, exact, sample))
    return Shares({name: damage(totals.get(name, [])) for name in nodes}, damage(totals.get(ALL, [])), damage(totals.get(WHOLE, [])))


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
        found = [np.asarray(value) for value in session.run(sample).values()]
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
