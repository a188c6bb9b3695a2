"""Mask literals outside FP16 (−1e9, finfo.min, −inf) → literals FP16 holds and softmax cannot tell from −inf, and equal masked entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph import quick
from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model, constant, is_float, magnitude
from fp16fix.half import FP16, Format
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._maskedit import ENTRY, clamp_inputs, level
from fp16fix.passes.rewrite.rules._maskflow import End, Flow, Walker
from fp16fix.passes.rewrite.rules._match import Wiring, eager, is_op, node_named, unmatched, with_scalar

BOUNDS = (24576.0, 49152.0)
"""3·2¹³ and 3·2¹⁴, tried in turn; BF16 has them too. Two masks of the first add up to 49152, and with the scores stay inside FP16."""
SWALLOWS = 2.0**20
"""FP32 holds 24 bits: beside a literal so many times larger, scores vanish but for rounding."""
ZERO = 128.0
"""exp(−128) is zero in FP32 (its smallest subnormal is e^−103.3), so an entry this far under the largest does not exist."""


@dataclass(frozen=True, slots=True)
class Masking:
    """One use of a literal (or all uses of a tensor that holds one): where to clamp, and what follows."""

    node: gs.Node | None
    """The reader of the literal, or the ConstantOfShape that makes it; None for a graph input, which is not edited."""
    tensor: gs.Tensor
    flow: Flow
    size: float
    """Magnitude of the literal."""

    @property
    def beside(self) -> float:
        """Largest magnitude that masked entries stand beside."""
        return max(end.state.beside for end in self.flow.ends)

    def stands(self, bound: float, headroom: float) -> bool:
        """Whether ``bound`` is clear of everything, with the head-room asked for."""
        return all(stands(end, bound, headroom) for end in self.flow.ends)

    def crowded(self, rule: str) -> Refusal:
        """Why no literal will do."""
        where = self.node.name if self.node is not None else self.flow.ends[0].node.name
        why = f"scores reach {self.beside:.3g} beside {self.tensor.name!r}: no literal that 16 bits hold stands clear of them"
        return Refusal(where, rule, why)


class MaskLiteral:
    """−1e9 becomes −inf in FP16: 0·(−inf) is NaN, and so is a softmax over a row of −inf; −65504 plus a second mask is −inf again.

    The literal is clamped to −24576. Scores added to it would show in a fully masked row (FP32's −1e9 swallows them, −24576 does
    not), so before the softmax masked entries take the value of the mask alone, Where(mask < −12288, mask, sum): one mask is above
    two, and equals are equal, as in FP32. Where the mask cannot be named there (it was moved, or is an input that may hold −inf), the
    sum is floored at half the bound instead.
    """

    name: ClassVar[str] = "mask-literal"
    order: ClassVar[int] = 200
    guards: ClassVar[bool] = True
    """A literal guards inputs that no sample may show: a fully masked row, a zero."""
    of_rounding: ClassVar[bool] = True
    """FP32's lowest number rounds to −inf in BF16 too."""
    promise: ClassVar[Promise] = Promise.ALTERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4,6] x) => (float[2,4,6] y) <float low = {-1e9}, float one = {1},
            float[2,1,6] m = {1,1,1,1,0,0, 0,0,0,0,0,0}>
        { i = Sub (one, m) b = Mul (i, low) s = Add (x, b) y = Softmax <axis = -1> (s) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4,6] x) => (float[2,4,6] y)
        <float low = {-3.4028235e38}, float zero = {0}, float[2,1,6] m = {1,1,1,1,0,0, 0,0,0,0,0,0}, float[6] c = {0, 0, 0, -1e9,
            -1e9, -1e9}>
        { b = Cast <to = 9> (m) w = Where (b, zero, low) s = Add (x, w) t = Add (s, c) y = Softmax <axis = -1> (t) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,6,6] x) => (float[2,6,6] y)
        <float low = {-1e9}, float zero = {0}, float[2,1,6] m = {0,0,1,1,1,1, 0,0,0,1,1,1}, float[6] c = {0, 0, 0, -1e9, -1e9, -1e9}>
        { b = Cast <to = 9> (m) w = Where (b, zero, low) s = Add (c, x) t = Add (w, s) y = Softmax <axis = -1> (t) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4,6] x) => (float[2,4,6] y) <float zero = {0}, float[2,1,6] m =
            {1,1,1,1,0,0, 0,0,0,0,0,0}>
        { h = Shape (m) f = ConstantOfShape <value = float[1] {-1e9}> (h) q = Cast <to = 9> (m) b = Where (q, zero, f) s = Add (x, b)
            y = Softmax <axis = -1> (s) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4,6] x, bool[1] c) => (float[2,4,6] y) <float low = {-1e9}, float one
            = {1}, float[2,1,6] m = {1,1,1,1,0,0, 0,0,0,0,0,0}>
        { z = Squeeze (c) y = If (z) <then_branch = yes () => (float[2,4,6] p) { i = Sub (one, m) b = Mul (i, low) s = Add (x, b) p =
            Softmax <axis = -1> (s) },
          else_branch = no () => (float[2,4,6] q) { q = Identity (x) }> }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4] x) => (float[2,4] y) <float low = {-1e9}>
        { y = Mul (x, low) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4] x) => (float[2,4] y) <float low = {-1e4}>
        { s = Add (x, low) y = Softmax (s) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4] x) => (float[2,4] y) <float low = {-1e9}>
        { s = Add (x, low) y = LogSoftmax (s) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4] x) => (float[2,4] y) <float low = {-3e38}, float high = {3e38}>
        { y = Clip (x, low, high) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4] x) => (float[2,4] y) <float k = {1e4}, float low = {-1e9}, bool[4]
            m = {1, 0, 1, 1}>
        { s = Mul (x, k) w = Where (m, s, low) e = Mul (w, k) y = Softmax (e) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """Clamps for the literals, floors for the sums that end in a softmax."""
        good = []
        for source in sources(evidence):
            if source.flow.why_not or not source.flow.ends:
                yield from refused(self.name, source, evidence.model.narrow)
            else:
                good.append(source)
        crowded = [source for source in good if not source.stands(BOUNDS[-1], 0.0)]
        for source in crowded:
            yield source.crowded(self.name)
        good = [source for source in good if source not in crowded]
        roomy = [bound for bound in BOUNDS if all(source.stands(bound, evidence.headroom) for source in good)]
        bound = roomy[0] if roomy else BOUNDS[-1]
        for source in good:
            if source.node is not None:
                yield clamp(source, bound, evidence.model.narrow)
        yield from floors(self.name, good, bound)

    def apply(self, model: Model, repair: Edit) -> None:
        """Clamp the literal that the node reads or makes, or floor what the node reads."""
        node = node_named(model, repair.node)
        numbers = dict(repair.values)
        if "floor" in numbers:
            port = next((index for index, tensor in enumerate(node.inputs) if tensor.name == repair.tensor), None)
            if port is None:
                raise unmatched(model, self.name, repair.node)
            level(editor_of(model), node, port, numbers)
        elif is_op(node, "ConstantOfShape"):
            value = node.attrs["value"]
            node.attrs["value"] = quick.constant(
                f"{node.name}/clamped", np.asarray(np.clip(value.values, -numbers["bound"], numbers["bound"]), value.values.dtype)
            )
        else:
            clamp_inputs(model, node, repair, numbers["bound"])


def stands(end: End, bound: float, headroom: float) -> bool:
    """Whether masked entries stay under the floor (half the bound) and unmasked ones ``ZERO`` above it, whatever was added."""
    beside = end.state.beside * 2.0**headroom
    floor = bound * end.state.gain / 2
    return beside + ZERO <= floor and 2 * floor <= FP16.largest


def sources(evidence: Findings) -> Iterator[Masking]:
    """Every use of a literal outside the narrow type, and graph inputs that carry such values."""
    narrow = evidence.model.narrow
    walker = Walker(Wiring(evidence.model), evidence.ranges)
    for tensor in evidence.model.graph.inputs:
        seen = evidence.ranges.get(tensor.name)
        # Ranges are of finite values below 3e38; finfo.min and −inf are only counted.
        if seen is not None and is_float(tensor) and (seen.low <= -narrow.overflow or seen.nonfinite) and seen.high < narrow.overflow:
            size = np.inf if seen.nonfinite else abs(seen.low)
            yield Masking(None, tensor, walker.from_tensor(tensor, infinite=bool(seen.nonfinite)), float(size))
    for node in evidence.model.nodes():
        fill = node.attrs["value"].values if is_op(node, "ConstantOfShape") and "value" in node.attrs else None
        if fill is not None and outside(fill, narrow):
            flow = walker.from_tensor(node.outputs[0], infinite=bool(np.isinf(fill).any()))
            yield Masking(node, node.outputs[0], flow, magnitude(fill))
        for tensor in {id(each): each for each in node.inputs}.values():
            values = constant(tensor)
            if values is not None and is_float(tensor) and outside(values, narrow):
                flow = walker.from_reader(tensor, node, infinite=bool(np.isinf(values).any()))
                yield Masking(node, tensor, flow, magnitude(values))


def outside(values: np.ndarray, narrow: Format) -> bool:
    """Whether some value rounds to infinity in the narrow type, all on one side (a mask has one sign)."""
    if magnitude(values) < narrow.overflow:
        return False
    past = values[np.abs(values) >= narrow.overflow]
    return bool(past.size) and bool((past > 0).all() or (past < 0).all())


def refused(rule: str, source: Masking, narrow: Format) -> Iterator[Refusal]:
    """Why a literal stays: bounds that bound nothing are harmless; products and weights have rules of their own."""
    node = source.node
    if node is None or (is_op(node, "Mul", "Div") and with_scalar(node) is not None):
        return
    low = constant(source.tensor)
    if low is not None and low.size == 1:
        value = float(low.reshape(-1)[0])
        port = next(index for index, tensor in enumerate(node.inputs) if tensor is source.tensor)
        clip = is_op(node, "Clip") and (port == 1) == (value < 0)
        if clip or is_op(node, "Max" if value < 0 else "Min"):
            why = f"{value:.4g} becomes infinite in {narrow}, and as a bound it bounds nothing either way"
            yield Refusal(node.name, rule, why, harmless=True)
            return
    why = source.flow.why_not or "nothing it reaches treats it as minus infinity"
    yield Refusal(node.name, rule, f"{source.tensor.name!r} is past {narrow} and {why}; left to exponents or an island")


def clamp(source: Masking, bound: float, narrow: Format) -> Edit:
    """The repair of one literal."""
    assert source.node is not None
    readers = " and ".join(sorted({end.node.op for end in source.flow.ends}))
    name, literal = source.node.name, source.tensor.name
    why = (
        f"{literal!r} becomes infinite in {narrow}; "
        f"to {readers} ±{bound:g} is as far from what stands beside it ({source.beside:.3g} at most)"
    )
    return Edit(MaskLiteral.name, name, Promise.ALTERED, covers=(name,), tensor=literal, values=(("bound", bound),), because=why)


def floors(rule: str, good: list[Masking], bound: float) -> Iterator[Edit]:
    """One for each softmax whose masked entries had something added that FP32's literal swallows and the clamped one does not."""
    found: dict[str, list[tuple[Masking, End]]] = {}
    for source in good:
        for end in source.flow.ends:
            if end.state.spread and is_op(end.node, "Softmax", "Exp") and source.size >= SWALLOWS * end.state.beside:
                found.setdefault(end.node.name, []).append((source, end))
    for name, pairs in sorted(found.items()):
        ends = [end for _, end in pairs]
        floor = -bound * min(end.state.gain for end in ends) / 2
        sizes = [source.size for source, _ in pairs]
        # A literal that swallows another one beside it makes no difference between one mask and two; the floor does not either.
        known = max(sizes) < SWALLOWS * min(sizes) and all(source.node is not None and end.state.entry for source, end in pairs)
        entries = tuple(sorted({(f"{ENTRY}{end.state.entry[0]}", float(end.state.entry[1])) for end in ends if known and end.state.entry}))
        how = "take the mask's own value" if entries else f"are raised to {floor:g}"
        why = f"masked entries {how} before {ends[0].node.op}, so that a fully masked row is uniform as in FP32 and never NaN"
        tensor = ends[0].node.inputs[ends[0].port].name
        yield Edit(rule, name, Promise.ALTERED, covers=(name,), tensor=tensor, values=(("floor", floor), *entries), because=why)
