"""Kinds of graphs that the tests of Polygraphy and onnx-graphsurgeon hold, built anew: ONNX Runtime runs them all."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.models import normal
from tests.odd.graphs import Odd, matrix, small, text


def twice_the_same_input() -> onnx.ModelProto:
    return text("g (float[4,32] x) => (float[4,32] y) { s = Add (x, x) y = Mul (s, s) }")


def repeated_value_info() -> onnx.ModelProto:
    model = text("g (float[4,32] x) => (float[4,32] y) { s = Neg (x) y = Tanh (s) }")
    for _ in range(2):
        model.graph.value_info.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, [4, 32]))
    return model


def repeated_names() -> onnx.ModelProto:
    """Two nodes of one name, and a body that calls its nodes and tensors as the graph around another body does."""
    branch = "r = Neg (x) y{0} = Exp (r)"
    model = text(
        f"""g (float[4,32] x) => (float[4,32] y) <bool c = {{1}}> {{
          z = If (c) <then_branch = t () => (float[4,32] yt) {{ {branch.format("t")} }}, else_branch = e () => (float[4,32] ye) {{ {branch.format("e")} }}>
          y = Tanh (z) }}"""
    )
    for node in model.graph.node:
        node.name = "same"
    return model


def sparse_weight() -> onnx.ModelProto:
    model = text("g (float[4,32] x) => (float[4,8] y) { y = MatMul (x, w) }")
    values, at = numpy_helper.from_array(normal(16), "w"), numpy_helper.from_array(np.arange(0, 256, 16), "at")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [32, 8]))
    return model


def nothing_expanded() -> onnx.ModelProto:
    """A tensor without elements beside one with."""
    return text(
        """g (float[4,32] x) => (float[4,32] y, float[0,32] none) <int64[2] to = {0, 32}> {
          e = Expand (row, to) none = Neg (e) y = Tanh (x) }""",
        row=normal(1, 32),
    )


def sizes_unsaid() -> onnx.ModelProto:
    """Dimensions with neither a number nor a name."""
    model = text("g (float[4,32] x) => (float[4,64] y) { m = MatMul (x, w) y = Relu (m) }", w=normal(32, 64))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
    return model


def in_bfloat16() -> onnx.ModelProto:
    """Weights of BF16; the product that its author keeps in FP32 stays so."""
    return text(
        """g (float[4,32] x) => (float[4,8] y) { a = Cast <to = 16> (x) b = Cast <to = 1> (a) v = Cast <to = 1> (w) y = MatMul (b, v) }""",
        w=normal(32, 8).astype(ml_dtypes.bfloat16),
    )


def blown_up() -> onnx.ModelProto:
    """A constant that folding makes large."""
    return text(
        "g (float[4,32] x) => (float[4,32] y) <int64[2] to = {4, 32}> { c = ConstantOfShape <value = float[1] {0.5}> (to) y = Mul (x, c) }"
    )


def no_nodes_that_compute() -> onnx.ModelProto:
    return text("g (float[4,32] x) => (float[4,32] y) { a = Identity (x) y = Identity (a) }")


def one_tensor_attends_to_itself() -> onnx.ModelProto:
    return text(
        """g (float[1,6,32] x) => (float[1,6,32] y) <float s = {0.2}> {
          t = Transpose <perm = [0, 2, 1]> (x) q = MatMul (x, t) m = Mul (q, s) p = Softmax <axis = -1> (m) y = MatMul (p, x) }"""
    )


def a_reshape_that_does_nothing() -> onnx.ModelProto:
    return text("g (float[4,32] x) => (float[4,32] y) { s = Shape (x) r = Reshape (x, s) y = Exp (r) }")


def how_many_are_found() -> onnx.ModelProto:
    """The number of rows is known at run time only."""
    return text(
        "g (float[4,32] x) => (float[N] y) { p = Greater (x, z) y = Compress (x, f) f = Reshape (p, m) }", z=np.float32(0), m=np.array([-1])
    )


def scanned() -> onnx.ModelProto:
    return text(
        """g (float[4,32] x) => (float[32] last, float[4,32] y) <float[32] start = {"""
        + ", ".join(["0"] * 32)
        + """}> {
          last, y = Scan <num_scan_inputs = 1, body = b (float[32] a, float[32] v) => (float[32] s, float[32] o) { s = Add (a, v) o = Identity (s) }> (start, x) }"""
    )


SUITES = (
    Odd("twice-the-same-input", twice_the_same_input, matrix),
    Odd("repeated-value-info", repeated_value_info, matrix),
    Odd("repeated-names", repeated_names, matrix),
    Odd("sparse-weight", sparse_weight, matrix),
    Odd("nothing-expanded", nothing_expanded, matrix),
    Odd("sizes-unsaid", sizes_unsaid, matrix),
    Odd("in-bfloat16", in_bfloat16, matrix, wide=1),
    Odd("blown-up", blown_up, matrix),
    Odd("no-nodes-that-compute", no_nodes_that_compute, matrix),
    Odd("one-tensor-attends-to-itself", one_tensor_attends_to_itself, small(1, 6, 32)),
    Odd("a-reshape-that-does-nothing", a_reshape_that_does_nothing, matrix),
    Odd("how-many-are-found", how_many_are_found, matrix),
    Odd("scanned", scanned, matrix),
)
