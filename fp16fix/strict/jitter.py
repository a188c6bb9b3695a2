"""Another kernel rounds otherwise: a pseudo-random relative error before each rounding that is not exact, in one emulated graph.

Two kernels of one operator add in another order, or compute in FP32 or FP16 inside; what they store differs by about one more rounding. A
verdict that flips under that was luck. What is stored exactly (integers, indices, copies, zeros, infinities) is the same in every kernel,
and so is what only a Cast or a choice among stored values makes.

The error is drawn from the value itself, as that of rounding it on another grid: (1 − S)·x + S·half(K·x)/K. A value that is another by
2⁻¹¹ has another error; equal values of one tensor have equal errors, as one kernel would give them. As S < K, a value that FP16 holds is
moved by less than half a spacing, and the rounding behind brings it back. It needs no random operator (ONNX Runtime 1.32 has none from
opset 22 on), does not depend on the order of samples, and costs little: two Casts, three Muls and an Add.
"""

from __future__ import annotations

import zlib

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.half import FP32

SHARE = 0.68
"""S: the error's RMS is that of a relative error that is uniform in ±2⁻¹² (±2⁻⁹ for BF16), half of the unit roundoff."""
LEAST = 0.75
"""K lies between this and 1: scaled up, a finite value would overflow; scaled down further, one that is stored exactly would be moved."""


def jittered(edit: Editor, raw: gs.Tensor, element: int, seed: int) -> tuple[gs.Tensor, list[gs.Node]]:
    """``raw`` with the error where rounding it to ``element`` is not exact, and the nodes that compute that, to be put behind it.

    Args:
        edit: of the graph.
        raw: FP32, about to be rounded.
        element: what it is rounded to.
        seed: another one gives other errors; each tensor has its own K.
    """
    nodes: list[gs.Node] = []

    def emit(op: str, *inputs: gs.Tensor) -> gs.Tensor:
        made = edit.variable(f"{raw.name}/jitter", FP32.onnx, raw.shape)
        nodes.append(gs.Node(op, edit.fresh(f"{raw.name}/jitter"), inputs=list(inputs), outputs=[made]))
        return made

    def scaled(tensor: gs.Tensor, factor: float) -> gs.Tensor:
        return emit("Mul", tensor, edit.constant(f"{raw.name}/jitter", np.asarray(factor, np.float32)))

    grid = LEAST + (1.0 - LEAST) * zlib.crc32(f"{raw.name}#{seed}".encode()) / 2.0**32
    casts, elsewhere = edit.rounding(scaled(raw, grid), element)
    nodes += casts
    return emit("Add", scaled(raw, 1.0 - SHARE), scaled(elsewhere, SHARE / grid)), nodes
