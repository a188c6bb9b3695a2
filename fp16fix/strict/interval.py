"""What an operator makes of intervals: nodes that compute a lower and an upper bound of its result from those of its operands.

Interval bound propagation (Gowal et al. 2018, *On the effectiveness of interval bound propagation*); products by midpoint and radius (Rump
1999, *Fast and parallel interval arithmetic*). An operator without a law here is not bounded, and nothing behind it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph import quick
from fp16fix.graph.model import FLOATS, element_type, numpy_type, scalar
from fp16fix.graph.operators import AVERAGES, PRODUCTS, SUMS
from fp16fix.half import FP16, FP32
from fp16fix.strict.blocks import INT64, Blocks, constant_of, unrounded
from fp16fix.strict.certificate import terms

BOOL = 9
"""``onnx.TensorProto`` element type."""
SLACK = 2.0**-16
"""By how much, relatively, FP32 kernels of one function may differ before the result is stored: 256 ulp."""
FP32_UNIT, TF32_UNIT, FP16_UNIT = 2.0**-24, 2.0**-11, 2.0**-11


class Bounds(NamedTuple):
    """A tensor's lower and upper bound, element by element: FP32 tensors (or integers, as the tensor itself) in its shape."""

    low: gs.Tensor
    high: gs.Tensor


class Work(Blocks):
    """Nodes that bound one node's results."""

    def __init__(self, *given: Any, wide: bool = False) -> None:
        super().__init__(*given)
        self.wide = wide
        """An FP32 product: its operands may be rounded to TF32."""
        self.sums: gs.Tensor | None = None
        """Σ|a||b| of a product or sum, a scalar."""

    def ends(self, node: gs.Node, inputs: Sequence[gs.Tensor]) -> list[gs.Tensor]:
        """A copy of ``node`` on other operands."""
        outputs = [self.edit.variable(f"{node.name}/end", element_type(each) or FP32.onnx) for each in node.outputs]
        copy = quick.node(node.op, self.edit.fresh(f"{node.name}/end"), attrs=dict(node.attrs), inputs=list(inputs), outputs=outputs)
        copy.domain = node.domain
        self.nodes.append(copy)
        return outputs

    def number(self, value: float) -> gs.Constant:
        """An FP32 literal."""
        return self.constant(np.float32(value))

    def spread(self, value: gs.Tensor) -> gs.Tensor:
        """Broadcast to the shape of the result."""
        return self.emit("Expand", value, self.emit("Shape", self.raw, element=INT64))

    def magnitude(self, x: Bounds) -> gs.Tensor:
        """The largest absolute value of each element."""
        return self.emit("Abs", x.low) if x.low is x.high else self.emit("Max", self.emit("Abs", x.low), self.emit("Abs", x.high))

    def grown(self, x: Bounds, by: gs.Tensor) -> Bounds:
        """Wider by ``by`` on either side."""
        return Bounds(self.emit("Sub", x.low, by), self.emit("Add", x.high, by))

    def certain(self, x: Bounds) -> Bounds:
        """Where a bound is no number (∞ − ∞, 0 · ∞), nothing is known."""
        low, high = (
            self.emit("Where", self.emit("IsNaN", end, element=BOOL), self.number(sign * np.inf), end)
            for end, sign in ((x.low, -1), (x.high, 1))
        )
        return Bounds(low, high)

    def unknown(self) -> Bounds:
        """Any value."""
        return self.within(-np.inf, np.inf)

    def any_of(self, element: int, shaped: gs.Tensor) -> Bounds:
        """Any value of a type, in the shape of a tensor."""
        ends = (-np.inf, np.inf)
        kind = np.dtype(np.float32) if element in FLOATS else np.dtype(numpy_type(element))
        if kind.kind in "iu":
            ends = (np.iinfo(kind).min, np.iinfo(kind).max)
        elif kind.kind == "b":
            ends = (False, True)
        shape = self.emit("Shape", shaped, element=INT64)
        return Bounds(*(self.emit("Expand", self.constant(np.asarray(end, kind)), shape, element=element) for end in ends))

    def within(self, low: float, high: float) -> Bounds:
        """The same bounds for all."""
        return Bounds(self.spread(self.number(low)), self.spread(self.number(high)))

    def symmetric(self, most: gs.Tensor) -> Bounds:
        """± ``most``."""
        return Bounds(self.emit("Neg", most), most)

    def extremes(self, candidates: Sequence[gs.Tensor]) -> Bounds:
        """The least and the largest of several."""
        return Bounds(self.emit("Min", *candidates), self.emit("Max", *candidates))

    def where(self, asked: gs.Tensor, yes: Bounds, no: Bounds) -> Bounds:
        """One or the other."""
        return Bounds(self.emit("Where", asked, yes.low, no.low), self.emit("Where", asked, yes.high, no.high))

    def holds(self, op: str, x: gs.Tensor, value: float) -> gs.Tensor:
        """A comparison with a number."""
        return self.emit(op, x, self.number(value), element=BOOL)

    def straddles(self, x: Bounds) -> gs.Tensor:
        """Where an interval holds zero."""
        return self.emit("And", self.holds("LessOrEqual", x.low, 0.0), self.holds("GreaterOrEqual", x.high, 0.0), element=BOOL)


Operands = Sequence[Bounds]
Made = list[Bounds] | None
"""Bounds of each result; None where they are not known."""
Make = Callable[[Work, gs.Node, Operands], Made]


def rising(work: Work, node: gs.Node, given: Operands) -> Made:
    """Rises in every operand: what it makes of the ends are the ends."""
    lows, highs = (work.ends(node, [each[end] for each in given]) for end in (0, 1))
    return [Bounds(*ends) for ends in zip(lows, highs, strict=True)]


def falling(work: Work, node: gs.Node, given: Operands) -> Made:
    """Falls in its only operand."""
    return [Bounds(bounds.high, bounds.low) for bounds in rising(work, node, given) or []]


def turning(work: Work, node: gs.Node, given: Operands) -> Made:
    """Rises or falls in its first operand, element by element, whatever the rest is."""
    found = rising(work, node, given)
    return [work.extremes(bounds) for bounds in found] if found else None


def through_zero(work: Work, node: gs.Node, given: Operands) -> Made:
    """Rises or falls on either side of zero, where it is zero."""
    ends = [work.ends(node, [end, *(each.low for each in given[1:])])[0] for end in given[0]]
    return [work.extremes([*ends, work.number(0.0)])]


def anything(work: Work, node: gs.Node, _given: Operands) -> Made:
    """Whatever the types of the results hold."""
    return [work.any_of(element_type(each), each) for each in node.outputs]


def undropped(work: Work, node: gs.Node, given: Operands) -> Made:
    """Dropout moves its operand; one that may train is not known."""
    return None if len(node.inputs) > 2 and node.inputs[2].name else rising(work, node, given)


def summing(work: Work, node: gs.Node, given: Operands) -> Made:
    """A sum over axes or windows; how far its parts may go is Σ|x|."""
    found = rising(work, node, given)
    total = work.ends(node, [work.magnitude(given[0]), *(each.low for each in given[1:])])[0]
    if node.op in AVERAGES:
        total = work.emit("Mul", total, work.emit("Cast", terms(work), to=FP32.onnx))
    work.sums = work.emit("ReduceMax", total, keepdims=0)
    return found


def difference(work: Work, _node: gs.Node, given: Operands) -> Made:
    a, b = given
    return [work.certain(Bounds(work.emit("Sub", a.low, b.high), work.emit("Sub", a.high, b.low)))]


def absolute(work: Work, _node: gs.Node, given: Operands) -> Made:
    x = given[0]
    least = work.emit("Max", x.low, work.emit("Neg", x.high), work.number(0.0))
    return [Bounds(least, work.magnitude(x))]


def times(work: Work, node: gs.Node, given: Operands) -> Made:
    """The extremes of the products of the ends; a square is no less than zero."""
    a, b = given
    if node.inputs[0] is node.inputs[1]:
        return squared(work, a, 2.0)
    return [work.certain(work.extremes([work.emit("Mul", x, y) for x in a for y in b]))]


def squared(work: Work, x: Bounds, power: float) -> Made:
    """An even power."""
    least, most = absolute(work, work.node, [x])[0]  # type: ignore[index]  # it is always known
    return [Bounds(*(work.emit("Pow", each, work.number(power)) for each in (least, most)))]


def over(work: Work, a: Bounds, b: Bounds) -> Made:
    """Anything where the divisor may be zero."""
    quotients = work.certain(work.extremes([work.emit("Div", x, y) for x in a for y in b]))
    return [work.where(work.straddles(b), work.unknown(), quotients)]


def quotient(work: Work, _node: gs.Node, given: Operands) -> Made:
    return over(work, *given)


def reciprocal(work: Work, _node: gs.Node, given: Operands) -> Made:
    one = work.number(1.0)
    return over(work, Bounds(one, one), given[0])


def power(work: Work, node: gs.Node, given: Operands) -> Made:
    """A literal exponent: even, odd, or of what is not negative."""
    exponent = scalar(node.inputs[1])
    if exponent is None or exponent <= 0.0:
        return None
    if exponent.is_integer():
        return squared(work, given[0], exponent) if exponent % 2 == 0 else rising(work, node, given)
    return of_positive(work, node, given)


def of_positive(work: Work, node: gs.Node, given: Operands) -> Made:
    """Rises where its operand is not negative, and is no number elsewhere."""
    found = rising(work, node, given)
    return [work.certain(found[0])] if found else None


def bowed(least: float) -> Make:
    """Falls from zero to ``least`` and rises from there on, below its operand."""

    def make(work: Work, node: gs.Node, given: Operands) -> Made:
        ends = [work.ends(node, [end, *(each.low for each in given[1:])])[0] for end in given[0]]
        below = work.holds("Less", given[0].low, 0.0)
        found = work.certain(Bounds(work.emit("Min", *ends), work.emit("Max", *ends, work.number(0.0))))
        return [Bounds(work.emit("Where", below, work.number(least), found.low), found.high)]

    return make


def settled(low: float, high: float) -> Make:
    """Always within the same bounds."""
    return lambda work, _node, _given: [work.within(low, high)]


def chosen(work: Work, node: gs.Node, given: Operands) -> Made:
    """Where: of known conditions as they say, else of both."""
    asked, yes, no = given
    if asked.low is asked.high:
        return rising(work, node, given)
    both = Bounds(work.emit("Min", yes.low, no.low), work.emit("Max", yes.high, no.high))
    return [Bounds(work.spread(both.low), work.spread(both.high))]


def looked_up(work: Work, node: gs.Node, given: Operands) -> Made:
    """Gather: at known places, or anywhere along the axis."""
    data, index = given
    if index.low is index.high:
        return rising(work, node, given)
    axis = int(node.attrs.get("axis", 0))
    nowhere = work.emit("Mul", index.low, work.constant(np.zeros((), numpy_type(element_type(node.inputs[1])))), element=INT64)
    nowhere = work.emit("Cast", nowhere, element=INT64, to=INT64)
    hull = (work.reduced(op, end, axis, keepdims=1) for op, end in (("ReduceMin", data.low), ("ReduceMax", data.high)))
    return [Bounds(*(work.emit("Gather", end, nowhere, axis=axis) for end in hull))]


def converted(work: Work, node: gs.Node, given: Operands) -> Made:
    """Cast: rises; what FP32 kernels may differ by is added before a value is stored in FP16."""
    x, target = given[0], node.attrs["to"]
    if target == FP16.onnx and element_type(node.inputs[0]) == FP32.onnx:
        x = work.grown(x, work.emit("Mul", work.magnitude(x), work.number(SLACK)))
        x = work.certain(x)
    return rising(work, node, [x])


def layer_norm(work: Work, node: gs.Node, given: Operands) -> Made:
    """|x − μ| ≤ √(n − 1)·σ, whatever x is, times the scale, and the bias."""
    scale, axis = constant_of(node.inputs[1]), int(node.attrs.get("axis", -1))
    if scale is None:
        return None
    row = work.emit("Slice", work.emit("Shape", work.raw, element=INT64), work.constant([axis]), work.constant([2**31]), element=INT64)
    return normed(work, node, given, rooted(work, work.emit("ReduceProd", row, element=INT64, keepdims=0)), scale)


def rooted(work: Work, count: gs.Tensor) -> gs.Tensor:
    """Of an integer, in FP32."""
    return work.emit("Sqrt", work.emit("Cast", count, to=FP32.onnx))


def channel_norm(work: Work, node: gs.Node, given: Operands) -> Made:
    """The same where n is a channel's, or a group's, share of the values."""
    scale, shape = constant_of(node.inputs[1]), node.inputs[0].shape
    if scale is None or shape is None:
        return None
    per = work.emit("Shape", work.raw, element=INT64)
    rows = work.emit(
        "ReduceProd", work.emit("Slice", per, work.constant([0]), work.constant([2]), element=INT64), element=INT64, keepdims=0
    )
    count = work.emit("Div", work.emit("Size", work.raw, element=INT64), rows, element=INT64)
    if "num_groups" in node.attrs:
        channels = work.emit("Gather", per, work.constant(1), element=INT64)
        count = work.emit("Mul", count, channels, element=INT64)
        count = work.emit("Div", count, work.constant(int(node.attrs["num_groups"])), element=INT64)
        if scale.size == int(node.attrs["num_groups"]) and scale.size > 1 and shape[1] != scale.size:
            return None
    return normed(work, node, given, rooted(work, count), scale.reshape(-1, *[1] * (len(shape) - 2)))


def normed(work: Work, node: gs.Node, given: Operands, root: gs.Tensor, scale: np.ndarray) -> Made:
    """± root · |scale| + bias for the first result; others are not bounded."""
    bias = constant_of(node.inputs[2]) if len(given) > 2 and node.inputs[2].name else np.zeros(1, np.float32)
    if bias is None or any(tensor.name and tensor.outputs for tensor in node.outputs[1:]):
        return None
    bias = bias if bias.ndim == scale.ndim or bias.size == 1 else bias.reshape(scale.shape)
    most = work.emit("Mul", root, work.constant(np.abs(scale) * np.float32(1 + SLACK)))
    middle = work.constant(bias)
    return [Bounds(work.spread(work.emit("Sub", middle, most)), work.spread(work.emit("Add", middle, most)))]


def product(work: Work, node: gs.Node, given: Operands) -> Made:
    """Midpoint ± radius, with what n roundings of any order add: γ·Σ|a||b|; and whatever else is known of the operands."""
    count = len(node.inputs) if node.op == "Einsum" else 2
    if node.op == "Einsum" and count != 2:
        return None
    (a, b), rest = given[:count], given[count:]
    attrs = {key: value for key, value in node.attrs.items() if key != "beta"}
    alpha = float(attrs.pop("alpha", 1.0))

    def multiplied(x: gs.Tensor, y: gs.Tensor) -> gs.Tensor:
        found = work.emit(node.op, x, y, **attrs)
        return found if alpha == 1.0 else work.emit("Mul", found, work.number(alpha))

    whole = work.emit("Abs", multiplied(work.magnitude(a), work.magnitude(b)))
    work.sums = work.emit("ReduceMax", whole, keepdims=0)
    if alpha != 1.0:
        # The factor is applied behind the sum.
        work.sums = work.emit("Div", work.sums, work.number(abs(alpha)))
    rounding = work.emit("Mul", work.emit("Cast", terms(work), to=FP32.onnx), work.number(4 * FP32_UNIT))
    if work.wide:
        rounding = work.emit("Add", rounding, work.number(4 * TF32_UNIT))
    slack = work.emit("Mul", whole, rounding)
    (left, spread_a), (right, spread_b) = (midpoint(work, each) for each in (a, b))
    middle = multiplied(left, right)
    inner = work.emit("Abs", multiplied(work.emit("Abs", left), work.emit("Abs", right)))
    radius = work.emit("Sub", whole, inner) if spread_a or spread_b else work.number(0.0)
    radius = work.emit("Add", work.emit("Max", radius, work.number(0.0)), slack)
    found = work.certain(Bounds(work.emit("Sub", middle, radius), work.emit("Add", middle, radius)))
    for more in (averaged(work, node, b), by_norm(work, node)):
        if more is not None:
            least, most = more
            sure = work.emit("Mul", slack, work.number(2.0))
            found = Bounds(
                work.emit("Max", found.low, work.emit("Sub", least, sure)), work.emit("Min", found.high, work.emit("Add", most, sure))
            )
    return [work.certain(biased(work, node, found, rest))]


def midpoint(work: Work, x: Bounds) -> tuple[gs.Tensor, bool]:
    """An interval's middle, and whether it is wider than a point. An unbounded one has none: the bounds become those of its sum."""
    if x.low is x.high:
        return x.low, False
    half = work.number(0.5)
    return work.emit("Add", work.emit("Mul", x.low, half), work.emit("Mul", x.high, half)), True


def averaged(work: Work, node: gs.Node, values: Bounds) -> Bounds | None:
    """Shares of a softmax add up to one: their product with values lies among these."""
    maker = unrounded(node.inputs[0])
    if node.op != "MatMul" or maker is None or maker.op != "Softmax" or not along_last(maker):
        return None
    if values.low.shape is not None and len(values.low.shape) < 2:
        return None
    count = work.emit("Cast", terms(work), to=FP32.onnx)
    # Each share is rounded once: relatively, and to a subnormal's half step.
    most = work.emit("Add", work.emit("Mul", count, work.number(2.0**-24)), work.number(1.0 + 2 * FP16_UNIT))
    least = work.emit("Min", work.reduced("ReduceMin", values.low, -2, keepdims=1), work.number(0.0))
    largest = work.emit("Max", work.reduced("ReduceMax", values.high, -2, keepdims=1), work.number(0.0))
    furthest = work.emit("Max", work.emit("Neg", least), largest)
    work.sums = work.emit("ReduceMax", work.emit("Mul", furthest, most), keepdims=0)
    return Bounds(work.emit("Mul", least, most), work.emit("Mul", largest, most))


def along_last(softmax: gs.Node) -> bool:
    shape = softmax.inputs[0].shape
    return softmax.attrs.get("axis", -1) in {-1, len(shape) - 1 if shape is not None else -1}


def by_norm(work: Work, node: gs.Node) -> Bounds | None:
    """Behind a LayerNormalization: its vector has a norm of at most √n, so that Cauchy's inequality bounds its product with weights."""
    maker = unrounded(node.inputs[0])
    weights = constant_of(node.inputs[1])
    if node.op != "MatMul" or maker is None or maker.op != "LayerNormalization" or weights is None or weights.ndim != 2:
        return None
    scale = constant_of(maker.inputs[1])
    bias = constant_of(maker.inputs[2]) if len(maker.inputs) > 2 else np.zeros_like(scale) if scale is not None else None
    if scale is None or bias is None or scale.ndim != 1 or scale.size != weights.shape[0]:
        return None
    scaled = weights.astype(np.float64) * scale.astype(np.float64)[:, None]
    # Values are rounded to FP16 between norm and product: by the half of an ulp of their bound, each.
    kept = np.abs(weights).T.astype(np.float64) @ (np.sqrt(scale.size) * np.abs(scale) + np.abs(bias))
    most = np.sqrt(scale.size) * np.sqrt(np.square(scaled).sum(axis=0)) * (1 + SLACK) + 2 * FP16_UNIT * kept
    middle = bias.astype(np.float64) @ weights.astype(np.float64)
    return Bounds(work.constant((middle - most).astype(np.float32)), work.constant((middle + most).astype(np.float32)))


def biased(work: Work, node: gs.Node, found: Bounds, rest: Operands) -> Bounds:
    """The bias, or beta · C, added behind the sum."""
    if not rest or not node.inputs[-1].name:
        return found
    bias = rest[0]
    if node.op == "Gemm":
        beta = float(node.attrs.get("beta", 1.0))
        if beta != 1.0:
            bias = work.extremes([work.emit("Mul", end, work.number(beta)) for end in bias])
    else:
        spatial = len(node.inputs[1].shape) - 2
        shape = work.constant([1, -1, *[1] * spatial])
        bias = Bounds(*(work.emit("Reshape", end, shape) for end in bias))
    return Bounds(work.emit("Add", found.low, bias.low), work.emit("Add", found.high, bias.high))


@dataclass(frozen=True, slots=True)
class Law:
    """One row."""

    ops: str
    """Operator names of the default domain."""
    make: Make
    ports: int | None = 1
    """Operands that may be intervals, from the first on; None for all. The others decide shapes or places, and must be known."""
    when: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    """What must be true of attributes that are given."""


def positive(value: float) -> bool:
    return value >= 0.0


TABLE = (
    Law(
        "Transpose Squeeze Unsqueeze Flatten DepthToSpace SpaceToDepth Identity Reshape Expand Tile Slice Trilu CenterCropPad Split", rising
    ),
    Law("Concat Max Min Add Sum Mean", rising, None),
    Law("Relu MaxPool GlobalMaxPool ReduceMax ReduceMin Pad GatherND GatherElements", rising),
    Law("Clip", rising, None),
    Law("Resize Upsample", rising, when={"mode": lambda mode: mode in {"nearest", "linear"}}),
    Law("Gather", looked_up, 2),
    Law("Where", chosen, None),
    Law("Cast", converted),
    Law("Dropout", undropped),
    Law("Exp Floor Ceil Round Tanh Erf Sigmoid Softplus Softsign ReduceLogSumExp", rising),
    Law("LeakyRelu HardSigmoid Celu Selu Elu ThresholdedRelu", rising, when={"alpha": positive, "gamma": positive}),
    Law("Sqrt Log ReduceLogSum", of_positive),
    Law("ReduceSum ReduceMean GlobalAveragePool AveragePool", summing),
    Law("CumSum", rising),
    Law("Neg", falling),
    Law("Sub", difference, None),
    Law("Abs", absolute),
    Law("Mul", times, None),
    Law("Div", quotient, None),
    Law("Reciprocal", reciprocal),
    Law("Pow", power),
    Law("Gelu", bowed(-0.17)),
    Law("Swish", bowed(-0.279), when={"alpha": lambda alpha: alpha == 1.0}),
    Law("Mish", bowed(-0.309)),
    Law("HardSwish", bowed(-0.3751)),
    Law("Sin Cos", settled(-1.0, 1.0)),
    Law("Softmax Hardmax", settled(0.0, 1.0)),
    Law("LpNormalization", settled(-1.0, 1.0)),
    Law("LogSoftmax", settled(-np.inf, 0.0)),
    Law("BatchNormalization", turning, when={"training_mode": lambda mode: not mode}),
    Law("PRelu", through_zero),
    Law("Equal Greater Less GreaterOrEqual LessOrEqual And Or Not Xor IsNaN IsInf ArgMax ArgMin", anything, None),
    Law("LayerNormalization", layer_norm),
    Law("InstanceNormalization GroupNormalization", channel_norm),
    Law("MatMul Gemm Conv ConvTranspose Einsum", product, None),
)
"""Facts for proofs: what is not listed is not bounded."""

LAWS = {op: law for law in TABLE for op in law.ops.split()}
assert set(LAWS) >= PRODUCTS | SUMS
