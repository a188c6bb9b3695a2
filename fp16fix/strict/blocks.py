"""FP16 products whose sums are held in FP16, as ONNX nodes: blocks of terms are exact, and every running sum is rounded.

A tensor core adds a block of products at full width; what a kernel keeps between blocks may be FP16 (Blanchard, Higham, Lopez, Mary,
Pranesh 2020, *Mixed precision block fused multiply-add*; Fasi et al. 2021, *Numerical behavior of NVIDIA tensor cores*).
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph import quick
from fp16fix.graph.edit import Editor, rounding_of
from fp16fix.graph.model import element_type, scalar
from fp16fix.half import FP16, FP32

BLOCK = 16
"""Terms that are added exactly before the sum is rounded: the depth of FP16 instructions of tensor cores (Fasi et al. 2021)."""
OPSET = 13
"""From which Pad, Slice and Unsqueeze are as written here (ONNX operator changelog)."""
REDUCED_BY_INPUT = 18
"""Opset from which ReduceMax and ReduceL2 take their axes as an input (ONNX operator changelog)."""
INT64 = 7
"""``onnx.TensorProto`` element type."""


class Blocks:
    """Nodes that compute one product again, in blocks."""

    def __init__(self, edit: Editor, node: gs.Node, raw: gs.Tensor) -> None:
        self.edit = edit
        self.node = node
        self.raw = raw
        self.nodes: list[gs.Node] = []

    def emit(self, op: str, *inputs: gs.Tensor, element: int = FP32.onnx, **attrs: Any) -> gs.Tensor:
        """One more node and what it makes."""
        out = self.edit.variable(f"{self.node.name}/blocks", element)
        made = quick.node(op, self.edit.fresh(f"{self.node.name}/blocks"), attrs=attrs, inputs=list(inputs), outputs=[out])
        self.nodes.append(made)
        return out

    def constant(self, values: Any) -> gs.Constant:
        """A literal; integers as 64 bits."""
        return self.edit.constant(f"{self.node.name}/blocks", np.asarray(values))

    def reduced(self, op: str, x: gs.Tensor, axis: int, keepdims: int) -> gs.Tensor:
        """A reduction over one axis."""
        if self.edit.model.opset >= REDUCED_BY_INPUT:
            return self.emit(op, x, self.constant([axis]), keepdims=keepdims)
        return self.emit(op, x, axes=[axis], keepdims=keepdims)

    def zeros(self) -> gs.Tensor:
        """In the shape of the result."""
        nothing = quick.constant(self.edit.fresh(f"{self.node.name}/nothing"), np.zeros(1, np.float32))
        return self.emit("ConstantOfShape", self.emit("Shape", self.raw, element=INT64), value=nothing)

    def scanned(self, blocks: list[tuple[gs.Tensor, int]], term: Any) -> gs.Tensor:
        """The running sum over ``blocks`` (tensor and axis), rounded after each; ``term`` makes nodes and a block's sum of its slices."""
        held = self.edit.variable("held", FP32.onnx)
        slices = [self.edit.variable("slice", element_type(each) or FP32.onnx) for each, _ in blocks]
        nodes, added = term(*slices)
        total, kept = self.edit.variable("total", FP32.onnx), self.edit.variable("kept", FP32.onnx)
        nodes.append(quick.node("Add", self.edit.fresh("add"), inputs=[held, added], outputs=[total]))
        nodes += self.edit.rounding(total, FP16.onnx, kept)[0]
        body = gs.Graph(nodes, inputs=[held, *slices], outputs=[kept], opset=self.edit.model.opset, name=self.edit.fresh("blocks"))
        inputs = [self.zeros(), *(each for each, _ in blocks)]
        return self.emit("Scan", *inputs, body=body, num_scan_inputs=len(blocks), scan_input_axes=[axis for _, axis in blocks])


def matmul(edit: Editor, node: gs.Node, raw: gs.Tensor) -> tuple[gs.Tensor, list[gs.Node]] | None:
    """MatMul or Gemm of matrices in blocks; None where a rank is open, or there is no more than one block."""
    work = Blocks(edit, node, raw)
    a, b, factor = node.inputs[0], node.inputs[1], None
    if any(tensor.shape is None or len(tensor.shape) < 2 for tensor in (a, b)):
        return None
    if node.op == "MatMul":
        a, factor = unfolded(work, a)
    ranks = len(a.shape), len(b.shape)
    if node.attrs.get("transA"):
        a = work.emit("Transpose", a, perm=swapped(ranks[0]))
    if not node.attrs.get("transB"):
        b = work.emit("Transpose", b, perm=swapped(ranks[1]))
    rows, columns = (in_blocks(work, tensor, rank) for tensor, rank in ((a, ranks[0]), (b, ranks[1])))

    def term(x: gs.Tensor, y: gs.Tensor) -> tuple[list[gs.Node], gs.Tensor]:
        turned, product = edit.variable("turned", FP32.onnx), edit.variable("product", FP32.onnx)
        return [
            quick.node("Transpose", edit.fresh("turn"), attrs={"perm": swapped(ranks[1])}, inputs=[y], outputs=[turned]),
            quick.node("MatMul", edit.fresh("block"), inputs=[x, turned], outputs=[product]),
        ], product

    found = work.scanned([(rows, -2), (columns, -2)], term)
    if factor is not None:
        found = work.emit("Mul", found, factor)
    return (finished(work, found) if node.op == "Gemm" else found), work.nodes


def swapped(rank: int) -> list[int]:
    """The last two axes exchanged."""
    return [*range(rank - 2), rank - 1, rank - 2]


def in_blocks(work: Blocks, x: gs.Tensor, rank: int) -> gs.Tensor:
    """The last axis in blocks: […, K] → […, ⌈K/16⌉, 16], zeros behind."""
    count = work.emit("Gather", work.emit("Shape", x, element=INT64), work.constant([rank - 1]), element=INT64)
    size = work.constant([BLOCK])
    missing = work.emit("Mod", work.emit("Sub", size, work.emit("Mod", count, size, element=INT64), element=INT64), size, element=INT64)
    pads = work.emit("Concat", work.constant([0] * (2 * rank - 1)), missing, element=INT64, axis=0)
    return work.emit("Reshape", work.emit("Pad", x, pads), work.constant([*[0] * (rank - 1), -1, BLOCK]))


def unfolded(work: Blocks, a: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor | None]:
    """What a kernel multiplies, and what it applies behind the sum.

    A scalar factor in front is its alpha. Shares of attention are divided by their sum in the end: while they are added, the largest is 1.
    """
    pair = rounding_of(a)
    maker = unrounded(pair[0].inputs[0]) if pair is not None else None
    if maker is not None and maker.op == "Mul":
        for own, other in ((0, 1), (1, 0)):
            if scalar(maker.inputs[own]) is not None and maker.inputs[other].shape is not None and scalar(maker.inputs[other]) is None:
                return maker.inputs[other], maker.inputs[own]
    if maker is not None and maker.op in {"Softmax", "Div"} and is_softmax(maker):
        largest = work.reduced("ReduceMax", a, -1, keepdims=1)
        shares = work.emit("Div", a, largest)
        shares.shape = a.shape
        return shares, largest
    return a, None


def is_softmax(maker: gs.Node) -> bool:
    """Along the last axis; one written out, as ``strict.fused`` does with a long one, ends with exponentials over their own sum."""
    if maker.op == "Div":
        shares, total = stored_by(maker.inputs[0]), stored_by(maker.inputs[1])
        summed = total is not None and total.op == "ReduceSum" and total.inputs[0] is maker.inputs[0]
        return summed and shares is not None and shares.op == "Exp"
    return maker.attrs.get("axis", -1) in {-1, len(maker.inputs[0].shape or ()) - 1}


def stored_by(tensor: gs.Tensor) -> gs.Node | None:
    """What made a tensor before it was rounded, or before rounding was chosen where a row is long (``strict.fused.stored``)."""
    maker = unrounded(tensor)
    return unrounded(maker.inputs[-1]) if maker is not None and maker.op == "Where" else maker


def unrounded(tensor: gs.Tensor) -> gs.Node | None:
    """What made a tensor, Casts apart, and what is left of those that were written out."""
    while tensor.inputs and tensor.inputs[0].op in {"Cast", "Identity"}:
        tensor = tensor.inputs[0].inputs[0]
    return tensor.inputs[0] if tensor.inputs else None


def finished(work: Blocks, product: gs.Tensor) -> gs.Tensor:
    """Alpha · product + beta · C."""
    node = work.node
    for name, tensor in (("alpha", product), ("beta", node.inputs[2] if len(node.inputs) > 2 and node.inputs[2].name else None)):
        factor = float(node.attrs.get(name, 1.0))
        scaled = tensor if tensor is None or factor == 1.0 else work.emit("Mul", tensor, work.constant(np.float32(factor)))
        product = scaled if name == "alpha" else product if scaled is None else work.emit("Add", product, scaled)
    return product


def conv(edit: Editor, node: gs.Node, raw: gs.Tensor) -> tuple[gs.Tensor, list[gs.Node]] | None:
    """A Conv in blocks of 16 channels of one tap; None where weights or pads are open, channels are few or in groups."""
    work, x, weights = Blocks(edit, node, raw), node.inputs[0], constant_of(node.inputs[1])
    if weights is None or node.attrs.get("group", 1) != 1 or node.attrs.get("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        return None
    taps, spatial = weights.shape[2:], weights.ndim - 2
    if weights.shape[1] < BLOCK:
        return None
    strides, dilations = (node.attrs.get(key, [1] * spatial) for key in ("strides", "dilations"))
    pads = node.attrs.get("pads", [0] * 2 * spatial)
    more = -weights.shape[1] % BLOCK
    padded = work.emit("Pad", x, work.constant([0, 0, *pads[:spatial], 0, more, *pads[spatial:]]))
    shape = work.emit("Slice", work.emit("Shape", raw, element=INT64), work.constant([2]), work.constant([2 + spatial]), element=INT64)
    reach = work.emit("Mul", work.emit("Sub", shape, work.constant([1]), element=INT64), work.constant(list(strides)), element=INT64)
    span = work.emit("Concat", work.constant([BLOCK]), work.emit("Add", reach, work.constant([1]), element=INT64), element=INT64, axis=0)
    filled = np.pad(weights, [(0, 0), (0, more), *[(0, 0)] * spatial])
    places = [(c, *tap) for c in range(0, filled.shape[1], BLOCK) for tap in np.ndindex(*taps)]
    starts = np.asarray([[c, *(t * d for t, d in zip(tap, dilations, strict=True))] for c, *tap in places])
    parts = np.stack([filled[(slice(None), slice(c, c + BLOCK), *tap)] for c, *tap in places])
    offsets, kernels = work.constant(starts), work.constant(parts.reshape(*parts.shape, *[1] * spatial))
    axes, steps = work.constant(list(range(1, 2 + spatial))), work.constant([1, *strides])

    def term(start: gs.Tensor, kernel: gs.Tensor) -> tuple[list[gs.Node], gs.Tensor]:
        end, part, product = edit.variable("end", INT64), edit.variable("part", FP32.onnx), edit.variable("product", FP32.onnx)
        return [
            quick.node("Add", edit.fresh("end"), inputs=[start, span], outputs=[end]),
            quick.node("Slice", edit.fresh("part"), inputs=[padded, start, end, axes, steps], outputs=[part]),
            quick.node("Conv", edit.fresh("block"), inputs=[part, kernel], outputs=[product]),
        ], product

    found = work.scanned([(offsets, 0), (kernels, 0)], term)
    if len(node.inputs) > 2 and node.inputs[2].name:
        found = work.emit("Add", found, work.emit("Reshape", node.inputs[2], work.constant([1, -1, *[1] * spatial])))
    return found, work.nodes


def held(tensor: gs.Tensor) -> np.ndarray | None:
    """Weights as they are stored, also where the emulated graph widens them while it runs."""
    maker = tensor.inputs[0] if tensor.inputs else None
    source = maker.inputs[0] if maker is not None and maker.op == "Cast" else tensor
    return np.asarray(source.values) if isinstance(source, gs.Constant) else None


def constant_of(tensor: gs.Tensor) -> np.ndarray | None:
    """The same in FP32."""
    values = held(tensor)
    return None if values is None else values.astype(np.float32, copy=False)


def few_terms(node: gs.Node) -> bool:
    """Whether all terms of a Conv fit one block, so that nothing is rounded on the way."""
    weights = held(node.inputs[1])
    return node.op == "Conv" and weights is not None and prod(weights.shape[1:]) <= BLOCK
