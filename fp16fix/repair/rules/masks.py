"""Mask literals outside FP16 (−1e9, finfo.min, −inf) → literals FP16 holds and softmax cannot tell from −inf, and equal masked entries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.diagnose.hazard import Kind
from fp16fix.graph.edit import Editor
from fp16fix.graph.model import Model, constant, element_type, is_float, numpy_type
from fp16fix.half import FP16
from fp16fix.repair.recipe import Promise, Refusal, Repair
from fp16fix.repair.rule import Evidence
from fp16fix.repair.rules._maskflow import End, Flow, Walker
from fp16fix.repair.rules._walk import View, eager, is_op, node_named, unmatched

BOUNDS = (24576.0, 49152.0)
"""3·2¹³ and 3·2¹⁴, tried in turn. Two masks of the first add up to 49152, and with the scores stay inside FP16."""
ZERO = 128.0
"""exp(−128) is zero in FP32 (its smallest subnormal is e^−103.3), so an entry this far under the largest does not exist."""


@dataclass(frozen=True, slots=True)
class Source:
    """One use of a literal (or all uses of a tensor that holds one): where to clamp, and what follows."""

    node: gs.Node | None
    """The reader of the literal, or the ConstantOfShape that makes it; None for a graph input, which is not edited."""
    tensor: gs.Tensor
    flow: Flow

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
        why = f"scores reach {self.beside:.3g} beside {self.tensor.name!r}: no literal that FP16 holds stands clear of them"
        return Refusal(where, rule, why)


class MaskLiteral:
    """−1e9 becomes −inf in FP16: 0·(−inf) is NaN, and so is a softmax over a row of −inf; −65504 plus a second mask is −inf again.

    The literal is clamped to −24576. Scores added to it would show in a fully masked row (FP32's −1e9 swallows them, −24576 does
    not), so the sum is floored at half the bound before the softmax: a masked row is uniform, as in FP32, even for −inf at run time.
    """

    name: ClassVar[str] = "mask-literal"
    order: ClassVar[int] = 200
    promise: ClassVar[Promise] = Promise.ALTERED
    answers: ClassVar[frozenset[Kind]] = frozenset({Kind.CONSTANT, Kind.OVERFLOW})
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4,6] x) => (float[2,4,6] y) <float low = {-1e9}, float one = {1},
            float[2,1,6] m = {1,1,1,1,0,0, 0,0,0,0,0,0}>
        { i = Sub (one, m) b = Mul (i, low) s = Add (x, b) y = Softmax <axis = -1> (s) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4,6] x) => (float[2,4,6] y)
        <float low = {-3.4028235e38}, float zero = {0}, float[2,1,6] m = {1,1,1,1,0,0, 0,0,0,0,0,0}, float[6] c = {0, 0, 0, -1e9,
            -1e9, -1e9}>
        { b = Cast <to = 9> (m) w = Where (b, zero, low) s = Add (x, w) t = Add (s, c) y = Softmax <axis = -1> (t) }""",
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
    def propose(self, evidence: Evidence) -> Iterator[Repair | Refusal]:
        """Clamps for the literals, floors for the sums that end in a softmax."""
        good = []
        for source in sources(evidence):
            if source.flow.why_not or not source.flow.ends:
                yield from refused(self.name, source)
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
                yield clamp(source, bound)
        yield from floors(self.name, good, bound)

    def apply(self, model: Model, repair: Repair) -> None:
        """Clamp the literal that the node reads or makes, or floor what the node reads."""
        node = node_named(model, repair.node)
        numbers = dict(repair.values)
        if "floor" in numbers:
            port = next((index for index, tensor in enumerate(node.inputs) if tensor.name == repair.tensor), None)
            if port is None:
                raise unmatched(model, self.name, repair.node)
            floor_input(Editor(model), node, port, numbers["floor"])
        elif is_op(node, "ConstantOfShape"):
            value = node.attrs["value"]
            node.attrs["value"] = gs.Constant(
                f"{node.name}/clamped", np.asarray(np.clip(value.values, -numbers["bound"], numbers["bound"]), value.values.dtype)
            )
        else:
            clamp_inputs(model, node, repair, numbers["bound"])


def clamp_inputs(model: Model, node: gs.Node, repair: Repair, bound: float) -> None:
    """The literal, for this reader only; readers that were clamped alike share one initializer."""
    ports = [index for index, tensor in enumerate(node.inputs) if tensor.name == repair.tensor and constant(tensor) is not None]
    if not ports:
        raise unmatched(model, repair.rule, repair.node)
    values = node.inputs[ports[0]].values
    clamped = np.asarray(np.clip(values, -bound, bound), values.dtype)
    name = f"{repair.tensor}/clamped"
    twin = model.tensors().get(name)
    held = constant(twin) if twin is not None else None
    shared = twin if held is not None and np.array_equal(held, clamped) else Editor(model).constant(name, clamped)
    for port in ports:
        node.inputs[port] = shared


def floor_input(edit: Editor, node: gs.Node, port: int, floor: float) -> None:
    """``Max(input, floor)`` (Min for masks of +inf) before the node."""
    tensor = node.inputs[port]
    literal = edit.constant(f"{node.name}/floor", np.asarray(floor, numpy_type(element_type(tensor))))
    out = edit.variable(f"{tensor.name}/floored", element_type(tensor), tensor.shape)
    edit.before(node, "Max" if floor < 0 else "Min", f"{node.name}/floor_mask", [tensor, literal], [out])
    node.inputs[port] = out


def stands(end: End, bound: float, headroom: float) -> bool:
    """Whether masked entries stay under the floor (half the bound) and unmasked ones ``ZERO`` above it, whatever was added."""
    beside = end.state.beside * 2.0**headroom
    floor = bound * end.state.gain / 2
    return beside + ZERO <= floor and 2 * floor <= FP16.largest


def sources(evidence: Evidence) -> Iterator[Source]:
    """Every use of a literal outside FP16, and graph inputs that carry such values."""
    walker = Walker(View(evidence.model), evidence.ranges)
    for tensor in evidence.model.graph.inputs:
        seen = evidence.ranges.get(tensor.name)
        if seen is not None and is_float(tensor) and seen.low <= -FP16.overflow and seen.high < FP16.overflow:
            yield Source(None, tensor, walker.from_tensor(tensor, infinite=bool(seen.nonfinite)))
    for node in evidence.model.nodes():
        fill = node.attrs["value"].values if is_op(node, "ConstantOfShape") and "value" in node.attrs else None
        if fill is not None and outside(fill):
            yield Source(node, node.outputs[0], walker.from_tensor(node.outputs[0], infinite=bool(np.isinf(fill).any())))
        for tensor in {id(each): each for each in node.inputs}.values():
            values = constant(tensor)
            if values is not None and is_float(tensor) and outside(values):
                yield Source(node, tensor, walker.from_reader(tensor, node, infinite=bool(np.isinf(values).any())))


def outside(values: np.ndarray) -> bool:
    """Whether some value rounds to infinity in FP16, all on one side (a mask has one sign)."""
    past = values[np.abs(values) >= FP16.overflow]
    return bool(past.size) and bool((past > 0).all() or (past < 0).all())


def refused(rule: str, source: Source) -> Iterator[Refusal]:
    """Why a literal stays: bounds that bound nothing are harmless; products and weights have rules of their own."""
    node = source.node
    if node is None:
        return
    low = constant(source.tensor)
    if low is not None and low.size == 1:
        value = float(low.reshape(-1)[0])
        port = next(index for index, tensor in enumerate(node.inputs) if tensor is source.tensor)
        clip = is_op(node, "Clip") and (port == 1) == (value < 0)
        if clip or is_op(node, "Max" if value < 0 else "Min"):
            why = f"{value:.4g} becomes infinite in FP16, and as a bound it bounds nothing either way"
            yield Refusal(node.name, rule, why, harmless=True)
            return
    why = source.flow.why_not or "nothing it reaches treats it as minus infinity"
    yield Refusal(node.name, rule, f"{source.tensor.name!r} is past FP16 and {why}; left to exponents or an island")


def clamp(source: Source, bound: float) -> Repair:
    """The repair of one literal."""
    assert source.node is not None
    readers = " and ".join(sorted({end.node.op for end in source.flow.ends}))
    name, literal = source.node.name, source.tensor.name
    why = (
        f"{literal!r} becomes infinite in FP16; to {readers} ±{bound:g} is as far from what stands beside it ({source.beside:.3g} at most)"
    )
    return Repair(MaskLiteral.name, name, Promise.ALTERED, covers=(name,), tensor=literal, values=(("bound", bound),), because=why)


def floors(rule: str, good: list[Source], bound: float) -> Iterator[Repair]:
    """One floor for each softmax whose masked entries had something added."""
    found: dict[str, End] = {}
    for source in good:
        for end in source.flow.ends:
            held = found.get(end.node.name)
            if end.state.spread and is_op(end.node, "Softmax", "Exp", "Attention") and (held is None or end.state.gain < held.state.gain):
                found[end.node.name] = end
    for name, end in sorted(found.items()):
        if is_op(end.node, "Attention"):
            continue
        floor = math.copysign(bound * end.state.gain / 2, end.state.sign)
        why = f"masked entries are raised to {floor:g}, so that a fully masked row is uniform as in FP32 and never NaN"
        tensor = end.node.inputs[end.port].name
        yield Repair(rule, name, Promise.ALTERED, covers=(name,), tensor=tensor, values=(("floor", floor),), because=why)
