"""A closer look at few tensors: exact non-finite counts, finite extremes, whole numbers, octave histograms."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import onnx

from fp16fix.graph.model import Model, Node, Tensor, scalar
from fp16fix.graph.operators import ADDITIONS, GUARDS, STEPPING, operator
from fp16fix.half import Format
from fp16fix.ranges.probe import FLOAT, Probes, is_fp32, rounded
from fp16fix.ranges.range import Range

DETAILS = ("max", "min", "sum", "sum", "max", "min", "sum")
"""high, low, Σx², non-finite count, largest distance from an integer, smallest nonzero, Σ of squared noise."""
FINITE = 3.4e38
"""Stands for "no nonzero value" inside the second pass."""
HEALTHY_DB = 60.0
"""What storing a tensor in FP16 leaves where all is well, and more; in BF16, 18 dB less."""
DETAILED = 256
"""At most this many tensors get a histogram in the second pass, the worst first."""


class Details:
    """What one more pass tells of named tensors."""

    def __init__(self, names: Collection[str], *, piles: bool = True) -> None:
        """``piles``: see ``Probes``."""
        self.piles = piles
        self.names = frozenset(names)
        self.rows: dict[str, list[np.ndarray]] = {}
        self.octaves: dict[str, dict[int, int]] = {name: {} for name in self.names}

    def install(self, model: Model) -> None:
        """Probe them."""
        self.probes = Probes(model, DETAILS, finite_summary, piles=self.piles)
        self.histograms = add_histograms(self.probes, self.names)
        self.probes.install(lambda tensor: is_fp32(tensor) and tensor.name in self.names)
        model.graph.outputs += [tensor for _, pair in self.histograms for tensor in pair]

    def see(self, found: Mapping[str, np.ndarray]) -> None:
        """What one sample gives."""
        for name, matrix in self.probes.rows_of(found):
            self.rows.setdefault(name, []).append(matrix.astype(np.float64))
        for name, (values, counts) in self.histograms:
            for octave, n in zip(found[values.name], found[counts.name], strict=True):
                self.octaves[name][int(octave)] = self.octaves[name].get(int(octave), 0) + int(n)

    def tell(self, ranges: dict[str, Range], wanted: Collection[str]) -> None:
        """Fill in what was seen, of those that are wanted."""
        for name, matrices in ((name, matrices) for name, matrices in self.rows.items() if name in wanted):
            ranges[name] = detailed(ranges[name], np.concatenate(matrices), self.octaves[name])


def suspects(model: Model, ranges: Mapping[str, Range]) -> list[str]:
    """Tensors near the type's limits, with non-finite values, or where small values matter; the worst first, ``DETAILED`` at most."""
    ports = [(node, operator(node.op).small) for node in model.nodes()]
    small = {node.inputs[port].name for node, port in ports if port is not None and port < len(node.inputs)}
    delicate = guarded(model) | stepped(model) | faint(model, ranges) | small
    found = (name for name in ranges if needs_detail(ranges[name], model.narrow) or name in delicate)
    return sorted(found, key=lambda name: (ranges[name].nonfinite, -ranges[name].absmax))[:DETAILED]


def needs_detail(seen: Range, narrow: Format) -> bool:
    """Worth a second look: non-finite, near or past the largest value, past the last exact integer, or losing bits at the small end."""
    edge, enough = narrow.largest / 4, HEALTHY_DB - narrow.coarseness_db
    return seen.nonfinite < 0 or seen.absmax > edge or seen.absmax > narrow.integers or seen.storage_db < enough


def guarded(model: Model) -> set[str]:
    """What a tiny literal is added to or compared with: whether the literal matters depends on how small the other side gets."""
    found: set[str] = set()
    for node in model.nodes():
        literals = [abs(value) for tensor in node.inputs if (value := scalar(tensor)) is not None]
        if node.op in GUARDS and any(0.0 < value < model.narrow.smallest_normal for value in literals):
            found |= {tensor.name for tensor in node.inputs if is_fp32(tensor)}
    return found


def stepped(model: Model) -> set[str]:
    """What whole numbers are read off: if it holds whole numbers already, nothing can flip."""
    return {node.inputs[0].name for node in model.nodes() if node.op in STEPPING | {"Cast"} and is_fp32(node.inputs[0])}


FAINT = 3
"""Octaves above the spacing of a neighbour's RMS from which on an addend's RMS is no matter: nearer, typical values may be below it."""


def faint(model: Model, ranges: Mapping[str, Range]) -> set[str]:
    """Both operands of sums of which one is far smaller."""
    found: set[str] = set()
    least = 2.0 ** (FAINT - model.narrow.digits)
    for node in model.nodes():
        names = [tensor.name for tensor in node.inputs if is_fp32(tensor) and tensor.name in ranges] if node.op in ADDITIONS else []
        sizes = [ranges[name].rms for name in names]
        if len(names) == 2 and 0.0 < min(sizes) < least * max(sizes):
            found |= set(names)
    return found


NO_OCTAVE = -1000.0
"""Octave given to zeros and non-finite values, dropped afterwards."""


def finite_summary(probes: Probes, tensor: Tensor) -> Tensor:
    """Row: high, low and Σx² of finite values, non-finite count, largest distance from an integer, smallest nonzero, Σ of squared noise."""
    odd = probes.emit("Or", [nan(probes, tensor), probes.emit("IsInf", [tensor], 9)], 9)
    finite = probes.emit("Where", [odd, probes.literal(0.0), tensor])
    fraction = probes.emit("Abs", [probes.emit("Sub", [finite, probes.emit("Floor", [finite])])])
    noise = probes.emit("Sub", [finite, rounded(probes, finite)])
    magnitude = probes.emit("Abs", [finite])
    positive = probes.emit("Greater", [magnitude, probes.literal(0.0)], onnx.TensorProto.BOOL)
    nonzero = probes.emit("Where", [positive, magnitude, probes.literal(FINITE)])
    return probes.row(
        [
            probes.scalars("ReduceMax", finite),
            probes.scalars("ReduceMin", finite),
            probes.scalars("ReduceSumSquare", finite),
            probes.scalars("ReduceSum", probes.emit("Cast", [odd], to=FLOAT)),
            probes.scalars("ReduceMax", fraction),
            probes.scalars("ReduceMin", nonzero),
            probes.scalars("ReduceSumSquare", noise),
        ]
    )


def nan(probes: Probes, tensor: Tensor) -> Tensor:
    """Boolean NaN mask."""
    return probes.emit("IsNaN", [tensor], onnx.TensorProto.BOOL)


def add_histograms(probes: Probes, names: frozenset[str]) -> list[tuple[str, tuple[Tensor, Tensor]]]:
    """``Unique`` over ⌊log₂|x|⌋ of main-graph tensors: values and counts as outputs."""
    graph = probes.model.graph
    found: list[tuple[str, tuple[Tensor, Tensor]]] = []
    ordered: list[Node] = []
    for node in [None, *graph.nodes]:
        if node is not None:
            ordered.append(node)
        for tensor in graph.inputs if node is None else node.outputs:
            if tensor.name in names:
                probes.nodes = []
                found.append((tensor.name, histogram(probes, tensor)))
                ordered += probes.nodes
    graph.nodes[:] = ordered
    return found


def histogram(probes: Probes, tensor: Tensor) -> tuple[Tensor, Tensor]:
    magnitude = probes.emit("Abs", [tensor])
    octave = probes.emit("Floor", [probes.emit("Div", [probes.emit("Log", [magnitude]), probes.literal(math.log(2.0))])])
    odd = probes.emit("Or", [nan(probes, octave), probes.emit("IsInf", [octave], 9)], 9)
    clean = probes.emit("Where", [odd, probes.literal(NO_OCTAVE), octave])
    values, counts = probes.edit.variable("probe/octaves", FLOAT), probes.edit.variable("probe/counts", onnx.TensorProto.INT64)
    unused = [probes.edit.variable("probe/unused", onnx.TensorProto.INT64) for _ in range(2)]
    probes.nodes.append(Node("Unique", probes.edit.fresh("probe/Unique"), inputs=[clean], outputs=[values, *unused, counts]))
    return values, counts


def detailed(seen: Range, rows: np.ndarray, octaves: dict[int, int]) -> Range:
    """``seen`` with what the second pass found."""
    histogram_ = tuple(sorted((k, n) for k, n in octaves.items() if k != int(NO_OCTAVE)))
    integral = bool(rows[:, 4].max() == 0.0)
    nonfinite = int(rows[:, 3].sum())
    smallest = float(rows[:, 5].min())
    seen = replace(seen, smallest=math.inf if smallest >= FINITE else smallest, zeros=octaves.get(int(NO_OCTAVE), 0))
    if seen.nonfinite >= 0:
        return replace(seen, integral=integral, octaves=histogram_)
    high, low = float(rows[:, 0].max()), float(rows[:, 1].min())
    size = max(1, math.prod(seen.shape)) * len(rows)
    energy = min(float(rows[:, 2].sum()) / size, float(np.finfo(np.float64).max))
    noise = float(rows[:, 6].sum()) / size
    return replace(
        seen,
        high=high,
        low=low,
        energy=energy,
        noise=noise if math.isfinite(noise) else math.inf,
        nonfinite=nonfinite,
        integral=integral,
        octaves=histogram_,
    )
