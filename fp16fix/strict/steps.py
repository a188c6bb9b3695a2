"""Operators that TensorRT parses into several FP16 layers → those layers as ONNX nodes, so that emulation rounds as the engine does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph import quick
from fp16fix.graph.edit import Editor
from fp16fix.graph.model import Model, element_type, numpy_type
from fp16fix.graph.ops import DEFAULT_DOMAINS
from fp16fix.half import BF16, FP16
from fp16fix.strict.insides import INSIDES, How

FORMATS = {fmt.onnx: fmt for fmt in (FP16, BF16)}


def spread(model: Model, whole: Collection[str] = ()) -> None:
    """Replace, in place, every FP16 or BF16 node whose inside is ``How.STEPS`` by its steps, ``whole`` ones apart; outputs keep names."""
    edit, written = Editor(model), list[Expansion]()
    for node in list(model.nodes()):
        inside = INSIDES.get(node.op) if node.domain in DEFAULT_DOMAINS and node.op not in whole else None
        element = element_type(node.outputs[0]) if node.outputs else 0
        if inside is not None and element in FORMATS and inside.of(element) is How.STEPS:
            written.append(Expansion(edit, node, model.opset))
            WRITERS[node.op](written[-1])
    put(model, written)


def put(model: Model, written: Iterable[Expansion]) -> None:
    """The steps in the place of their nodes, in one sweep."""
    steps = {id(each.node): each.made for each in written if each.made}
    for graph in model.graphs() if steps else ():
        graph.nodes[:] = [placed for node in graph.nodes for placed in steps.get(id(node), (node,))]


class Expansion:
    """Makes the steps of one node; the ``last`` makes its output, and ``put`` puts them in its place."""

    def __init__(self, edit: Editor, node: gs.Node, opset: int) -> None:
        self.edit = edit
        self.node = node
        self.opset = opset
        self.element = element_type(node.outputs[0])
        self.x: gs.Tensor = node.inputs[0]
        self.made: list[gs.Node] = []

    def op(self, op: str, *inputs: gs.Tensor, element: int = 0, **attrs: Any) -> gs.Tensor:
        """A step and its result, stored in the node's format, or another ``element`` type."""
        out = self.edit.variable(f"{self.node.name}/{op}", element or self.element)
        self.make(op, inputs, out, attrs)
        return out

    def last(self, op: str, *inputs: gs.Tensor, **attrs: Any) -> None:
        """The step that makes the node's output."""
        out = self.node.outputs[0]
        self.node.outputs.clear()
        self.make(op, inputs, out, attrs)
        self.node.inputs.clear()

    def make(self, op: str, inputs: Iterable[gs.Tensor], out: gs.Tensor, attrs: dict[str, Any]) -> None:
        """One node more."""
        self.made.append(quick.node(op, self.edit.fresh(f"{self.node.name}/{op}"), attrs=attrs, inputs=list(inputs), outputs=[out]))

    def number(self, value: Any) -> gs.Constant:
        """A literal in the node's format."""
        return self.edit.constant(f"{self.node.name}/literal", np.asarray(value).astype(numpy_type(self.element)))

    def along(self, op: str, x: gs.Tensor) -> tuple[list[gs.Tensor], dict[str, Any]]:
        """Inputs and attributes of a reduction over this reduction's axes, which moved from attribute to input in opsets 13 and 18."""
        axes = self.node.attrs.get("axes")
        given = self.node.inputs[1:2]
        attrs = {key: value for key, value in self.node.attrs.items() if key == "noop_with_empty_axes"}
        if axes is None or self.opset < (13 if op == "ReduceSum" else 18):
            return [x, *given], attrs | ({} if axes is None else {"axes": axes})
        return [x, self.edit.constant(f"{self.node.name}/axes", np.asarray(axes, np.int64))], attrs


def log_softmax(step: Expansion) -> None:
    """SOFTMAX, LOG."""
    step.last("Log", step.op("Softmax", step.x, **step.node.attrs))


def sum_square(step: Expansion) -> None:
    """PROD, REDUCE SUM."""
    inputs, attrs = step.along("ReduceSum", step.op("Mul", step.x, step.x))
    step.last("ReduceSum", *inputs, **attrs, keepdims=step.node.attrs.get("keepdims", 1))


def length(step: Expansion) -> None:
    """PROD, REDUCE SUM, SQRT."""
    inputs, attrs = step.along("ReduceSum", step.op("Mul", step.x, step.x))
    step.last("Sqrt", step.op("ReduceSum", *inputs, **attrs, keepdims=step.node.attrs.get("keepdims", 1)))


def log_sum(step: Expansion) -> None:
    """REDUCE SUM, LOG."""
    inputs, attrs = step.along("ReduceSum", step.x)
    step.last("Log", step.op("ReduceSum", *inputs, **attrs, keepdims=step.node.attrs.get("keepdims", 1)))


def log_sum_exp(step: Expansion) -> None:
    """REDUCE MAX, ISINF and SELECT (a maximum of ±inf is held at ±largest, which gives the same), SUB, EXP, REDUCE SUM, LOG, SUM."""
    keepdims = step.node.attrs.get("keepdims", 1)
    largest = FORMATS[step.element].largest
    low, high = step.number(-largest), step.number(largest)

    def peak(keep: int) -> gs.Tensor:
        inputs, attrs = step.along("ReduceMax", step.x)
        return step.op("Max", step.op("Min", step.op("ReduceMax", *inputs, **attrs, keepdims=keep), high), low)

    shift = peak(1)
    inputs, attrs = step.along("ReduceSum", step.op("Exp", step.op("Sub", step.x, shift)))
    total = step.op("ReduceSum", *inputs, **attrs, keepdims=keepdims)
    step.last("Add", step.op("Log", total), shift if keepdims else peak(0))


def mish(step: Expansion) -> None:
    """SOFTPLUS, TANH, PROD."""
    step.last("Mul", step.x, step.op("Tanh", step.op("Softplus", step.x)))


def hard_swish(step: Expansion) -> None:
    """HARD_SIGMOID, PROD."""
    step.last("Mul", step.x, step.op("HardSigmoid", step.x, alpha=1.0 / 6.0, beta=0.5))


def swish(step: Expansion) -> None:
    """PROD with alpha, SIGMOID, PROD."""
    inner = step.op("Mul", step.x, step.number(step.node.attrs.get("alpha", 1.0)))
    step.last("Mul", step.x, step.op("Sigmoid", inner))


def gemm(step: Expansion) -> None:
    """MATRIX_MULTIPLY, PROD with alpha, PROD of C with beta, SUM: each only where there is something to do."""
    node, attrs = step.node, step.node.attrs
    alpha, beta = float(attrs.get("alpha", 1.0)), float(attrs.get("beta", 1.0))
    addend = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2].name else None
    if addend is None and alpha == 1.0:
        return
    operands = list(node.inputs[:2]) + ([step.number(0.0)] if step.opset < 11 else [])
    product = step.op("Gemm", *operands, **{key: attrs[key] for key in ("transA", "transB") if key in attrs})
    if addend is None:
        step.last("Mul", product, step.number(alpha))
        return
    if alpha != 1.0:
        product = step.op("Mul", product, step.number(alpha))
    step.last("Add", product, addend if beta == 1.0 else step.op("Mul", addend, step.number(beta)))


def added(step: Expansion, terms: list[gs.Tensor]) -> gs.Tensor:
    """Left to right."""
    total = terms[0]
    for term in terms[1:]:
        total = step.op("Add", total, term)
    return total


def sum_of(step: Expansion) -> None:
    """SUM, and again."""
    if len(step.node.inputs) > 2:
        step.last("Add", added(step, list(step.node.inputs[:-1])), step.node.inputs[-1])


def mean(step: Expansion) -> None:
    """SUM, and again, then PROD with 1/n."""
    terms = list(step.node.inputs)
    if len(terms) > 1:
        step.last("Mul", added(step, terms), step.number(1.0 / len(terms)))


def mod(step: Expansion) -> None:
    """DIV, FLOOR or CEIL by sign, PROD, SUB."""
    y = step.node.inputs[1]
    quotient = step.op("Div", step.x, y)
    whole = step.op("Mul", step.op("Sign", quotient), step.op("Floor", step.op("Abs", quotient)))
    step.last("Sub", step.x, step.op("Mul", whole, y))


def rms_norm(step: Expansion) -> None:
    """Everything up to x / rms(x) in FLOAT, a CAST, PROD with the scale; a scale computed at run time is left inside."""
    scale = step.node.inputs[1]
    if isinstance(scale, gs.Constant):
        ones = step.number(np.ones(scale.shape))
        step.last("Mul", step.op("RMSNormalization", step.x, ones, **step.node.attrs), scale)


WRITERS: dict[str, Callable[[Expansion], None]] = {
    "LogSoftmax": log_softmax,
    "ReduceSumSquare": sum_square,
    "ReduceL2": length,
    "ReduceLogSum": log_sum,
    "ReduceLogSumExp": log_sum_exp,
    "Mish": mish,
    "HardSwish": hard_swish,
    "Swish": swish,
    "Gemm": gemm,
    "Sum": sum_of,
    "Mean": mean,
    "Mod": mod,
    "RMSNormalization": rms_norm,
}
