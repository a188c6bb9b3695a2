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
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph import quick
from fp16fix.graph.edit import Editor, put_before_readers
from fp16fix.half import FP32

SHARE = 0.68
"""S: the error's RMS is that of a relative error that is uniform in ±2⁻¹² (±2⁻⁹ for BF16), half of the unit roundoff."""
LEAST = 0.75
"""K lies between this and 1: scaled up, a finite value would overflow; scaled down further, one that is stored exactly would be moved."""

SIZED_BY_INPUT = 13
"""Opset from which Split takes the sizes of its parts as an input (ONNX operator changelog)."""
WIDEST = 256
"""Parts of one Split: what ONNX Runtime takes to open a graph grows with their square (64,000 parts: 28 CPU-seconds, so 2)."""


class Jitter:
    """The errors in one emulated graph, which takes them in as one more input: one graph, opened once, serves every seed."""

    def __init__(self) -> None:
        """None yet: ``strict.emulate`` puts them in."""
        self._drawn: list[tuple[str, gs.Variable, gs.Variable]] = []
        """The rounded tensor, and its K and S/K."""
        self._input = ""

    def feeds(self, seed: int) -> dict[str, np.ndarray]:
        """What the input is fed with, float32 of shape ``[2 × tensors]``: each tensor has its own K, and for another seed another one."""
        found: list[float] = []
        for name, _, _ in self._drawn:
            drawn = LEAST + (1.0 - LEAST) * zlib.crc32(f"{name}#{seed}".encode()) / 2.0**32
            found += [drawn, SHARE / drawn]
        return {self._input: np.asarray(found, np.float32)} if found else {}

    def install(self, edit: Editor) -> None:
        """Give the graph the input, once all errors are in it. One input: ONNX Runtime's time to bind inputs grows with their square."""
        if not self._drawn:
            return
        graph, scalars = edit.model.graph, [each for _, *pair in self._drawn for each in pair]
        fed = edit.variable("jitter", FP32.onnx, [len(scalars)])
        self._input = fed.name
        graph.inputs.append(fed)
        parts = [each if each.shape else edit.variable(f"{each.name}/part", FP32.onnx, [1]) for each in scalars]
        none = edit.constant("jitter/shape", np.array([], np.int64))
        shaped = {
            part.name: quick.node("Reshape", edit.fresh(part.name), inputs=[part, none], outputs=[scalar])
            for scalar, part in zip(scalars, parts, strict=True)
            if scalar is not part
        }
        splits = apart(edit, fed, parts)
        groups = [[node, *(shaped[tensor.name] for tensor in node.outputs if tensor.name in shaped)] for node in splits]
        last = len(groups) - -(-len(parts) // WIDEST)
        # Those that make the scalars where these are read first: from there on they are held, and cross whatever borders lie between.
        put_before_readers(graph, groups[last:])
        graph.nodes[:0] = [node for group in groups[:last] for node in group]

    def added(self, edit: Editor, raw: gs.Tensor, element: int) -> tuple[gs.Tensor, list[gs.Node]]:
        """``raw`` with the error where rounding it to ``element`` is not exact, and the nodes that compute that, to be put behind it.

        Args:
            edit: of the graph.
            raw: FP32, about to be rounded.
            element: what it is rounded to.
        """
        nodes: list[gs.Node] = []

        def emit(op: str, *inputs: gs.Tensor) -> gs.Tensor:
            made = edit.variable(f"{raw.name}/jitter", FP32.onnx, raw.shape)
            nodes.append(quick.node(op, edit.fresh(f"{raw.name}/jitter"), inputs=list(inputs), outputs=[made]))
            return made

        grid, share = (edit.variable(f"{raw.name}/jitter", FP32.onnx, [1] if raw.shape else []) for _ in range(2))
        self._drawn.append((raw.name, grid, share))
        rest = edit.constant(f"{raw.name}/jitter", np.asarray(1.0 - SHARE, np.float32))
        casts, elsewhere = edit.rounding(emit("Mul", raw, grid), element)
        nodes += casts
        return emit("Add", emit("Mul", raw, rest), emit("Mul", elsewhere, share)), nodes


def apart(edit: Editor, fed: gs.Variable, parts: Sequence[gs.Variable]) -> list[gs.Node]:
    """Splits of a vector into pieces, ``WIDEST`` at a time."""
    if len(parts) <= WIDEST:
        return [split(edit, fed, parts)]
    groups = [parts[start : start + WIDEST] for start in range(0, len(parts), WIDEST)]
    pieces = [edit.variable("jitter/part", FP32.onnx, [sum(part.shape[0] for part in group)]) for group in groups]
    return [*apart(edit, fed, pieces), *(split(edit, piece, group) for piece, group in zip(pieces, groups, strict=True))]


def split(edit: Editor, fed: gs.Variable, parts: Sequence[gs.Variable]) -> gs.Node:
    """A vector into pieces that follow one another."""
    sizes = [part.shape[0] for part in parts]
    if edit.model.opset >= SIZED_BY_INPUT:
        held = edit.constant("jitter/sizes", np.asarray(sizes, np.int64))
        return quick.node("Split", edit.fresh("jitter"), attrs={"axis": 0}, inputs=[fed, held], outputs=list(parts))
    return quick.node("Split", edit.fresh("jitter"), attrs={"axis": 0, "split": sizes}, inputs=[fed], outputs=list(parts))
