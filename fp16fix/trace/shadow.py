"""FP32 and strict values side by side in one graph and one pass, reduced inside it to error per tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fp16fix.errors import ModelError
from fp16fix.graph import quick
from fp16fix.graph.edit import rounding_of
from fp16fix.graph.model import Model, element_type
from fp16fix.graph.opset import raise_in_place
from fp16fix.graph.session import Session
from fp16fix.graph.splice import splice
from fp16fix.half import FP32
from fp16fix.ranges.probe import FLOAT, PROBING, Probes, Reduce
from fp16fix.ranges.range import Range
from fp16fix.strict.emulate import emulate
from fp16fix.trace.damage import OFF, Damage, Pair, errors_of
from fp16fix.trace.endure import FLAT, enduring
from fp16fix.trace.outside import HELD, in_both, outside, own_floats, takes
from fp16fix.trace.segments import Sample, Segment, segments

PREFIX = "strict/"
BIG = 3.0e38
BOOL, INT64 = onnx.TensorProto.BOOL, onnx.TensorProto.INT64
PIECE = 1 << 18
"""Elements of a large tensor that are compared at once: 1 MiB."""


def shadow(
    reference: Model,
    typed: Model,
    samples: Iterable[Sample],
    exponents: Mapping[str, int] | None = None,
    *,
    ranges: Mapping[str, Range] | None = None,
    threads: int = 0,
) -> dict[str, Damage]:
    """``Shadows.of`` of one typed model."""
    return Shadows(reference, samples, ranges or {}, threads).of(typed, exponents)


@dataclass
class Shadows:
    """How typed models go wrong along one FP32 model, on the same samples."""

    reference: Model
    """In FP32."""
    samples: Iterable[Sample]
    """Re-iterable; where values take much memory, nothing leaves the runtime but one row a tensor."""
    ranges: Mapping[str, Range]
    """Of the FP32 model, as far as they are known: shapes, and where squares or the narrow type are sure to overflow."""
    threads: int = 0
    """ONNX Runtime's."""

    def of(self, typed: Model, exponents: Mapping[str, int] | None = None, strict: Session | None = None) -> dict[str, Damage]:
        """Damage of every float tensor of the main graph that both models have, in graph order.

        Args:
            typed: the lowered model, computed strictly.
            exponents: tensor → e for tensors that the typed model stores as true × 2^−e.
            strict: what computes it strictly, if that is open: ``own_floats`` are among its outputs or ``inner``.
        """
        if takes(self.reference, self.ranges) <= HELD:
            with suppress(ModelError):
                return outside(self.exact, strict or self.opened(typed), self.samples, exponents or {})
            # A twin that fails while running is lost; side by side the others are not.
        return beside(self.reference, typed, self.samples, exponents or {}, self.ranges, self.threads)

    def opened(self, typed: Model) -> Session:
        """What computes a typed model strictly. Raises ModelError: ONNX Runtime refuses it."""
        strict = emulate(typed)
        return Session(strict, threads=self.threads, inner=in_both(self.reference, strict))

    @cached_property
    def exact(self) -> list[dict[str, np.ndarray]]:
        """What every node of the main graph makes in FP32, sample by sample: few values, by ``HELD``. Raises ModelError: it fails."""
        names = own_floats(self.reference)
        session = Session(self.reference, threads=self.threads, inner=names)
        found = (session.run(sample, whole=True) for sample in self.samples)
        return [{name: values[name] for name in names} for values in found]


def beside(
    reference: Model,
    typed: Model,
    samples: Iterable[Sample],
    exponents: Mapping[str, int],
    ranges: Mapping[str, Range],
    threads: int,
) -> dict[str, Damage]:
    """``Shadows.of`` in one graph, stretch by stretch."""
    host, twins = side_by_side(reference, typed)
    odd = frozenset(name for name, seen in ranges.items() if seen.nonfinite or seen.absmax > reference.narrow.largest)
    return compare_in_graph(host, pairs_of(twins, exponents), samples, threads=threads, odd=odd)


def side_by_side(reference: Model, typed: Model) -> tuple[Model, dict[str, gs.Tensor]]:
    """One graph that computes the FP32 model and, strictly, the typed one; and the strict tensors by their own names."""
    host, guest = reference.copy(), emulate(typed)
    # One graph has one opset, and a rule may have raised that of the typed graph.
    opset = max(PROBING, host.opset, guest.opset)
    raise_in_place(host, opset)
    raise_in_place(guest, opset)
    return host, splice(host, guest, PREFIX)


def pairs_of(twins: Mapping[str, gs.Tensor], exponents: Mapping[str, int]) -> list[Pair]:
    """A pair for every strict float tensor, filed under its name."""
    return [
        Pair(name, name, twin, exponents.get(name, 0))
        for name, twin in twins.items()
        if element_type(twin) == FP32.onnx and twin.name != name
    ]


def compare_in_graph(
    host: Model,
    pairs: Iterable[Pair],
    samples: Iterable[Sample],
    *,
    threads: int = 0,
    elementwise: bool = False,
    odd: frozenset[str] = frozenset(),
) -> dict[str, Damage]:
    """Errors by label; the host is consumed. Long graphs run in stretches.

    ``elementwise`` also counts elements that are off by much of their own size: a massive channel hides all others from an SQNR.

    A first pass sums squares; only tensors whose sums are not finite get the masks that tell lost values from the rest, at once if they are
    known to be ``odd``. A twin that fails while running, or has another shape, is lost (``trace.endure``).
    """
    pairs = list(pairs)
    meet(host, pairs)
    found, lost = enduring(host, lambda: compared(host, samples, threads, elementwise=elementwise, known=odd))
    labels = {pair.label for pair in pairs if pair.twin.name in lost or MEET + pair.label in lost}
    return found | {label: Damage(label, -math.inf, 1, 1.0) for label in sorted(labels)}


def compared(
    host: Model, samples: Iterable[Sample], threads: int, *, elementwise: bool, known: frozenset[str] = frozenset()
) -> dict[str, Damage]:
    """Errors by label, of a host in which the pairs meet; sums of those ``known`` not to be finite are masked at once."""
    totals: dict[str, np.ndarray] = {}
    if elementwise:
        # One pass tells everything; the cheaper first pass would only be repeated.
        for segment in segments(host, samples):
            rows = Rows(full_summary, lambda tensor: tensor.name.startswith(MEET), columns=5).sum_over(segment, threads)
            totals |= {name.removeprefix(MEET): row for name, row in rows.items()}
        return errors_of(totals)
    for segment in segments(host, samples):
        quick = Rows(partial(quick_summary, known=known), lambda tensor: tensor.name.startswith(MEET))
        sums = quick.sum_over(segment, threads)
        odd = {name for name, row in sums.items() if not np.isfinite(row).all()}
        if odd:
            masked = Rows(pair_summary, lambda tensor: tensor.name in odd)  # noqa: B023 - used at once
            sums |= masked.sum_over(segment, threads)
        totals |= {name.removeprefix(MEET): row for name, row in sums.items()}
    return errors_of(totals)


@dataclass(slots=True)
class Rows:
    """Summaries of the wanted tensors of a stretch, those of bodies over all their visits."""

    reduce: Reduce
    wanted: Callable[[gs.Tensor], bool]
    columns: int = 3
    probes: Probes | None = field(default=None, init=False)
    """Those of the stretch that runs."""

    def sum_over(self, segment: Segment, threads: int) -> dict[str, np.ndarray]:
        """Rows added over the samples, by tensor."""
        total: dict[str, np.ndarray] = {}
        for found in segment.run(self.install, threads):
            assert self.probes is not None
            for name, rows in self.probes.rows_of(found):
                row = rows.astype(np.float64).sum(axis=0)
                total[name] = total[name] + row if name in total else row
        return total

    def install(self, model: Model) -> None:
        """Put the probes in."""
        probes = Probes(model, ("sum",) * self.columns, self.reduce)
        probes.install(lambda tensor: isinstance(tensor, gs.Variable) and self.wanted(tensor))
        self.probes = probes


MEET = "meet/"


def meet(host: Model, pairs: Iterable[Pair]) -> None:
    """A difference node for every pair, in its own graph, placed behind whichever of the two comes last."""
    by_twin: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_twin.setdefault(pair.twin.name, []).append(pair)
    for graph in list(host.graphs()):
        meet_in(graph, by_twin)


def meet_in(graph: gs.Graph, by_twin: Mapping[str, Sequence[Pair]]) -> None:
    """The pairs of which both are made in one graph (or come into it)."""
    own = {t.name: t for t in (*graph.inputs, *(t for node in graph.nodes for t in node.outputs)) if t.name}
    done = {t.name for t in graph.inputs}
    waiting: dict[str, list[Pair]] = {}
    """By the name of the tensor that completes the pair."""
    ordered: list[gs.Node] = []
    for node in graph.nodes:
        ordered.append(node)
        for tensor in node.outputs:
            done.add(tensor.name)
            for pair in by_twin.get(tensor.name, ()):
                if pair.reference in done:
                    ordered += meeting(pair, own[pair.reference])
                elif pair.reference in own:
                    waiting.setdefault(pair.reference, []).append(pair)
            for pair in waiting.pop(tensor.name, ()):
                ordered += meeting(pair, tensor)
    graph.nodes[:] = ordered


def meeting(pair: Pair, reference: gs.Tensor) -> list[gs.Node]:
    """``meet/label = reference − twin·2^e``; probes find both through it, and need not use the difference itself."""
    nodes, twin = [], pair.twin
    if pair.exponent:
        scaled = quick.variable(f"scaled/{pair.label}", dtype=np.dtype(np.float32))
        factor = quick.constant(f"factor/{pair.label}", np.asarray(2.0**pair.exponent, np.float32))
        nodes.append(quick.node("Mul", scaled.name, inputs=[twin, factor], outputs=[scaled]))
        twin = scaled
    out = quick.variable(MEET + pair.label, dtype=np.dtype(np.float32))
    return [*nodes, quick.node("Sub", out.name, inputs=[reference, twin], outputs=[out])]


def quick_summary(probes: Probes, difference: gs.Tensor, known: frozenset[str]) -> gs.Tensor:
    """Row: Σ ref², Σ (ref − x)², 0; not finite where either tensor is not (or its sum of squares passes FP32), if that is not known."""
    masked = difference.name.removeprefix(MEET) in known
    return in_pieces(probes, difference, pair_cells if masked else quick_cells)


def quick_cells(probes: Probes, reference: gs.Tensor, _: gs.Tensor, difference: gs.Tensor) -> list[gs.Tensor]:
    """The cells of ``quick_summary``."""
    return [probes.scalars("ReduceSumSquare", reference), probes.scalars("ReduceSumSquare", difference), probes.literal([0.0])]


def pair_summary(probes: Probes, difference: gs.Tensor) -> gs.Tensor:
    """Row: Σ ref² and Σ (ref − x)² where both are finite, count of lost values."""
    return in_pieces(probes, difference, pair_cells)


def pair_cells(probes: Probes, reference: gs.Tensor, twin: gs.Tensor, difference: gs.Tensor) -> list[gs.Tensor]:
    """The cells of ``pair_summary``."""
    zero = probes.literal(0.0)
    kept = finite(probes, difference)
    signal = probes.scalars("ReduceSumSquare", probes.emit("Where", [kept, reference, zero]))
    noise = probes.scalars("ReduceSumSquare", probes.emit("Where", [kept, difference, zero]))
    both_nan = probes.emit("And", [probes.emit("IsNaN", [tensor], BOOL) for tensor in (reference, twin)], BOOL)
    same = probes.emit("Or", [probes.emit("Equal", [reference, twin], BOOL), both_nan], BOOL)
    lost = probes.emit("Not", [probes.emit("Or", [kept, same], BOOL)], BOOL)
    return [signal, noise, probes.scalars("ReduceSum", probes.emit("Cast", [lost], to=FLOAT))]


Cells = Callable[[Probes, gs.Tensor, gs.Tensor, gs.Tensor], list[gs.Tensor]]
"""Reference, twin and difference to cells that add up over pieces."""


def in_pieces(probes: Probes, difference: gs.Tensor, cells: Cells) -> gs.Tensor:
    """The row of one pair; large tensors are looked at a piece at a time, so that neither difference nor masks are ever held whole."""
    reference, twin = difference.inputs[0].inputs
    if is_small(reference):
        return probes.row(cells(probes, reference, twin, difference))

    source, casts = unrounded(reference, twin)

    def row(step: gs.Tensor) -> gs.Tensor:
        start = probes.emit("Reshape", [probes.emit("Mul", [step, size], INT64), one], INT64)
        bounds = [start, probes.emit("Add", [start, size], INT64), probes.literal([0], np.int64)]
        part, other = (probes.emit("Slice", [tensor, *bounds]) for tensor in flat)
        for element in casts:
            other = probes.emit("Cast", [other], element, to=element)
        return probes.row(cells(probes, part, other, probes.emit("Sub", [part, other])))

    size, one, whole = probes.literal(PIECE, np.int64), probes.literal([1], np.int64), probes.literal([-1], np.int64)
    flat = [probes.emit("Reshape", [reference, whole])]
    # A twin with other elements fails here, under the name of its comparison.
    flat.append(probes.emit("Reshape", [source, probes.emit("Shape", [flat[0]], INT64)]))
    probes.nodes[-1].name = difference.name + FLAT
    count = probes.emit(
        "Add", [probes.emit("Div", [probes.emit("Size", [reference], INT64), size], INT64), probes.literal(1, np.int64)], INT64
    )
    return probes.added_up(count, row)


def unrounded(reference: gs.Tensor, twin: gs.Tensor) -> tuple[gs.Tensor, tuple[int, ...]]:
    """What a twin was rounded from, and the Casts that do it again on a piece: a twin that nobody else reads is then never made.

    The twin itself, and none, where that would only keep one more tensor alive.
    """
    pair = rounding_of(twin)
    if pair is None or not (pair[0].inputs[0] is reference or is_only_compared(twin)):
        return twin, ()
    down, up = pair
    return down.inputs[0], (int(down.attrs["to"]), int(up.attrs["to"]))


def is_only_compared(tensor: gs.Tensor) -> bool:
    """Whether it is made for its difference alone."""
    return all(reader.op == "Sub" and reader.outputs[0].name.startswith(MEET) for reader in tensor.outputs)


def is_small(tensor: gs.Tensor) -> bool:
    """Whether a tensor is known to hold no more than a piece."""
    shape = tensor.shape
    return shape is not None and all(isinstance(d, (int, np.integer)) for d in shape) and math.prod(shape) <= PIECE


def full_summary(probes: Probes, difference: gs.Tensor) -> gs.Tensor:
    """Row: as ``pair_summary``, then elements off by more than ``OFF`` of (their size + the tensor's typical size), and all elements.

    The typical size is the power mean of exponent ½, which a few massive channels do not move.
    """
    reference, twin = difference.inputs[0].inputs
    size = probes.emit("Abs", [reference])
    root = probes.emit("ReduceMean", [probes.emit("Sqrt", [size])], keepdims=0)
    bound = probes.emit("Mul", [probes.emit("Add", [size, probes.emit("Mul", [root, root])]), probes.literal(OFF)])
    off = probes.emit("Not", [probes.emit("LessOrEqual", [probes.emit("Abs", [difference]), bound], BOOL)], BOOL)
    count = probes.emit("Reshape", [probes.emit("Size", [difference], 7), probes.literal([1], np.int64)], 7)
    total = probes.scalars("ReduceSum", probes.emit("Cast", [off], to=FLOAT))
    cells = pair_cells(probes, reference, twin, difference)
    return probes.row([*cells, total, probes.emit("Cast", [count], to=FLOAT)])


def finite(probes: Probes, tensor: gs.Tensor) -> gs.Tensor:
    """Mask of elements that are neither NaN nor infinite (nor within a hair of FP32's end); masks are a quarter of the tensor's size."""
    below = probes.emit("Less", [tensor, probes.literal(BIG)], BOOL)
    return probes.emit("And", [below, probes.emit("Greater", [tensor, probes.literal(-BIG)], BOOL)], BOOL)
