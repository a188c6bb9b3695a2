"""FP32 model + samples → ``Ranges``, reduced inside the graph, samples streamed: memory grows with neither tensors nor samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import onnx

from fp16fix import half
from fp16fix.graph.model import Model, Node, Tensor, Variable, element_type, scalar
from fp16fix.graph.operators import ADDITIONS, GUARDS, REORDERING, STEPPING, operator
from fp16fix.graph.opset import raise_opset
from fp16fix.graph.session import Session
from fp16fix.progress import Tick
from fp16fix.ranges.extents import Extents, Rounds, inside_bodies
from fp16fix.ranges.probe import FLOAT, PROBING, Probes
from fp16fix.ranges.range import Range, Ranges
from fp16fix.ranges.rivals import rivalries

COLUMNS = ("max", "min", "sum", "sum", "sum")
"""high, low, Σx², Σ(x − half(x))², count."""
DETAILS = ("max", "min", "sum", "sum", "max", "min", "sum")
"""high, low, Σx², non-finite count, largest distance from an integer, smallest nonzero, Σ of squared noise."""
FINITE = 3.4e38
"""Stands for "no nonzero value" inside the second pass."""
DETAILED = 256
"""At most this many tensors get a histogram in the second pass, the worst first."""
Sample = Mapping[str, np.ndarray]


def measure(
    model: Model,
    samples: Iterable[Sample],
    *,
    threads: int = 0,
    tick: Tick = lambda: None,
    details: bool = True,
    known: Mapping[str, Range] | None = None,
) -> Ranges:
    """Ranges of every FP32 tensor that a node produces or the graph takes in, bodies of If/Loop/Scan included.

    Args:
        model: FP32 graph.
        samples: re-iterable; a second pass runs only for tensors near FP16's limits, with non-finite values, or where
            small values matter.
        threads: ONNX Runtime threads, 0 for all.
        tick: called after every sample of the first pass.
        details: run the second pass.
        known: tensors that need not be measured again, of an earlier version of the model.

    Raises:
        ModelError: the model fails on a sample.
    """
    model = raise_opset(model, PROBING)
    probed = model.copy()
    probes = Probes(probed, COLUMNS, summary)
    known = known or {}
    shapes = add_shapes(probes, known)
    sources = {name: source for name, source in same_values(model).items() if name not in known}
    probes.install(lambda tensor: is_fp32(tensor) and tensor.name not in sources and tensor.name not in known)
    probed.graph.outputs += [tensor for _, tensor in shapes]
    inner = Extents(probed, frozenset(name for name in inside_bodies(model) if name not in known))
    counts, rounds = Rounds(probed), dict[str, int]()
    session = Session(probed, threads=threads) if probed.graph.outputs else None
    rows: dict[str, np.ndarray] = {}
    seen_shapes: dict[str, tuple[int, ...]] = {}
    count = 0
    for sample in samples:
        count += 1
        found = session.run(sample) if session is not None else {}
        for name, matrix in probes.rows_of(found):
            merge(rows, name, matrix)
        own = {name: tuple(int(d) for d in found[tensor.name]) for name, tensor in shapes}
        for name, shape in (*own.items(), *inner.shapes_of(found).items()):
            if math.prod(shape) >= math.prod(seen_shapes.get(name, (0,))):
                seen_shapes[name] = shape
        for name, count_ in counts.counted(found).items():
            rounds[name] = max(rounds.get(name, 0), count_)
        tick()
    static = model.tensors()
    ranges = {name: range_of(name, row, seen_shapes.get(name) or static_shape(static[name])) for name, row in rows.items()}
    if details:
        refine(model, samples, ranges, threads)
    ranges |= {name: seen for name, seen in known.items() if name in static}
    for name, source in sources.items():
        if source in ranges:
            ranges[name] = replace(ranges[source], tensor=name, shape=seen_shapes.get(name) or static_shape(static[name]))
    if details:
        rivalries(model, samples, ranges, frozenset(known), threads)
    return Ranges({name: ranges[name] for name in static if name in ranges}, count, rounds)


def same_values(model: Model) -> dict[str, str]:
    """Main-graph tensors that hold exactly the values of another measured tensor: name → that tensor."""
    sources: dict[str, str] = {}
    for node in model.graph.nodes:
        if node.op in REORDERING and is_fp32(node.outputs[0]) and is_fp32(node.inputs[0]):
            name = node.inputs[0].name
            sources[node.outputs[0].name] = sources.get(name, name)
    return sources


def is_fp32(tensor: Tensor) -> bool:
    """Whether a tensor is an FP32 activation."""
    return isinstance(tensor, Variable) and element_type(tensor) == FLOAT


def summary(probes: Probes, tensor: Tensor) -> Tensor:
    """The row of ``COLUMNS``."""
    noise = probes.emit("Sub", [tensor, rounded(probes, tensor)])
    size = probes.emit(
        "Reshape", [probes.emit("Size", [tensor], onnx.TensorProto.INT64), probes.literal([1], np.int64)], onnx.TensorProto.INT64
    )
    return probes.row(
        [
            probes.scalars("ReduceMax", tensor),
            probes.scalars("ReduceMin", tensor),
            probes.scalars("ReduceSumSquare", tensor),
            probes.scalars("ReduceSumSquare", noise),
            probes.emit("Cast", [size], to=FLOAT),
        ]
    )


def rounded(probes: Probes, tensor: Tensor) -> Tensor:
    """``tensor`` through binary16 and back."""
    nodes, stored = probes.edit.rounding(tensor, half.FP16.onnx)
    probes.nodes += nodes
    return stored


def add_shapes(probes: Probes, known: Mapping[str, Range]) -> list[tuple[str, Tensor]]:
    """A Shape output for every FP32 tensor of the main graph whose shape is neither static nor known."""
    graph = probes.model.graph
    found: list[tuple[str, Tensor]] = []
    ordered: list[Node] = []
    for node in [None, *graph.nodes]:
        tensors = graph.inputs if node is None else node.outputs
        if node is not None:
            ordered.append(node)
        for tensor in tensors:
            if tensor.name and is_fp32(tensor) and not static_shape(tensor) and tensor.name not in known:
                probes.nodes = []
                found.append((tensor.name, probes.emit("Shape", [tensor], onnx.TensorProto.INT64)))
                ordered += probes.nodes
    graph.nodes[:] = ordered
    return found


def static_shape(tensor: Tensor) -> tuple[int, ...]:
    """The declared shape if every dimension is a number, else ()."""
    shape = tensor.shape
    return tuple(int(d) for d in shape) if shape is not None and all(isinstance(d, (int, np.integer)) for d in shape) else ()


def merge(rows: dict[str, np.ndarray], name: str, matrix: np.ndarray) -> None:
    """Fold new rows of a tensor into its running row (float64)."""
    matrix = matrix.astype(np.float64)
    matrix = matrix[matrix[:, 4] > 0]
    if not len(matrix):
        return
    row = np.array([matrix[:, 0].max(), matrix[:, 1].min(), *matrix[:, 2:].sum(axis=0)])
    old = rows.get(name)
    rows[name] = row if old is None else np.array([max(old[0], row[0]), min(old[1], row[1]), *(old[2:] + row[2:])])


def range_of(name: str, row: np.ndarray, shape: tuple[int, ...]) -> Range:
    """A ``Range`` from a finished row; non-finite figures mark the tensor for the second pass."""
    high, low, squares, noise, count = (float(x) for x in row)
    return Range(
        tensor=name,
        shape=shape,
        low=low,
        high=high,
        smallest=max(low, -high, 0.0),
        energy=squares / count,
        noise=noise / count if math.isfinite(noise) else math.inf,
        nonfinite=0 if math.isfinite(squares) and math.isfinite(high) and math.isfinite(low) else -1,
    )


def needs_detail(seen: Range) -> bool:
    """Worth a second look: non-finite, near or past FP16's largest value, past 2048, or losing bits at the small end."""
    return seen.nonfinite < 0 or seen.absmax * 4 > half.LARGEST or seen.absmax > half.INTEGERS or seen.storage_db < 60.0


def refine(model: Model, samples: Iterable[Sample], ranges: dict[str, Range], threads: int) -> None:
    """Second pass over a few tensors: exact non-finite counts, finite extremes, integrality, octave histograms."""
    delicate = (
        guarded(model)
        | stepped(model)
        | faint(model, ranges)
        | {node.inputs[port].name for node in model.nodes() if (port := operator(node.op).small) is not None and port < len(node.inputs)}
    )
    suspects = sorted(
        (name for name in ranges if needs_detail(ranges[name]) or name in delicate),
        key=lambda name: (ranges[name].nonfinite, -ranges[name].absmax),
    )
    names = set(suspects[:DETAILED])
    if not names:
        return
    probed = model.copy()
    probes = Probes(probed, DETAILS, finite_summary)
    histograms = add_histograms(probes, names)
    probes.install(lambda tensor: is_fp32(tensor) and tensor.name in names)
    probed.graph.outputs += [tensor for _, pair in histograms for tensor in pair]
    session = Session(probed, threads=threads)
    rows: dict[str, list[np.ndarray]] = {}
    octaves: dict[str, dict[int, int]] = {name: {} for name in names}
    for sample in samples:
        found = session.run(sample)
        for name, matrix in probes.rows_of(found):
            rows.setdefault(name, []).append(matrix.astype(np.float64))
        for name, (values, counts) in histograms:
            for octave, n in zip(found[values.name], found[counts.name], strict=True):
                octaves[name][int(octave)] = octaves[name].get(int(octave), 0) + int(n)
    for name, matrices in rows.items():
        ranges[name] = detailed(ranges[name], np.concatenate(matrices), octaves[name])


def guarded(model: Model) -> set[str]:
    """What a tiny literal is added to or compared with: whether the literal matters depends on how small the other side gets."""
    found: set[str] = set()
    for node in model.nodes():
        literals = [abs(value) for tensor in node.inputs if (value := scalar(tensor)) is not None]
        if node.op in GUARDS and any(0.0 < value < half.SMALLEST_NORMAL for value in literals):
            found |= {tensor.name for tensor in node.inputs if is_fp32(tensor)}
    return found


def stepped(model: Model) -> set[str]:
    """What whole numbers are read off: if it holds whole numbers already, nothing can flip."""
    return {node.inputs[0].name for node in model.nodes() if node.op in STEPPING | {"Cast"} and is_fp32(node.inputs[0])}


FAINT = 2.0**-8
"""RMS of an addend over that of its neighbour below which it is worth knowing whether typical values are below the other's spacing."""


def faint(model: Model, ranges: Mapping[str, Range]) -> set[str]:
    """Both operands of sums of which one is far smaller."""
    found: set[str] = set()
    for node in model.nodes():
        names = [tensor.name for tensor in node.inputs if is_fp32(tensor) and tensor.name in ranges] if node.op in ADDITIONS else []
        sizes = [ranges[name].rms for name in names]
        if len(names) == 2 and 0.0 < min(sizes) < FAINT * max(sizes):
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


def add_histograms(probes: Probes, names: set[str]) -> list[tuple[str, tuple[Tensor, Tensor]]]:
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
