"""Coarse: an argument whose spacing is too large for the function that reads it, whatever the samples made of it.

An error δ of a logit is a relative error δ of its exponential, an error δ of an angle is one of its sine, and a whole number that is
read off an argument flips once in 4/spacing values. Near ties are a matter of luck in samples; how far apart values of a type are is not.

Bounds are FP16's, for 50 dB. BF16's steps are eight times as large, and eight times the error is asked for (32 dB): what hangs on an error
follows it, what counts whole numbers does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from fp16fix.graph.model import Constant, Node, Tensor, is_float
from fp16fix.graph.operators import ADDITIONS, DECIDING, EXPONENTIATING, MOVEMENT, SATURATING, STEPPING, TRIGONOMETRIC
from fp16fix.graph.ops import float_inputs
from fp16fix.half import Format
from fp16fix.hazards.context import Context, hazard
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.hazards.overflow import is_square
from fp16fix.hazards.positions import LENGTHENING, decides_a_shape
from fp16fix.ranges.range import Range

WAVERING = 1e-5
"""Error energy of shares beside that of the shares: 50 dB."""
TIES = 1.0 / 512
"""Rows in which FP16 exchanges two winners: of so many one is wholly wrong, where 50 dB allow for one in 100,000. Attention with a few
massive tokens, whose winners mostly stand alone, stays below it."""
EXPONENT = 1.0 / 64
"""Spacing from which a bare exponential is coarse: it is that of 16 and more, 0.0045 RMS or 47 dB, and no other value competes."""
ANGLE = 8.0
"""Largest |angle| whose FP16 spacing (2⁻⁷ at 8) keeps a sine better than 1 %."""
STEP = 1.0 / 64
"""Spacing from which reading off a whole number is coarse: it is that of 16 and more; one value in 256 flips by storing it alone."""
LEVELS = 256
"""A decision between values that lie in so few steps of FP16 is one of rounding: what decides has a large offset."""
STEEP = 4.0
"""Beyond this a sigmoid or tanh is flat: 0.018 of it is left to climb."""
DIFFERENCE = 256.0
"""RMS of two operands whose sum a sigmoid or tanh reads, from which the values that land in its steep part are lost: M·2⁻¹¹ rounding
errors, in 8/3.5·M of all elements, leave less than 50 dB of a sigmoid's 0.5. A single argument is never coarse there: FP16 steps below
``STEEP`` are 2⁻⁸ times a slope of at most 0.02."""


NOISE = 2.0**-12
"""Typical rounding error of what FP16 adds up, beside its RMS: uniform up to 2⁻¹¹ of each term, 2⁻¹¹ / √3 RMS."""
FELT = 2.0**-6
"""Relative error of the least value from which its logarithm shows in an extreme of logarithms: 0.016 of the ten or so that they span."""


def find(context: Context) -> Iterator[Hazard]:
    """Arguments of exponentials and sines, of what rounds to whole numbers, of decisions; differences before a sigmoid."""
    for node in context.nodes():
        yield from exponentials(context, node)
        yield from angles(context, node)
        yield from steps(context, node)
        yield from decisions(context, node)
        yield from steep(context, node)
        yield from least(context, node)


def exponentials(context: Context, node: Node) -> Iterator[Hazard]:
    """A softmax whose largest logits compete within few steps, an exponential of a large argument."""
    narrow = context.narrow
    seen = context.range_of(node.inputs[0]) if node.op in EXPONENTIATING else None
    if seen is None or isinstance(node.inputs[0], Constant):
        return
    step, large = narrow.spacing(min(abs(seen.high), narrow.largest)), EXPONENT * narrow.coarseness
    bare = node.op == "Exp" and step >= large
    if bare or seen.wavering >= WAVERING * narrow.coarseness**2 or seen.ties >= TIES:
        what = "arguments" if node.op == "Exp" else "logits"
        why = f"{node.op} of {what} up to {seen.high:.4g}: {narrow} steps there are {step:.3g}, a factor of {math.exp(step):.3g} each"
        yield hazard(node, Kind.COARSE, seen, math.log2(max(1.0, step / large)), why)


def angles(context: Context, node: Node) -> Iterator[Hazard]:
    """A sine or cosine of an angle that is held too coarsely."""
    seen = context.range_of(node.inputs[0]) if node.op in TRIGONOMETRIC else None
    if seen is not None and seen.absmax > ANGLE:
        step = context.narrow.spacing(seen.absmax)
        why = f"{node.op} of angles up to {seen.absmax:.4g}: {context.narrow} steps there are {step:.3g} rad, and grow with length"
        yield hazard(node, Kind.COARSE, seen, math.log2(seen.absmax / ANGLE), why)


def steps(context: Context, node: Node) -> Iterator[Hazard]:
    """A whole number read off an argument that is none itself."""
    if not (node.op in STEPPING or is_truncation(node)):
        return
    seen = context.range_of(node.inputs[0])
    if seen is None:
        return
    if seen.integral:
        yield from counted(node, seen, context.narrow)
        return
    step = context.narrow.spacing(seen.absmax)
    if step >= STEP:
        much = f"{node.op} reads whole numbers off values up to {seen.absmax:.4g}"
        why = f"{much}: {context.narrow} steps there are {step:.3g}, and each rounding may flip one"
        yield hazard(node, Kind.COARSE, seen, math.log2(step / STEP), why)


def counted(node: Node, seen: Range, narrow: Format) -> Iterator[Hazard]:
    """Whole numbers that say how long something is, and grow with it."""
    if is_truncation(node) and seen.absmax * LENGTHENING > narrow.integers and decides_a_shape(node):
        why = f"a length is read off whole numbers, up to {seen.absmax:.0f} here: {narrow} counts exactly only to {narrow.integers}"
        yield hazard(node, Kind.COARSE, seen, math.log2(max(1.0, seen.absmax / narrow.integers)), why)


def is_truncation(node: Node) -> bool:
    """A Cast of floats to integers."""
    dtype = node.outputs[0].dtype
    return node.op == "Cast" and is_float(node.inputs[0]) and dtype is not None and np.issubdtype(np.dtype(dtype), np.integer)


def decisions(context: Context, node: Node) -> Iterator[Hazard]:
    """The larger of values that the narrow type hardly tells apart: few of its steps lie between the least and the greatest."""
    if node.op not in DECIDING:
        return
    for tensor in float_inputs(node)[:2]:
        seen = context.range_of(tensor)
        if seen is None or isinstance(tensor, Constant) or seen.low == seen.high or seen.integral:
            continue
        step, spread = context.narrow.spacing(seen.absmax), seen.high - seen.low
        few = LEVELS / context.narrow.coarseness
        if spread < few * step:
            why = f"{node.op} decides between {seen.low:.6g} and {seen.high:.6g}: {context.narrow} has {spread / step:.0f} steps there"
            yield hazard(node, Kind.COARSE, seen, math.log2(few * step / spread), why)


def least(context: Context, node: Node) -> Iterator[Hazard]:
    """The least of logarithms, as spectra are normalised by it: of all values it picks the one that the rounding of the others drowns.

    What FP16 adds up errs by 2⁻¹² of its RMS r, whatever the single result: a magnitude m by 2⁻¹²·r/m, a square by (2⁻¹²)²·r/m.
    """
    log = logarithm(node.inputs[0]) if node.op == "ReduceMin" else None
    seen = None if log is None else context.range_of(log.inputs[0])
    if log is None or seen is None or not 0.0 < seen.smallest < math.inf:
        return
    noise, felt = NOISE * context.narrow.coarseness, FELT * context.narrow.coarseness
    drowned = (noise**2 if squared(log.inputs[0]) else noise) * seen.rms / seen.smallest
    if drowned >= felt:
        why = f"{node.op} picks the least of logarithms, of {seen.smallest:.3g} beside {seen.rms:.3g}: {context.narrow} rounds by more"
        yield hazard(log, Kind.COARSE, seen, math.log2(drowned / felt), why)


def logarithm(tensor: Tensor) -> Node | None:
    """The Log that a tensor is made of by movement, literal factors and literal addends."""
    while tensor.inputs:
        node = tensor.inputs[0]
        if node.op == "Log":
            return node
        held = [each for each in float_inputs(node) if not isinstance(each, Constant)]
        if len(held) != 1 or node.op not in MOVEMENT | ADDITIONS | {"Mul", "Div"}:
            return None
        tensor = held[0]
    return None


def squared(tensor: Tensor) -> bool:
    """Whether it is a square, but for a literal addend (an eps)."""
    while tensor.inputs and tensor.inputs[0].op in ADDITIONS | {"Max", "Clip"}:
        held = [each for each in float_inputs(tensor.inputs[0]) if not isinstance(each, Constant)]
        if len(held) != 1:
            return False
        tensor = held[0]
    return bool(tensor.inputs) and is_square(tensor.inputs[0])


def steep(context: Context, node: Node) -> Iterator[Hazard]:
    """A sigmoid or tanh of a sum whose operands are both large: where they cancel it is steep, and reads their rounding."""
    if node.op not in SATURATING:
        return
    argument = node.inputs[0]
    seen, size = context.range_of(argument), second(context, argument)
    if seen is not None and seen.low < STEEP and seen.high > -STEEP and size >= DIFFERENCE:
        step = context.narrow.spacing(size)
        why = f"{node.op} is steep where two values of RMS {size:.4g} and more cancel: {context.narrow} steps there are {step:.3g}"
        yield hazard(node, Kind.COARSE, seen, math.log2(size / DIFFERENCE), why)


def second(context: Context, argument: Tensor) -> float:
    """RMS of the second largest operand of the sum that makes a tensor; 0 where none does."""
    producers = [node for node in argument.inputs if node.op in ADDITIONS]
    operands = [seen for node in producers for tensor in float_inputs(node) if (seen := context.range_of(tensor)) is not None]
    sizes = sorted((rms(seen, context.narrow) for seen in operands), reverse=True)
    return sizes[1] if len(sizes) > 1 else 0.0


def rms(seen: Range, narrow: Format) -> float:
    """RMS, as far as the narrow type's range goes: what is past it is a mask or another hazard."""
    return seen.rms if seen.absmax < narrow.overflow else 0.0
