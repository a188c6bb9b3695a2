"""Nodes → what each does to the outputs by itself: one FP32 graph with a switch a node that lets its strict result through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.graph.model import Model
from fp16fix.graph.ops import float_outputs
from fp16fix.graph.session import Session
from fp16fix.search.births import exact_inputs
from fp16fix.search.segments import Sample
from fp16fix.strict.emulate import emulate

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
    unstorable: frozenset[str] = frozenset(),
    threads: int = 0,
) -> Shares:
    """One FP32 pass a sample for each node, and two more; the graph is compiled once.

    Args:
        model: the FP32 model.
        typed: the same graph, lowered.
        nodes: main-graph nodes.
        samples: few will do.
        unstorable: see ``births``.
        threads: ONNX Runtime threads.
    """
    session = Session(switchboard(model, typed, nodes, unstorable), threads=threads)
    strict = Session(emulate(typed), threads=threads)
    totals: dict[str, list[np.ndarray]] = {}
    for sample in samples:
        exact = outputs(session, sample, nodes, ())
        for on, key in (*(((name,), name) for name in nodes), (nodes, ALL)):
            figures = [sums(ref, x) for ref, x in zip(exact, outputs(session, sample, nodes, on), strict=True)]
            add(totals, key, figures)
        add(totals, WHOLE, [sums(ref, np.asarray(x)) for ref, x in zip(exact, strict.run(sample).values(), strict=True)])
    return Shares({name: damage(totals.get(name, [])) for name in nodes}, damage(totals.get(ALL, [])), damage(totals.get(WHOLE, [])))


def add(totals: dict[str, list[np.ndarray]], key: str, figures: list[np.ndarray]) -> None:
    """Over samples."""
    totals[key] = [old + new for old, new in zip(totals[key], figures, strict=True)] if key in totals else figures


def switchboard(model: Model, typed: Model, nodes: Sequence[str], unstorable: frozenset[str] = frozenset()) -> Model:
    """The FP32 graph in which input ``switch/k`` makes the readers of the k-th node's outputs see its strict results."""
    host, twins = exact_inputs(model, typed, unstorable)
    edit = Editor(host)
    by_name = {node.name: node for node in host.graph.nodes}
    strict_readers = {id(node) for tensor in twins.strict.values() for node in tensor.inputs}
    after: dict[int, list[gs.Node]] = {}
    for number, name in enumerate(nodes):
        switch = gs.Variable(f"switch/{number}", dtype=np.dtype(bool), shape=[])
        host.graph.inputs.append(switch)
        for tensor in float_outputs(by_name[name]):
            twin = twins.strict.get(tensor.name)
            if twin is None:
                continue
            out = edit.variable(f"{tensor.name}/switched", onnx.TensorProto.FLOAT, tensor.shape)
            readers = [node for node in tensor.outputs if node.name in by_name and id(node) not in strict_readers]
            redirect_in(readers, tensor, out)
            host.graph.outputs = [out if each is tensor else each for each in host.graph.outputs]
            where = gs.Node("Where", edit.fresh(f"{tensor.name}/switch"), inputs=[switch, twin, tensor], outputs=[out])
            after.setdefault(id(twin.inputs[0]), []).append(where)
    host.graph.nodes[:] = [each for node in host.graph.nodes for each in (node, *after.get(id(node), ()))]
    return host


def redirect_in(readers: Iterable[gs.Node], old: gs.Tensor, new: gs.Tensor) -> None:
    """Some readers of ``old`` read ``new``."""
    for reader in readers:
        for index, used in enumerate(reader.inputs):
            if used is old:
                reader.inputs[index] = new


def outputs(session: Session, sample: Sample, nodes: Sequence[str], on: Iterable[str]) -> list[np.ndarray]:
    """Outputs in order with some switches on."""
    wanted = set(on)
    switches: Mapping[str, Any] = {f"switch/{number}": np.asarray(name in wanted) for number, name in enumerate(nodes)}
    return [np.asarray(value) for value in session.run({**sample, **switches}).values()]


def sums(reference: np.ndarray, value: np.ndarray) -> np.ndarray:
    """[Σ ref², Σ (ref − x)²]; a lost value counts as one that misses all of its signal, an integer that differs likewise."""
    ref, x = reference.astype(np.float64).reshape(-1), value.astype(np.float64).reshape(-1)
    if reference.dtype.kind != "f":
        return np.asarray([float(ref.size), float((ref != x).sum())])
    known = np.isfinite(ref)
    ref, x = ref[known], x[known]
    lost = ~np.isfinite(x)
    signal = float(ref @ ref)
    error = np.where(lost, 0.0, ref - np.where(lost, 0.0, x))
    missed = max(float((ref[lost] ** 2).sum()), signal * float(lost.sum()) / max(1, ref.size))
    return np.asarray([signal, float(error @ error) + missed])


def damage(totals: Sequence[np.ndarray]) -> float:
    """Added up over outputs, each at most 1."""
    return float(sum(min(1.0, noise / signal) if signal > 0.0 else float(noise > 0.0) for signal, noise in totals))
