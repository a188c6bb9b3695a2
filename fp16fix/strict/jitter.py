"""Another kernel rounds otherwise: a pseudo-random relative error before each rounding that is not exact, in one emulated graph.

Two kernels of one operator add in another order, or compute in FP32 or FP16 inside; what they store differs by about one more rounding. A
verdict that flips under that was luck. What is stored exactly (integers, indices, copies, zeros, infinities) is the same in every kernel,
and so is what only a Cast or a choice among stored values makes.

The error is drawn from the value itself: 1 + A·(2u − 1) with u the fraction of K·ln|x|. A value that is another by 2⁻¹¹ has
another error; equal values of one tensor have equal errors, as one kernel would give them. It needs no random operator (ONNX Runtime 1.32
has none from opset 22 on), nor does it depend on the order of samples.
"""

from __future__ import annotations

import zlib

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.half import BF16, FP16, FP32

AMPLITUDE = {FP16.onnx: 2.0**-12, BF16.onnx: 2.0**-9}
"""Largest relative error: half of the unit roundoff, 2⁻¹¹ for 11 significand bits and 2⁻⁸ for 8."""
CYCLES = 2.0**13
"""K: cycles of u for a factor of e; 4 for a relative change of 2⁻¹¹, and FP32 still holds K·ln|x| to 2⁻⁷ of a cycle."""
OPSET = 11
"""From which ``Equal`` takes floats (ONNX operator changelog)."""


def jittered(edit: Editor, raw: gs.Tensor, element: int, seed: int) -> tuple[gs.Tensor, list[gs.Node]]:
    """``raw`` with the error where rounding it to ``element`` is not exact, and the nodes that compute that, to be put behind it.

    Args:
        edit: of the graph.
        raw: FP32, about to be rounded.
        element: what it is rounded to.
        seed: another one gives other errors; each tensor has its own K.
    """
    nodes, stored = edit.rounding(raw, element)

    def emit(op: str, *inputs: gs.Tensor, kind: int = FP32.onnx) -> gs.Tensor:
        made = edit.variable(f"{raw.name}/jitter", kind, raw.shape)
        nodes.append(gs.Node(op, edit.fresh(f"{raw.name}/jitter"), inputs=list(inputs), outputs=[made]))
        return made

    def number(value: float) -> gs.Tensor:
        return edit.constant(f"{raw.name}/jitter", np.asarray(value, np.float32))

    amplitude, own = AMPLITUDE[element], zlib.crc32(f"{raw.name}#{seed}".encode()) / 2.0**32
    turns = emit("Mul", emit("Log", emit("Abs", raw)), number(CYCLES * (1.0 + own)))
    fraction = emit("Sub", turns, emit("Floor", turns))
    factor = emit("Add", emit("Mul", fraction, number(2.0 * amplitude)), number(1.0 - amplitude))
    exact = emit("Equal", stored, raw, kind=onnx.TensorProto.BOOL)
    return emit("Where", exact, raw, emit("Mul", raw, factor)), nodes
