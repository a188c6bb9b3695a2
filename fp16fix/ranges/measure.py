"""FP32 model + samples → ``Ranges``, reduced inside the graph, samples streamed: memory grows with neither tensors nor samples."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np
import onnx

from fp16fix.errors import ModelError
from fp16fix.graph.model import Model, Node, Tensor
from fp16fix.graph.operators import REORDERING
from fp16fix.graph.opset import raise_opset
from fp16fix.graph.session import Session
from fp16fix.progress import Tick
from fp16fix.ranges.details import DETAILED, Details, suspects
from fp16fix.ranges.extents import Extents, Rounds, inside_bodies
from fp16fix.ranges.look import look
from fp16fix.ranges.probe import PROBING, Probes, beside, is_fp32, rounded
from fp16fix.ranges.range import Range, Ranges
from fp16fix.ranges.rivals import Rivalries
from fp16fix.ranges.sizes import sizes

COLUMNS = ("max", "min", "sum", "sum", "sum")
"""high, low, Σx², Σ(x − half(x))², count."""
ELEMENTS = 1 << 18
"""Of all tensors together that are looked at closely at once: a histogram takes some 50 ns of each."""
SHARE = 8
"""So many times as many tensors are known where those that are not are looked at closely at once: a pass is mostly of the others."""
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
    try:
        return measured(model, samples, threads, tick, known or {}, details=details, piles=True)
    except ModelError:
        # Shapes that the file declares may be stale; ONNX Runtime does not mind, and by itself no tensor's probe asks for one.
        return measured(model, samples, threads, tick, known or {}, details=details, piles=False)


def measured(
    model: Model, samples: Iterable[Sample], threads: int, tick: Tick, known: Mapping[str, Range], *, details: bool, piles: bool
) -> Ranges:
    """``measure``, of a model that can be probed; with ``piles``, small tensors together by their declared shapes."""
    probed = model.copy()
    probes = Probes(probed, COLUMNS, summary, piles=piles)
    shapes = add_shapes(probes, known)
    sources = {name: source for name, source in same_values(model).items() if name not in known}
    floats = (name for name, tensor in model.tensors().items() if is_fp32(tensor))
    unknown = dict.fromkeys(name for name in floats if name not in sources and name not in known)
    probes.install(lambda tensor: tensor.name in unknown)
    probed.graph.outputs += [tensor for _, tensor in shapes]
    closer = Details(unknown if details and are_few(model, unknown, len(known), samples) else (), piles=piles)
    if closer.names:
        with beside(probed):
            closer.install(probed)
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
        if closer.names:
            closer.see(found)
        tick()
    static = model.tensors()
    ranges = {name: range_of(name, row, seen_shapes.get(name) or static_shape(static[name])) for name, row in rows.items()}

    def same() -> dict[str, Range]:
        held = {name: ranges[source] for name, source in sources.items() if source in ranges}
        return {name: replace(seen, tensor=name, shape=seen_shapes.get(name) or static_shape(static[name])) for name, seen in held.items()}

    if details:
        # Where extremes are not finite, only a closer look shows which values compete.
        blurred = {name for name, seen in ranges.items() if not (math.isfinite(seen.high) and math.isfinite(seen.low))}
        rivals, wanted = Rivalries(model, {**ranges, **same()}, {*known, *blurred}), suspects(model, ranges)
        later = () if closer.names else (closer := Details(wanted, piles=piles),)
        look(model, samples, [*later, rivals], threads)
        closer.tell(ranges, wanted)
        late = Rivalries(model, {**ranges, **same()}, {*known, *rivals.names}) if blurred else None
        ranges |= {name: seen for name, seen in known.items() if name in static} | same()
        rivals.tell(ranges)
        if late is not None:
            look(model, samples, [late], threads)
            late.tell(ranges)
    else:
        ranges |= {name: seen for name, seen in known.items() if name in static} | same()
    return Ranges({name: ranges[name] for name in static if name in ranges}, count, rounds)


def are_few(model: Model, unknown: Collection[str], known: int, samples: Iterable[Sample]) -> bool:
    """Whether a closer look at all tensors costs less than a pass of its own: few beside those known, or all of them small."""
    if len(unknown) * SHARE <= known:
        return True
    if len(unknown) > DETAILED:
        return False
    try:
        shapes = sizes(model, next(iter(samples), {}))
    except Exception:  # noqa: BLE001 - asked for the sake of time; what ONNX infers no shapes for, ONNX Runtime may well run
        return False
    return sum(math.prod(shapes[name].shape) if name in shapes else ELEMENTS for name in unknown) <= ELEMENTS


def same_values(model: Model) -> dict[str, str]:
    """Main-graph tensors that hold exactly the values of another measured tensor: name → that tensor."""
    sources: dict[str, str] = {}
    for node in model.graph.nodes:
        if node.op in REORDERING and is_fp32(node.outputs[0]) and is_fp32(node.inputs[0]):
            name = node.inputs[0].name
            sources[node.outputs[0].name] = sources.get(name, name)
    return sources


def summary(probes: Probes, tensor: Tensor) -> Tensor:
    """The row of ``COLUMNS``."""
    noise = probes.emit("Sub", [tensor, rounded(probes, tensor)])
    return probes.row(
        [
            probes.scalars("ReduceMax", tensor),
            probes.scalars("ReduceMin", tensor),
            probes.scalars("ReduceSumSquare", tensor),
            probes.scalars("ReduceSumSquare", noise),
            probes.count(tensor),
        ]
    )


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
