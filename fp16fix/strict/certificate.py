"""A typed graph → how far the partial sums of its FP16 products can go on given samples, whatever the order in which they are added.

One pass bounds Σ|a||b| from above by norms, which costs no product; what that does not settle is computed in a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph import quick
from fp16fix.graph.edit import Editor, drop_unread, put_behind
from fp16fix.graph.model import Model, element_type
from fp16fix.graph.once import once
from fp16fix.graph.operators import AVERAGES, PRODUCTS, SUMS, operator
from fp16fix.graph.session import Session
from fp16fix.half import FP32
from fp16fix.strict.blocks import INT64, OPSET, Blocks, held, unfolded
from fp16fix.strict.emulate import emulated
from fp16fix.strict.profiles.compiled import Compiled
from fp16fix.verdict.condition import Bounded

PIECE = 1 << 22
"""Elements of weights that are looked at together."""
WIDEST = 256
"""Tensors that one Concat takes: what crosses a border where a long graph is parted, waits until all of them are there."""
Sample = Mapping[str, np.ndarray]


def certified(
    typed: Model,
    samples: Iterable[Sample],
    known: Mapping[str, Bounded] | None = None,
    *,
    threads: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> tuple[Bounded, ...]:
    """Every FP16 product and sum of a typed graph, those that go furthest first.

    Args:
        typed: not changed.
        samples: re-iterable; bounds are the largest over them.
        known: what norms say on all of them, by node, where a ``Certificate`` has seen them.
        threads: of ONNX Runtime.
        tick: called after each sample of each pass.
    """
    if not is_certified(typed):
        return ()
    found = dict(bounds(typed, samples, None, threads, tick) if known is None else known)
    left = {name for name, each in found.items() if not each.holds}
    if left:
        found |= bounds(typed, samples, left, threads, tick)
    return tuple(sorted(found.values(), key=lambda each: (each.margin, each.node)))


def is_certified(typed: Model) -> bool:
    """Whether there is anything to bound, in nodes that can be written for it."""
    return typed.opset >= OPSET and typed.narrow.narrow_sums


def bounds(
    typed: Model, samples: Iterable[Sample], exactly: Collection[str] | None, threads: int, tick: Callable[[], None]
) -> dict[str, Bounded]:
    """One pass: by norms for all nodes, or ``exactly`` for some."""
    certificate, found = Certificate(typed, exactly), dict[str, Bounded]()
    graph = certificate.graph()
    if not certificate.names:
        return found
    graph.graph.outputs = [tensor for tensor in graph.graph.outputs if tensor.name in certificate.names]
    drop_unread(graph.graph)
    session = Session(graph, threads=threads)
    for sample in samples:
        certificate.see(session.run(sample), found)
        tick()
    return found


class Certificate:
    """Bounds of the sums in a typed graph, computed beside what ``emulate`` makes of it under the profile that decides."""

    def __init__(self, typed: Model, exactly: Collection[str] | None = None) -> None:
        """By norms, of all nodes, or ``exactly``, of some."""
        self._typed = typed
        self._exactly = exactly
        self._probes = Probes(exactly)
        self.names: tuple[str, ...] = ()
        """Of the outputs that hold bounds, and what is counted; none where there is nothing to bound."""

    def graph(self, *, guarded: bool = False) -> Model:
        """What ``emulate`` makes, with two outputs more: thousands of one number each would take longer than all that computes them."""
        self._probes = probes = Probes(self._exactly)
        found = emulated(self._typed, probes, guarded=guarded)
        edit = Editor(found)
        told = [vector(edit, base, cells) for base, cells in (("bounds", probes.bounds), ("counts", probes.counts)) if cells]
        found.graph.outputs += told
        self.names = tuple(tensor.name for tensor in told)
        return found

    def see(self, values: Mapping[str, np.ndarray], largest: dict[str, Bounded]) -> None:
        """Raise what is known of each node to what one sample shows.

        Args:
            values: outputs of the graph, by name.
            largest: by node; changed.
        """
        reached, counts = ([number for name in names for number in values[name]] for names in (self.names[:1], self.names[1:]))
        for (node, *counted), bound in zip(self._probes.made, reached, strict=True):
            terms, size = (int(each.values if isinstance(each, gs.Constant) else counts[each]) for each in counted)
            before = largest.get(node.name) or Bounded(node.name, node.op, 0, 0.0)
            furthest = max(before.bound, float(np.nan_to_num(bound, nan=np.inf)))
            largest[node.name] = Bounded(
                node.name, node.op, max(before.terms, terms), furthest, self._exactly is not None, max(before.results, size)
            )


def vector(edit: Editor, base: str, cells: Sequence[gs.Tensor]) -> gs.Tensor:
    """Tensors of shape ``[1]``, which a main graph makes one after another, as one; ``WIDEST`` at a time, as soon as they are there."""
    parts = [cells[start : start + WIDEST] for start in range(0, len(cells), WIDEST)]
    made = [joined(edit, base, part) for part in parts]
    put_behind(edit.model.graph, {part[-1].name: node for part, node in zip(parts, made, strict=True)})
    return made[0].outputs[0] if len(made) == 1 else vector(edit, base, [node.outputs[0] for node in made])


def joined(edit: Editor, base: str, parts: Sequence[gs.Tensor]) -> gs.Node:
    """What puts vectors together."""
    found = edit.variable(base, element_type(parts[0]))
    return quick.node("Concat", edit.fresh(base), attrs={"axis": 0}, inputs=list(parts), outputs=[found])


@dataclass
class Probes(Compiled):
    """The profile that decides, with a bound beside each product and sum of the main graph."""

    exactly: Collection[str] | None
    made: list[tuple[gs.Node, int | gs.Constant, int | gs.Constant]] = field(default_factory=list)
    """Node, how many terms it adds, and how many results it has: where among the counts, or itself."""
    bounds: list[gs.Tensor] = field(default_factory=list)
    """One of each node, of shape ``[1]``, as counts are."""
    counts: list[gs.Tensor] = field(default_factory=list)
    name: ClassVar[str] = "certificate"

    def result(self, edit: Editor, node: gs.Node, raw: gs.Tensor) -> tuple[gs.Tensor, list[gs.Node]]:
        """As the profile that decides; the bound is computed beside it."""
        wanted = node.op in PRODUCTS | SUMS if self.exactly is None else node.name in self.exactly
        if not wanted or edit.owner(node) is not edit.model.graph:
            return raw, []
        work = Blocks(edit, node, raw)
        bound = by_norms(work) if self.exactly is None else None
        self.bounds.append(bound or largest(work, whole(work)))
        self.made.append((node, self.counted(work, terms(work)), self.counted(work, results(work))))
        return raw, work.nodes

    def counted(self, work: Blocks, count: gs.Tensor) -> int | gs.Constant:
        """Where an integer scalar is among the counts; itself, if it is known."""
        if isinstance(count, gs.Constant):
            return count
        self.counts.append(work.emit("Reshape", count, work.constant([1]), element=INT64))
        return len(self.counts) - 1


def largest(work: Blocks, x: gs.Tensor) -> gs.Tensor:
    """Of all elements, of shape ``[1]``."""
    return work.reduced("ReduceMax", work.emit("Reshape", x, work.constant([-1])), 0, keepdims=1)


def operands(work: Blocks) -> tuple[list[gs.Tensor], gs.Tensor | None]:
    """What a kernel multiplies, and what it applies behind the sum."""
    node = work.node
    count = len(node.inputs) if node.op == "Einsum" else 2 if node.op in PRODUCTS else 1
    found: list[gs.Tensor] = list(node.inputs[:count])
    if node.op != "MatMul":
        return found, None
    found[0], factor = unfolded(work, found[0])
    return found, factor


def whole(work: Blocks) -> gs.Tensor:
    """Σ|a||b| itself."""
    node, (found, _) = work.node, operands(work)
    bias, attrs = operator(node.op).bias, {key: value for key, value in node.attrs.items() if key not in {"alpha", "beta"}}
    rest = node.inputs[len(found) :] if bias is None else ()
    total = work.emit(node.op, *(work.emit("Abs", each) for each in found), *rest, **attrs)
    return work.emit("Mul", total, as_float(work, terms(work))) if node.op in AVERAGES else total


def as_float(work: Blocks, x: gs.Tensor) -> gs.Tensor:
    """An integer in FP32."""
    return work.emit("Cast", x, to=FP32.onnx)


def by_norms(work: Blocks) -> gs.Tensor | None:
    """What Σ|a||b| certainly does not pass, without a product; None where that is not known to be cheaper."""
    node = work.node
    if node.op in {"MatMul", "Gemm"}:
        (a, b), _ = operands(work)
        left, right = (-2 if node.attrs.get("transA") else -1), (-1 if node.attrs.get("transB") else -2)
        return work.emit("Mul", norm(work, a, left), norm(work, b, right))
    weights = held(node.inputs[1]) if node.op in {"Conv", "ConvTranspose"} else None
    if weights is None:
        return None
    shared = (1, *range(2, weights.ndim)) if node.op == "Conv" else (0, *range(2, weights.ndim))
    heaviest = work.constant(np.float32(longest(weights, 1, shared)))
    return work.emit("Mul", largest(work, work.emit("Abs", node.inputs[0])), heaviest)


def norm(work: Blocks, x: gs.Tensor, axis: int) -> gs.Tensor:
    """The largest Euclidean norm along an axis (Cauchy's inequality)."""
    values = held(x)
    if values is not None:
        return work.constant(np.float32(longest(values, 2, (axis,))))
    return largest(work, work.reduced("ReduceL2", x, axis, keepdims=1))


@once
def longest(weights: np.ndarray, order: int, axes: tuple[int, ...]) -> float:
    """The largest norm over some axes: of order 1 the sum of magnitudes, of order 2 Euclid's. Large weights are looked at in blocks."""
    along = tuple(axis % weights.ndim for axis in axes)
    step = max(1, PIECE * len(weights) // max(1, weights.size))
    total, most = np.float64(0.0), 0.0
    for start in range(0, len(weights), step):
        part = weights[start : start + step].astype(np.float32)
        sums = np.abs(part).sum(axis=along) if order == 1 else np.square(part, dtype=np.float64).sum(axis=along)
        total, most = (total + sums, most) if 0 in along else (total, max(most, float(np.max(sums, initial=0.0))))
    largest_sum = float(np.max(total, initial=most))
    return largest_sum if order == 1 else math.sqrt(largest_sum)


def terms(work: Blocks) -> gs.Tensor:
    """How many are added for one result: a constant, where weights tell."""
    node = work.node
    weights = held(node.inputs[1]) if node.op in PRODUCTS and len(node.inputs) > 1 else None
    if node.op == "Conv" and weights is not None:
        return work.constant(prod(weights.shape[1:]))
    if node.op in {"MatMul", "Gemm"}:
        if weights is not None and weights.ndim > 1:
            return work.constant(weights.shape[-1 if node.attrs.get("transB") else -2])
        axis = -2 if node.attrs.get("transA") else -1
        return work.emit("Gather", work.emit("Shape", node.inputs[0], element=INT64), work.constant(axis), element=INT64)
    if node.op in {"Conv", "ConvTranspose"}:
        shape = work.emit("Shape", node.inputs[1], element=INT64)
        per = work.emit("Div", work.emit("ReduceProd", shape, keepdims=0, element=INT64), first(work, shape, 0), element=INT64)
        return per if node.op == "Conv" else work.emit("Mul", per, first(work, shape, 0), element=INT64)
    read = [work.emit("Size", each, element=INT64) for each in operands(work)[0]]
    return work.emit("Div", read[0], work.emit("Size", work.raw, element=INT64), element=INT64) if node.op in SUMS else read[0]


def results(work: Blocks) -> gs.Tensor:
    """How many a node has; as declared, for it is only work that is counted with it."""
    shape = work.raw.shape
    if shape is not None and all(isinstance(size, (int, np.integer)) for size in shape):
        return work.constant(prod(shape))
    return work.emit("Size", work.raw, element=INT64)


def first(work: Blocks, shape: gs.Tensor, index: int) -> gs.Tensor:
    """One dimension."""
    return work.emit("Gather", shape, work.constant(index), element=INT64)
