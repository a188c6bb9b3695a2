"""What rules of normalisations share: sub-patterns, the affine part that follows, and division by the largest magnitude."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.errors import ReplayError
from fp16fix.graph.edit import Editor
from fp16fix.graph.model import constant
from fp16fix.half import LARGEST, SMALLEST, SMALLEST_NORMAL
from fp16fix.passes.rewrite.found import Found
from fp16fix.passes.rewrite.pattern import Any, As, Number, Op, Pattern, Reduce, Square, Tensor, Weight
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, is_op, range_of

X = Tensor("x")
MEAN = Reduce("ReduceMean", X)
CENTRED = Op("Sub", X, MEAN)


def moment_variance(mean: Pattern) -> Pattern:
    """E[x²] − E[x]², as it is or kept from going below zero."""
    bare = Op("Sub", Reduce("ReduceMean", Square(X)), Square(mean))
    return Any(bare, Op("Relu", bare), Op("Max", bare, Number(value=0.0)))


def inverse_root(inside: Pattern) -> Pattern:
    """1 / sqrt(inside), as exporters write it."""
    return Any(Op("Reciprocal", root(inside)), Op("Div", Number(value=1.0), root(inside)), Op("Pow", inside, Number(value=-0.5)))


def root(inside: Pattern) -> Pattern:
    """sqrt(inside)."""
    return Any(Op("Sqrt", inside), Op("Pow", inside, Number(value=0.5)))


def over_root(numerator: Pattern, inside: Pattern) -> Pattern:
    """The numerator over sqrt(inside)."""
    return Any(Op("Div", numerator, root(inside)), Op("Mul", numerator, inverse_root(inside)))


def with_eps(pattern: Pattern) -> Pattern:
    """The pattern plus a number, or alone."""
    return Any(Op("Add", pattern, Number("eps")), pattern)


def floored(pattern: Pattern) -> Pattern:
    """Max of the pattern and a number, as Keras keeps a variance off zero; tf2onnx caps it at infinity before."""
    return Op("Max", Any(Op("Min", pattern, Number(value=math.inf)), pattern), Number("floor"))


BARE_VARIANCE = Any(Reduce("ReduceMean", Square(CENTRED)), moment_variance(MEAN))
VARIANCE = with_eps(BARE_VARIANCE)
STANDARD = over_root(CENTRED, VARIANCE)
"""(x − μ) / sqrt(σ² + eps)."""
FLOORED = over_root(CENTRED, floored(As("variance", BARE_VARIANCE)))
"""(x − μ) / sqrt(max(σ², floor))."""
FACTOR = As("factor", Any(Op("Mul", inverse_root(VARIANCE), Weight("gamma")), inverse_root(VARIANCE)))
MOMENTS = Op("Add", Op("Mul", X, FACTOR), Op("Sub", Weight("beta"), Op("Mul", MEAN, FACTOR)))
"""x·(γ/σ) + (β − μ·(γ/σ)), as TensorFlow writes it."""


@dataclass(frozen=True, slots=True)
class Norm:
    """A matched normalisation and the affine part folded into it."""

    found: Found
    last: gs.Node
    gamma: np.ndarray | None = None
    beta: np.ndarray | None = None
    extra: tuple[str, ...] = ()
    """Names of the affine part's nodes."""

    @property
    def x(self) -> gs.Tensor:
        """What is normalised."""
        return self.found.tensor("x")

    def scale(self, edit: Editor) -> list[gs.Constant]:
        """Initializers of gamma and beta, as far as there are any, named after the last node."""
        given = (("scale", self.gamma), ("bias", self.beta))
        return [edit.constant(f"{self.last.name}/{label}", values) for label, values in given if values is not None]

    @property
    def names(self) -> tuple[str, ...]:
        """Every node that the fused one stands for."""
        return tuple(sorted({*self.found.names, *self.extra}))


Fit = Callable[[np.ndarray], np.ndarray | None]
"""A constant as the fused operator wants its scale or bias, or None if it cannot be one."""


def with_affine(view: Wiring, found: Found, core: gs.Node, fit: Fit, *, shifted: bool = True) -> Norm:
    """The core with a following Mul by a fitting constant, and an Add of one if ``shifted``, where nothing else reads between."""
    last, gamma, beta, extra = core, None, None, []
    step = follows(view, last, "Mul", fit)
    if step is not None:
        last, gamma = step
        extra.append(last.name)
    step = follows(view, last, "Add", fit) if shifted else None
    if step is not None:
        last, beta = step
        extra.append(last.name)
    return Norm(found, last, gamma, beta, tuple(extra))


def follows(view: Wiring, node: gs.Node, op: str, fit: Fit) -> tuple[gs.Node, np.ndarray] | None:
    """The one reader of ``node``, if it is ``op`` with a constant that fits."""
    out = node.outputs[0]
    reader = view.only_user(out)
    if reader is None or not is_op(reader, op) or len(reader.inputs) != 2:
        return None
    other = reader.inputs[1] if reader.inputs[0] is out else reader.inputs[0]
    values = constant(other)
    fitting = None if values is None else fit(values)
    return None if fitting is None else (reader, fitting)


def trailing_fit(dims: Sequence[object]) -> Fit:
    """Constants that broadcast to the last axes, of sizes ``dims``."""

    def fit(values: np.ndarray) -> np.ndarray | None:
        sizes = tuple(size for size in dims if isinstance(size, int))
        known = sizes if len(sizes) == len(dims) else values.shape[-len(dims) :]
        if len(sizes) < len(dims) and 1 in known:
            # One number for an axis of a length that nobody knows cannot be written as its scale.
            return None
        if len(known) != len(dims) or any(size != 1 for size in values.shape[: -len(dims)]):
            return None
        inner = values.reshape(values.shape[-len(dims) :])
        try:
            return np.ascontiguousarray(np.broadcast_to(inner, known)).astype(np.float32)
        except ValueError:
            return None

    return fit


def channel_fit(rank: int, channels: object, *, numbers: bool = True) -> Fit:
    """Constants that vary along axis 1 alone of a tensor of that rank, as a vector.

    A single number fits too, unless not ``numbers`` or nobody knows for how many channels it stands.
    """

    def fit(values: np.ndarray) -> np.ndarray | None:
        if values.ndim > rank or (values.size == 1 and not (numbers and isinstance(channels, int))):
            return None
        shape = (1,) * (rank - values.ndim) + values.shape
        count = channels if isinstance(channels, int) else shape[1]
        if any(size != 1 for axis, size in enumerate(shape) if axis != 1) or shape[1] not in (1, count):
            return None
        return np.ascontiguousarray(np.broadcast_to(values.reshape(-1), (count,))).astype(np.float32)

    return fit


def may_be_shared(found: Found) -> frozenset[str]:
    """Nodes that may have readers outside the match, for whom they stay as they are: the mean of x and x less its mean."""
    x = found.tensor("x")
    return frozenset(node.name for node in found.nodes if is_op(node, "ReduceMean", "Sub") and node.inputs[0] is x)


def ending_at(node: gs.Node) -> list[gs.Node]:
    """``node`` and the producers of its operands up to two steps back: where the core of a norm that ends at ``node`` can be."""
    found, layer = [node], [node]
    for _ in range(2):
        layer = [tensor.inputs[0] for each in layer if is_op(each, "Mul", "Add") for tensor in each.inputs if tensor.inputs]
        found += layer
    return found


def one_exponent(evidence: Findings, total: gs.Tensor, floor: float, degree: int = 2) -> str:
    """Why one power of two on x suffices for its mean square, sum of squares (degree 2) or length (degree 1); empty if it does not.

    Args:
        evidence: ranges and the head-room wanted.
        total: the tensor that holds it.
        floor: what is added to it or what it is not allowed to fall under.
        degree: power of x that the tensor is.
    """
    seen = range_of(evidence, total)
    if seen is None or seen.high <= 0.0:
        return ""
    low = max(seen.low, floor)
    octaves = math.inf if low <= 0.0 else math.log2(seen.high / low) + degree * evidence.headroom
    # Two octaves of slack: a whole exponent moves a square by two.
    if octaves > math.log2(LARGEST / SMALLEST_NORMAL) - 2:
        return ""
    what = "the squares' mean or sum runs" if degree == 2 else "the length runs"
    return f"{what} from {low:.3g} to {seen.high:.3g}: one exponent on the stream holds that at no run-time cost"


@dataclass(frozen=True, slots=True)
class Guard:
    """A constant eps written for a value that is divided by a, with a ≥ ``unit``: eps / a^n = ``factor`` · (unit / a)^n."""

    unit: float
    factor: float

    @property
    def given(self) -> bool:
        """Whether there is an eps at all."""
        return self.factor > 0.0


def guard(eps: float, degree: int) -> Guard:
    """FP16-sized numbers for an eps that is added to (or is the least of) something of that degree in x.

    Raises:
        ReplayError: the eps is under 2^(−24·(degree + 1)), so that no such numbers exist.
    """
    if eps <= 0.0:
        return Guard(SMALLEST, 0.0)
    unit = min(2.0**15, max(SMALLEST, 2.0 ** math.ceil(math.log2(eps) / degree)))
    factor = eps / unit**degree
    if factor < SMALLEST:
        raise ReplayError(f"an eps of {eps:.3g} cannot be written in FP16, not even against the largest magnitude", hint="drop this repair")
    return Guard(unit, factor)


def writable(eps: float, degree: int) -> bool:
    """Whether ``guard`` has an answer."""
    return eps <= 0.0 or eps >= SMALLEST ** (degree + 1)


@dataclass(frozen=True, slots=True)
class Divided:
    """x / a with a = max(|x|) along the axes, not under a guard's unit."""

    unit: gs.Tensor
    """x / a, within ±1."""
    part: gs.Tensor
    """unit / a, within 0 and 1; for the eps."""


def divide_by_largest(write: Writer, x: gs.Tensor, axes: Sequence[int], bound: Guard, label: str = "") -> Divided:
    """Nodes for x / max|x|: every square after it lies in [0, 1] and their sum is at least 1, whatever x holds."""
    largest = write.reduce("ReduceMax", write.op("Abs", [x], f"{label}abs"), axes, f"{label}largest")
    floor = write.number(bound.unit, f"{label}unit")
    divisor = write.op("Max", [largest, floor], f"{label}divisor")
    unit = write.op("Div", [x, divisor], f"{label}scaled")
    part = write.op("Div", [floor, divisor], f"{label}part") if bound.given else floor
    return Divided(unit, part)
