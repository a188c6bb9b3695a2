"""An eps that FP16 rounds to zero beside a divisor or a logarithm → the largest eps that leaves the FP32 answer unmoved."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model, constant, scalar
from fp16fix.graph.operators import CARRIERS
from fp16fix.half import SMALLEST, SMALLEST_NORMAL, octave
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, eager, is_op, node_named, producer, range_of, unmatched, with_scalar
from fp16fix.ranges.range import Range

HELD = 16 * SMALLEST
"""From here on an FP16 subnormal has 5 significant bits, enough for an eps; below, it is as good as lost."""
GAP = 8
"""Octaves without a value that must lie between the eps and the smallest x."""
NOTHING = 2.0**-17
"""An eps this small beside x moves 1/√x by less than 4e-6: only where x is zero does it do anything."""
UNMOVED = 2.0**-17
"""7.6e-6: what an added eps may move the smallest value it is added to (FP32 equivalence is 1e-5)."""


@dataclass(frozen=True, slots=True)
class Match:
    """``guard`` (Add, Max or Clip) keeps ``x`` off zero by ``eps`` at its input or attribute ``port``, before ``reader``."""

    guard: gs.Node
    port: int | str
    x: gs.Tensor
    eps: float
    reader: gs.Node
    root: gs.Node | None


class RaiseEps:
    """1e-12 … 1e-8 are zero in FP16, so 0 / (0 + eps) becomes NaN where FP32 says 0.

    Raised only where calibration shows the FP32 answer unmoved: values are either zero with a zero numerator, or so much larger
    than the new eps that it does not count.
    """

    name: ClassVar[str] = "raise-eps"
    order: ClassVar[int] = 190
    guards: ClassVar[bool] = True
    """A literal guards inputs that no sample may show: a fully masked row, a zero."""
    again: ClassVar[bool] = True
    """An eps rescaled with its norm may have become smaller than FP16 holds."""
    promise: ClassVar[Promise] = Promise.ALTERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float[4,1] m = {1, 0, 1, 0}, int64[1] a =
            {-1}, float eps = {1e-9}>
        { s = Mul (x, m) p = Abs (s) t = ReduceSum (p, a) d = Max (t, eps) y = Div (s, d) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float[4,1] m = {1, 0, 1, 0}, int64[1] a =
            {-1}, float eps = {1e-12}>
        { s = Mul (x, m) p = Abs (s) t = ReduceSum (p, a) d = Add (eps, t) y = Div (s, d) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float[4,1] m = {1, 0, 1, 0}, int64[1] a =
            {-1}, float eps = {1e-8}>
        { s = Mul (x, m) p = Mul (s, s) t = ReduceSum (p, a) d = Clip (t, eps) r = Sqrt (d) y = Div (s, r) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float[4,1] m = {1, 0, 1, 0}, int64[1] a =
            {-1}, float eps = {5e-9}, float k = {0.015}>
        { b = Mul (x, m) s = Mul (b, k) p = Mul (s, s) t = ReduceSum (p, a) d = Add (t, eps) r = Sqrt (d) y = Div (s, r) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float eps = {1e-10}>
        { r = Relu (x) d = Add (r, eps) y = Log (d) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float eps = {1e-3}>
        { r = Abs (x) d = Add (r, eps) y = Div (x, d) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float eps = {1e-8}, float k = {1e-7}>
        { r = Abs (x) s = Mul (r, k) d = Add (s, eps) y = Div (s, d) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float eps = {1e-8}>
        { y = Add (x, eps) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """Raise what FP16 loses where that is safe; refuse with the reason where it is not."""
        view = Wiring(evidence.model)
        for node in evidence.model.nodes():
            found = match(view, node)
            seen = None if found is None else range_of(evidence, found.x)
            if found is None or seen is None or not 0.0 < found.eps < HELD:
                continue
            smallest = smallest_nonzero(evidence, found, seen)
            raised = raised_eps(found, smallest)
            floor = floor_for(found, smallest, evidence.headroom_down) if raised < SMALLEST or raised <= found.eps else 0.0
            if seen.low < 0.0:
                why = f"{found.x.name!r} goes down to {seen.low:.3g}: it is no magnitude that an eps keeps off zero"
            elif not floor and (raised < SMALLEST or raised <= found.eps):
                why = f"{found.x.name!r} gets as small as {smallest:.3g}, where an eps above {found.eps:.3g} would change the answer"
            elif seen.low == 0.0 and not zero_over_zero(evidence, found):
                why = f"{found.x.name!r} is zero in places, where the answer is made by the eps {found.eps:.3g} itself"
            elif floor:
                why = f"FP16 rounds the eps {found.eps:.3g} to zero; beside x ≥ {smallest:.3g} it guards zeros, as max(x, {floor:.3g}) does"
                yield self.repair(node, found, "floor", floor, why)
                continue
            else:
                why = f"FP16 rounds the eps {found.eps:.3g} to zero; {raised:.3g} does the same for what was seen (0 or ≥ {smallest:.3g})"
                yield self.repair(node, found, "eps", raised, why)
                continue
            yield Refusal(node.name, self.name, f"{why}; left to exponents or an island")

    def repair(self, node: gs.Node, found: Match, key: str, value: float, why: str) -> Edit:
        """A repair of one guard."""
        covers = tuple(sorted({node.name, found.reader.name, *([found.root.name] if found.root is not None else [])}))
        tensor = node.inputs[found.port].name if isinstance(found.port, int) else ""
        return Edit(self.name, node.name, self.promise, covers=covers, tensor=tensor, values=((key, value),), because=why)

    def apply(self, model: Model, repair: Edit) -> None:
        """Give the guard its new eps, or make an Add a Max; other users of the literal keep theirs."""
        node = node_named(model, repair.node, "Add", "Max", "Clip")
        found = match(Wiring(model), node)
        if found is None:
            raise unmatched(model, self.name, repair.node)
        values = dict(repair.values)
        if "floor" in values:
            node.op = "Max"
        raised = values.get("floor", values.get("eps", found.eps))
        if isinstance(found.port, str):
            node.attrs[found.port] = raised
            return
        old = constant(node.inputs[found.port])
        assert old is not None
        node.inputs[found.port] = editor_of(model).constant(f"{node.name}/eps", np.full(old.shape, raised, old.dtype))


def smallest_nonzero(evidence: Findings, found: Match, seen: Range) -> float:
    """Smallest nonzero value of x; 0 if unknown, inf if all are zero.

    Calibration may have looked for it behind the guard only, where zeros show as the octave of the eps. What stands ``GAP``
    octaves above that with nothing in between is the smallest x; an x as small as the eps itself would hide in its octave.
    """
    if seen.smallest > 0.0:
        return seen.smallest
    behind = range_of(evidence, found.guard.outputs[0])
    octaves = [] if behind is None else [each for each, _ in behind.octaves]
    above = [each for each in octaves if each > octave(found.eps)]
    if not octaves or (above and min(above) < octave(found.eps) + GAP):
        return 0.0
    return float(2.0 ** min(above)) if above else math.inf


def raised_eps(found: Match, smallest: float) -> float:
    """The largest power of two up to 2⁻¹⁴ that leaves every nonzero value seen unmoved; 0 if none is known to."""
    bound = min(smallest * (UNMOVED if found.guard.op == "Add" else 0.5), SMALLEST_NORMAL)
    return float(2.0 ** math.floor(math.log2(bound))) if bound > 0.0 else 0.0


def floor_for(found: Match, smallest: float, down: float) -> float:
    """For an Add whose eps is nothing beside any nonzero x seen: the power of two up to 2⁻¹⁴ that max(x, ·) may use instead; else 0.

    x is mostly a sum of squares, so it is left ``2 · down`` octaves of room for quieter inputs, as far as FP16 goes.
    """
    if found.guard.op != "Add" or not math.isfinite(smallest) or found.eps > smallest * NOTHING or smallest < 4 * SMALLEST:
        return 0.0
    quiet = max(min(smallest / 2 * 2.0 ** (-2.0 * down), SMALLEST_NORMAL), 2 * SMALLEST)
    return float(2.0 ** math.floor(math.log2(quiet)))


def zero_over_zero(evidence: Findings, found: Match) -> bool:
    """Whether the numerator is zero where ``x`` is: x sums its magnitudes, or a nonzero one over eps would pass the largest quotient."""
    if not is_op(found.reader, "Div"):
        return False
    if sums_up(evidence, found.x, found.reader.inputs[0]):
        return True
    above, quotient = range_of(evidence, found.reader.inputs[0]), range_of(evidence, found.reader.outputs[0])
    divisor = math.sqrt(found.eps) if found.root is not None else found.eps
    return above is not None and quotient is not None and above.smallest / divisor > quotient.absmax


def sums_up(evidence: Findings, x: gs.Tensor, numerator: gs.Tensor) -> bool:
    """Whether x is Σ|n|, Σn² or, for n ≥ 0, Σn of the numerator n; or both are sums over one mask ≥ 0, n = Σ(a · mask), x = Σ mask."""
    total = producer(x, "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
    if total is None:
        return False
    terms = total.inputs[0]
    size = producer(terms, "Abs", "Mul", "Pow")
    if size is not None and size.inputs[0] is numerator:
        even = size.op == "Abs" or (size.op == "Pow" and scalar(size.inputs[1]) == 2.0)
        if even or size.inputs[-1] is numerator:
            return True
    seen, values = range_of(evidence, terms), constant(terms)
    positive = total.op != "ReduceSum" or (seen is not None and seen.low >= 0.0) or (values is not None and bool((values >= 0).all()))
    above = producer(numerator, "ReduceSum")
    product = producer(above.inputs[0], "Mul") if above is not None else None
    masked = product is not None and any(tensor is terms for tensor in product.inputs)
    return positive and (terms is numerator or masked)


def match(view: Wiring, node: gs.Node) -> Match | None:
    """A guard whose one reader divides by it, inverts it or takes its logarithm; a square root and movement may stand between."""
    guard = guarded(node)
    reader = view.only_user(node.outputs[0]) if guard is not None else None
    if guard is None or reader is None:
        return None
    root, tensor = None, node.outputs[0]
    while reader is not None and (is_op(reader, *CARRIERS) or (root is None and is_op(reader, "Sqrt"))) and reader.inputs[0] is tensor:
        root = reader if is_op(reader, "Sqrt") else root
        tensor = reader.outputs[0]
        reader = view.only_user(tensor)
    inverts = reader is not None and is_op(reader, "Div") and reader.inputs[1] is tensor
    if reader is None or not (
        inverts or is_op(reader, "Reciprocal", "Log") or (is_op(reader, "Pow") and (scalar(reader.inputs[1]) or 0.0) < 0.0)
    ):
        return None
    x, port, eps = guard
    return Match(node, port, x, eps, reader, root)


def guarded(node: gs.Node) -> tuple[gs.Tensor, int | str, float] | None:
    """(x, where the eps stands, eps) of Add(x, eps), Max(x, eps), Clip(x, min=eps)."""
    if is_op(node, "Add", "Max"):
        found = with_scalar(node)
        return None if found is None else (found[0], 1 if node.inputs[0] is found[0] else 0, found[1])
    if not is_op(node, "Clip"):
        return None
    if "min" in node.attrs:
        return node.inputs[0], "min", float(node.attrs["min"])
    low = scalar(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1].name else None
    return None if low is None or producer(node.inputs[1]) is not None else (node.inputs[0], 1, low)
