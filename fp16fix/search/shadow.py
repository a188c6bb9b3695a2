"""FP32 and strict values side by side in one graph and one pass, reduced inside it to error per tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.analyse.probe import FLOAT, Probes
from fp16fix.graph.model import Model, element_type
from fp16fix.graph.session import Session
from fp16fix.graph.splice import splice
from fp16fix.half import FP32
from fp16fix.strict.emulate import emulate

PREFIX = "strict/"
BIG = 3.0e38

Sample = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Error:
    """How far a strict tensor is from its FP32 twin, all samples together."""

    tensor: str
    sqnr_db: float
    """10·log₁₀(Σ ref² / Σ (ref − x)²) over elements finite in both; inf if equal, −inf if only noise is left."""
    nonfinite: int
    """Elements finite in FP32 and not in the strict run."""

    @property
    def damage_db(self) -> float:
        """``sqnr_db`` with new non-finite values counted as total loss."""
        return -math.inf if self.nonfinite else self.sqnr_db


def shadow(
    reference: Model, typed: Model, samples: Iterable[Sample], exponents: Mapping[str, int] | None = None, *, threads: int = 0
) -> dict[str, Error]:
    """Error of every float tensor of the main graph that both models have, in graph order.

    Args:
        reference: the FP32 model.
        typed: the lowered model, computed strictly.
        samples: run once each; nothing leaves the runtime but one row a tensor.
        exponents: tensor → e for tensors that the typed model stores as true × 2^−e.
        threads: ONNX Runtime threads.
    """
    host = reference.copy()
    twins = splice(host, emulate(typed), PREFIX)
    pairs = [
        Pair(name, name, twin, (exponents or {}).get(name, 0))
        for name, twin in twins.items()
        if element_type(twin) == FP32.onnx and twin.name != name
    ]
    return compare_in_graph(host, pairs, samples, threads=threads)


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor of the host graph and its strict twin."""

    label: str
    """What the result is filed under; several pairs may share a reference."""
    reference: str
    twin: gs.Tensor
    exponent: int = 0
    """The twin holds reference × 2^−exponent."""


def compare_in_graph(host: Model, pairs: Iterable[Pair], samples: Iterable[Sample], *, threads: int = 0) -> dict[str, Error]:
    """Probe pairs in place and run; the host is consumed."""
    probes = Probes(host, 3, pair_summary)
    meet(host, pairs)
    probes.install(lambda tensor: isinstance(tensor, gs.Variable) and tensor.name.startswith(MEET))
    session = Session(host, threads=threads)
    totals: dict[str, np.ndarray] = {}
    for sample in samples:
        found = session.run(sample)
        for name, row in zip(probes.order, found.get("rows", ()), strict=True):
            key = name.removeprefix(MEET)
            totals[key] = totals.get(key, np.zeros(3)) + row.astype(np.float64)
    return {label: error_of(label, row) for label, row in totals.items()}


MEET = "meet/"


def meet(host: Model, pairs: Iterable[Pair]) -> None:
    """A difference node for every pair, placed behind whichever of the two comes last."""
    own = {t.name: t for t in (*host.graph.inputs, *(t for node in host.graph.nodes for t in node.outputs)) if t.name}
    done = {t.name for t in host.graph.inputs}
    waiting: dict[str, list[Pair]] = {}
    """By the name of the tensor that completes the pair."""
    by_twin: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.reference in own:
            by_twin.setdefault(pair.twin.name, []).append(pair)
    ordered: list[gs.Node] = []
    for node in host.graph.nodes:
        ordered.append(node)
        for tensor in node.outputs:
            done.add(tensor.name)
            for pair in by_twin.get(tensor.name, ()):
                if pair.reference in done:
                    ordered += meeting(pair, own[pair.reference])
                else:
                    waiting.setdefault(pair.reference, []).append(pair)
            for pair in waiting.pop(tensor.name, ()):
                ordered += meeting(pair, tensor)
    host.graph.nodes[:] = ordered


def meeting(pair: Pair, reference: gs.Tensor) -> list[gs.Node]:
    """``meet/label = reference − twin·2^e``; the probe finds the reference through it."""
    nodes, twin = [], pair.twin
    if pair.exponent:
        scaled = gs.Variable(f"scaled/{pair.label}", dtype=np.dtype(np.float32))
        factor = gs.Constant(f"factor/{pair.label}", np.float32(2.0) ** np.asarray(pair.exponent, np.float32))
        nodes.append(gs.Node("Mul", scaled.name, inputs=[twin, factor], outputs=[scaled]))
        twin = scaled
    out = gs.Variable(MEET + pair.label, dtype=np.dtype(np.float32))
    return [*nodes, gs.Node("Sub", out.name, inputs=[reference, twin], outputs=[out])]


def pair_summary(probes: Probes, difference: gs.Tensor) -> gs.Tensor:
    """Row: Σ ref² and Σ (ref − x)² where both are finite, count of new non-finite values."""
    reference = difference.inputs[0].inputs[0]
    lost = unusual(probes, difference)
    odd = unusual(probes, reference)
    new = probes.emit("And", [lost, probes.emit("Not", [odd], 9)], 9)
    both = probes.emit("Or", [lost, odd], 9)
    zero = probes.literal(0.0)
    return probes.row(
        [
            probes.scalars("ReduceSumSquare", probes.emit("Where", [both, zero, reference])),
            probes.scalars("ReduceSumSquare", probes.emit("Where", [both, zero, difference])),
            probes.scalars("ReduceSum", probes.emit("Cast", [new], to=FLOAT)),
        ]
    )


def unusual(probes: Probes, tensor: gs.Tensor) -> gs.Tensor:
    """Mask of NaN and infinite elements: exactly those not ≤ the largest float in magnitude."""
    return probes.emit("Not", [probes.emit("LessOrEqual", [probes.emit("Abs", [tensor]), probes.literal(BIG)], 9)], 9)


def error_of(name: str, row: np.ndarray) -> Error:
    """An ``Error`` from summed rows."""
    signal, noise, nonfinite = (float(x) for x in row)
    if noise == 0.0:
        return Error(name, math.inf, int(nonfinite))
    return Error(name, 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf, int(nonfinite))
