"""``Attention`` (opset 23) → MatMul, Softmax, MatMul with the scale split over Q and K, which every builder takes in FP16."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor, editor_of
from fp16fix.graph.model import Model, is_float
from fp16fix.half import LARGEST
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Writer, eager, is_op, node_named, rank, unmatched

INT64 = onnx.TensorProto.INT64
BOOL = onnx.TensorProto.BOOL


@dataclass(frozen=True, slots=True)
class Shape:
    """What must be known before anything is written."""

    q_heads: int
    kv_heads: int
    head: int
    """Size of a query head."""
    value_head: int
    scale: float
    packed: bool
    """Inputs are (batch, length, heads · head)."""


class DecomposeAttention:
    """The TensorRT-RTX 1.7 builder is killed by this operator in FP16 (segmentation fault), so it is written out without any hazard."""

    name: ClassVar[str] = "decompose-attention"
    order: ClassVar[int] = 10
    for_builder: ClassVar[bool] = True
    """TensorRT-RTX's builder ends the process over Attention in FP16."""
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 10, opset_import: ["" : 23]> g (float[2,4,5,8] q, float[2,4,6,8] k, float[2,4,6,8] v) => (float[2,4,5,8] y)
        { y = Attention (q, k, v) }""",
        """<ir_version: 10, opset_import: ["" : 23]> g (float[2,5,24] q, float[2,5,12] k, float[2,5,20] v) => (float[2,5,40] y)
        { y = Attention <q_num_heads = 4, kv_num_heads = 2, is_causal = 1, scale = 0.25> (q, k, v) }""",
        """<ir_version: 10, opset_import: ["" : 23]> g (float[2,4,5,8] q, float[2,2,6,8] k, float[2,2,6,8] v, bool[5,6] m) =>
            (float[2,4,5,8] y)
        { y = Attention (q, k, v, m) }""",
        """<ir_version: 10, opset_import: ["" : 23]> g (float[2,4,5,8] q, float[2,4,6,8] k, float[2,4,6,8] v, float[2,1,5,6] m) =>
            (float[2,4,5,8] y)
        { y = Attention <softcap = 5.0> (q, k, v, m) }""",
        """<ir_version: 10, opset_import: ["" : 23]> g (float[1,2,3,8] q, float[1,2,3,8] k, float[1,2,3,8] v, float[1,2,4,8] a,
            float[1,2,4,8] b)
        => (float[1,2,3,8] y, float[1,2,7,8] c, float[1,2,7,8] d) { y, c, d = Attention <is_causal = 1> (q, k, v, , a, b) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 10, opset_import: ["" : 23]> g (float[2,4,5,8] q, float[2,4,6,8] k, float[2,4,6,8] v) => (float[2,4,5,8] y,
            float[2,4,5,6] z)
        { y, a, b, z = Attention (q, k, v) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """Every Attention whose head sizes are known."""
        for node in evidence.model.nodes():
            if not is_op(node, "Attention"):
                continue
            found = shape_of(node)
            if isinstance(found, str):
                yield Refusal(node.name, self.name, found)
            else:
                why = "no engine comes of Attention in FP16 (TensorRT-RTX crashes); written out, the root of the scale on Q and K"
                yield Edit(self.name, node.name, self.promise, covers=(node.name,), because=why)

    def apply(self, model: Model, repair: Edit) -> None:
        """Write the attention out; outputs keep their names."""
        node = node_named(model, repair.node, "Attention")
        found = shape_of(node)
        if isinstance(found, str):
            raise unmatched(model, self.name, repair.node)
        Decomposition(editor_of(model), node, found).run()


def optional(node: gs.Node, port: int) -> gs.Tensor | None:
    """An optional input, if given."""
    return node.inputs[port] if len(node.inputs) > port and node.inputs[port].name else None


def fixed(tensor: gs.Tensor, axis: int) -> int | None:
    """A static dimension."""
    size = tensor.shape[axis] if tensor.shape is not None else None
    return int(size) if isinstance(size, (int, np.integer)) and size > 0 else None


def shape_of(node: gs.Node) -> Shape | str:
    """Sizes and heads of an Attention, or why it cannot be written out."""
    q, k, v = node.inputs[:3]
    attrs = node.attrs
    if len(node.outputs) > 3 and node.outputs[3].name:
        return "its fourth output (the scores) is asked for"
    if optional(node, 6) is not None or attrs.get("left_window_size", -1) >= 0 or attrs.get("right_window_size", -1) >= 0:
        return "it uses what later opsets added (padded lengths, windows)"
    packed = rank(q) == 3
    if rank(q) not in (3, 4):
        return "the rank of Q is unknown"
    q_heads = attrs.get("q_num_heads") if packed else fixed(q, 1)
    kv_heads = attrs.get("kv_num_heads") if packed else fixed(k, 1)
    wide, value_wide = fixed(q, -1), fixed(v, -1)
    if not q_heads or not kv_heads or wide is None or value_wide is None or q_heads % kv_heads:
        return "the number of heads or their size is not static"
    mask = optional(node, 3)
    if mask is not None and is_short(node, mask):
        return "the mask may be shorter than the keys, which the operator pads"
    head = wide // q_heads if packed else wide
    value_head = value_wide // kv_heads if packed else value_wide
    return Shape(q_heads, kv_heads, head, value_head, float(attrs.get("scale") or 1.0 / math.sqrt(head)), packed)


def is_short(node: gs.Node, mask: gs.Tensor) -> bool:
    """Whether the mask's last axis is known to differ from the number of keys (1 broadcasts in no version)."""
    keys, past = fixed(node.inputs[1], -2), optional(node, 4)
    before = 0 if past is None else fixed(past, -2)
    last = fixed(mask, -1)
    return keys is not None and before is not None and last is not None and last != keys + before


class Decomposition:
    """Writes one attention out before the node, then takes the node away."""

    def __init__(self, edit: Editor, node: gs.Node, shape: Shape) -> None:
        self.edit = edit
        self.node = node
        self.shape = shape
        self.write = Writer(edit, node, node.inputs[0])
        mask = optional(node, 3)
        self.mask = None if mask is None or is_float(mask) else mask
        """The mask, if it is one of truth values."""

    def run(self) -> None:
        shape, write = self.shape, self.write
        q = self.split(self.node.inputs[0], shape.q_heads, "q")
        k = self.with_past(self.split(self.node.inputs[1], shape.kv_heads, "k"), 4, 1, "k")
        v = self.with_past(self.split(self.node.inputs[2], shape.kv_heads, "v"), 5, 2, "v")
        visible = self.visible(q, k)
        k, v = self.repeated(k, shape.head, "k"), self.repeated(v, shape.value_head, "v")
        half = write.number(math.sqrt(shape.scale), "root_scale")
        turned = write.op("Transpose", [write.op("Mul", [k, half], "scale_k")], "k_turned", perm=[0, 1, 3, 2])
        scores = self.masked(self.capped(write.op("MatMul", [write.op("Mul", [q, half], "scale_q"), turned], "scores")), visible)
        weights = write.op("Softmax", [scores], "softmax", axis=-1)
        if visible is not None and self.mask is not None:
            # The operator gives zeros for a row that sees nothing; a softmax over equal fills would be uniform.
            weights = write.op("Where", [visible, weights, write.number(0.0, "nothing")], "weights")
        self.finish(weights, v)

    def split(self, tensor: gs.Tensor, heads: int, label: str) -> gs.Tensor:
        """(batch, length, heads · head) as (batch, heads, length, head)."""
        if not self.shape.packed:
            return tensor
        parts = self.write.op("Reshape", [tensor, self.write.integers([0, 0, heads, -1], f"{label}_heads")], f"{label}_split")
        return self.write.op("Transpose", [parts], f"{label}_by_head", perm=[0, 2, 1, 3])

    def with_past(self, tensor: gs.Tensor, port: int, output: int, label: str) -> gs.Tensor:
        """The cache in front; the present state is an output under its old name."""
        past = optional(self.node, port)
        joined = tensor if past is None else self.write.op("Concat", [past, tensor], f"{label}_present", axis=2)
        if len(self.node.outputs) > output and self.node.outputs[output].name:
            out = self.node.outputs[output]
            self.node.outputs[output] = gs.Variable.empty()
            self.edit.before(self.node, "Identity", f"{self.node.name}/{label}_out", [joined], [out])
        return joined

    def repeated(self, tensor: gs.Tensor, head: int, label: str) -> gs.Tensor:
        """Every key or value head once for each of its query heads, side by side."""
        groups = self.shape.q_heads // self.shape.kv_heads
        if groups == 1:
            return tensor
        write = self.write
        apart = write.op("Unsqueeze", [tensor, write.integers([2], f"{label}_axis")], f"{label}_apart")
        wide = write.op("Expand", [apart, write.integers([1, 1, groups, 1, 1], f"{label}_groups")], f"{label}_grouped")
        return write.op("Reshape", [wide, write.integers([0, self.shape.q_heads, -1, head], f"{label}_all")], f"{label}_repeated")

    def capped(self, scores: gs.Tensor) -> gs.Tensor:
        """Cap · tanh(scores / cap)."""
        cap = float(self.node.attrs.get("softcap", 0.0))
        if cap <= 0.0:
            return scores
        literal = self.write.number(cap, "cap")
        return self.write.op("Mul", [self.write.op("Tanh", [self.write.op("Div", [scores, literal], "uncap")], "tanh"), literal], "capped")

    def masked(self, scores: gs.Tensor, visible: gs.Tensor | None) -> gs.Tensor:
        """A float mask is added first, so that nothing is added to the fill, which may then be FP16's lowest."""
        mask = optional(self.node, 3)
        if mask is not None and self.mask is None:
            scores = self.write.op("Add", [scores, mask], "bias")
        return scores if visible is None else self.write.op("Where", [visible, scores, self.write.number(-LARGEST, "hidden")], "masked")

    def visible(self, q: gs.Tensor, k: gs.Tensor) -> gs.Tensor | None:
        """Which keys a query sees: the truth mask and the causal one; None for all."""
        causal = self.causal(q, k) if self.node.attrs.get("is_causal") else None
        if causal is None or self.mask is None:
            return self.mask if causal is None else causal
        return self.write.op("And", [self.mask, causal], "seen", BOOL)

    def causal(self, q: gs.Tensor, k: gs.Tensor) -> gs.Tensor:
        """Key j is visible to query i if j ≤ i + past, built from the shapes at run time."""
        past = optional(self.node, 4)
        rows, columns = self.length(q, "q_length"), self.length(k, "k_length")
        queries = self.counted(rows, "queries")
        if past is not None:
            queries = self.write.op("Add", [queries, self.length(past, "past_length")], "shifted", INT64)
        tall = self.write.op("Unsqueeze", [queries, self.write.integers([1], "tall")], "rows", INT64)
        return self.write.op("GreaterOrEqual", [tall, self.counted(columns, "keys")], "visible", BOOL)

    def length(self, tensor: gs.Tensor, label: str) -> gs.Tensor:
        """The sequence length of (batch, heads, length, head), a scalar."""
        shape = self.write.op("Shape", [tensor], f"{label}_shape", INT64, start=2, end=3)
        return self.write.op("Squeeze", [shape], label, INT64)

    def counted(self, length: gs.Tensor, label: str) -> gs.Tensor:
        """0 … length − 1."""
        zero, one = (self.edit.constant(f"{self.node.name}/{label}_{n}", np.asarray(n, np.int64)) for n in (0, 1))
        return self.write.op("Range", [zero, length, one], label, INT64)

    def finish(self, weights: gs.Tensor, v: gs.Tensor) -> None:
        """Weights times values, heads joined again if they came joined; the operator's first output keeps its name."""
        out = self.node.outputs[0]
        self.node.outputs.clear()
        operands = [weights, v]
        op = "MatMul"
        if self.shape.packed:
            turned = self.write.op("Transpose", [self.write.op("MatMul", operands, "context")], "context_turned", perm=[0, 2, 1, 3])
            op, operands = "Reshape", [turned, self.write.integers([0, 0, self.shape.q_heads * self.shape.value_head], "joined")]
        self.edit.before(self.node, op, f"{self.node.name}/out", operands, [out])
        self.edit.remove(self.node)
