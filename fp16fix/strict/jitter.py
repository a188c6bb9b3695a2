"""Another kernel rounds otherwise: a random relative error before each rounding that is not exact, in one emulated graph.

Two kernels of one operator add in another order, or compute in FP32 or FP16 inside; what they store differs by about one more rounding. A
verdict that flips under that was luck. What is stored exactly (integers, indices, copies, zeros) is the same in every kernel, and so is
what only a Cast rounds.
"""

from __future__ import annotations

import zlib

import onnx
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.half import BF16, FP16, FP32

AMPLITUDE = {FP16.onnx: 2.0**-12, BF16.onnx: 2.0**-9}
"""Largest relative error: half of a rounding to 11, or 8, significand bits (unit roundoff 2⁻¹¹ and 2⁻⁸), which is what its mean is."""
OPSET = 9
"""From which ONNX has ``Where``."""
SEEDS = 1 << 23
"""Seeds are whole numbers below this, which a float attribute holds exactly."""


def jittered(edit: Editor, raw: gs.Tensor, element: int, seed: int) -> tuple[gs.Tensor, list[gs.Node]]:
    """``raw`` with the error where rounding it to ``element`` is not exact, and the nodes that compute that, to be put behind it.

    Args:
        edit: of the graph.
        raw: FP32, about to be rounded.
        element: what it is rounded to.
        seed: another one gives other errors; each tensor draws its own.
    """
    nodes, stored = edit.rounding(raw, element)

    def emit(op: str, inputs: list[gs.Tensor], kind: int = FP32.onnx, **attrs: object) -> gs.Tensor:
        made = edit.variable(f"{raw.name}/jitter", kind, raw.shape)
        nodes.append(gs.Node(op, edit.fresh(f"{raw.name}/jitter"), attrs=dict(attrs), inputs=inputs, outputs=[made]))
        return made

    own = float(zlib.crc32(f"{raw.name}#{seed}".encode()) % SEEDS)
    factor = emit("RandomUniformLike", [raw], dtype=FP32.onnx, low=1.0 - AMPLITUDE[element], high=1.0 + AMPLITUDE[element], seed=own)
    off = emit("Cast", [emit("Sub", [stored, raw])], onnx.TensorProto.BOOL, to=onnx.TensorProto.BOOL)
    return emit("Where", [off, emit("Mul", [raw, factor]), raw]), nodes
