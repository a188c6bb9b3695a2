"""Kinds of graphs that the tests of NVIDIA ModelOpt's AutoCast hold, built anew: ONNX Runtime runs them all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.models import normal
from tests.odd.graphs import Odd, Sample, condition, matrix, small, text


def three_readers(bias: np.ndarray) -> onnx.ModelProto:
    """One input for two products, one bias for three sums, each sum an output."""
    return text(
        """g (float[4,32] x) => (float[4,8] y, float[4,8] z, float[4,8] u) {
          p = MatMul (x, w) q = MatMul (x, v) y = Add (p, b) z = Add (q, b) u = Add (p, b) }""",
        opset=20,
        w=normal(32, 8),
        v=normal(32, 8, seed=1),
        b=bias,
    )


def sizes_computed() -> onnx.ModelProto:
    """Free dimensions without names, and a shape made of how many elements there are."""
    model = text(
        """g (float[n,4] x, float[8,m] z) => (float[8,4] y) <int64[1] four = {4}> {
          p = MatMul (x, w) t = Transpose <perm = [1, 0]> (z) c = Concat <axis = 0> (p, t) s = Size (c) d = Div (s, four)
          to = Concat <axis = 0> (d, four) y = Reshape (c, to) }""",
        opset=20,
        w=normal(4, 8),
    )
    for value, axis in zip(model.graph.input, (0, 1), strict=True):
        value.type.tensor_type.shape.dim[axis].Clear()
    return model


def two_by_two(seed: int) -> Sample:
    return {"x": normal(2, 4, seed=seed), "z": normal(8, 2, seed=seed + 99)}


def outputs_that_are_read() -> onnx.ModelProto:
    """A result that is both an output and an operand, of a product and of a quotient."""
    return text(
        "g (float[4,32] x) => (float[4,32] a, float[4,32] y, float[4,32] z) { s = Abs (x) a = Add (s, w) y = Mul (x, a) z = Div (x, a) }",
        opset=20,
        w=np.abs(normal(4, 32)) + np.float32(1),
    )


def casts_in_a_row() -> onnx.ModelProto:
    """Casts that do nothing, on both sides of what is already mixed."""
    return text(
        """g (float[4,32] x) => (float16[4,32] y) {
          a = Cast <to = 1> (x) b = Cast <to = 1> (a) c = Cast <to = 1> (b) s = Add (c, w)
          d = Cast <to = 10> (s) e = Cast <to = 10> (d) y = Cast <to = 10> (e) }""",
        opset=20,
        w=normal(4, 32),
    )


def half_already() -> onnx.ModelProto:
    return text("g (float16[4,32] x) => (float16[4,32] y) { y = Add (x, x) }", opset=20)


def in_half(seed: int) -> Sample:
    return {"x": normal(4, 32, seed=seed).astype(np.float16)}


def output_in_two_types() -> onnx.ModelProto:
    return text(
        "g (float[4,32] x) => (float[4,32] y, float16[4,32] z) { y = Add (x, w) z = Cast <to = 10> (y) }", opset=20, w=normal(4, 32)
    )


def input_that_is_an_output() -> onnx.ModelProto:
    return text(
        "g (float[4,32] x) => (float[4,32] z, float[4,32] y) { z = Cast <to = 1> (x) a = Add (x, w) y = Add (a, w) }", w=normal(4, 32)
    )


def nothing_joined() -> onnx.ModelProto:
    """A Constant without elements."""
    model = text("g (float[4] x) => (float[4] y) { c = Concat <axis = 0> (x, none) y = Relu (c) }", opset=20)
    none = helper.make_tensor("none", TensorProto.FLOAT, [0], [])
    model.graph.node.insert(0, helper.make_node("Constant", [], ["none"], value=none))
    return model


def nothing_given() -> onnx.ModelProto:
    """An input without elements."""
    return text("g (float[2,1] x, float[2,0] none) => (float[2,1] y) { c = Concat <axis = 1> (x, none) y = Relu (c) }", opset=20)


def with_nothing(seed: int) -> Sample:
    return {"x": normal(2, 1, seed=seed), "none": np.zeros((2, 0), np.float32)}


def joined_twice() -> onnx.ModelProto:
    """What is joined leaves through a Cast that does nothing, and is joined again."""
    return text(
        """g (float[1,2,8,8] x, float[1,4,8,8] z) => (float[1,3,8,8] u, float[1,7,8,8] y) <float[1,1,1,1] k = {0.5}> {
          r = ReduceMax <axes = [1]> (x) c = Concat <axis = 1> (x, r) u = Cast <to = 1> (c) y = Concat <axis = 1> (c, z) }""",
        opset=17,
    )


def maps(seed: int) -> Sample:
    return {"x": normal(1, 2, 8, 8, seed=seed), "z": normal(1, 4, 8, 8, seed=seed + 99)}


def scaled(body: str) -> onnx.ModelProto:
    """Nearest pixels, no region; the scales from a constant or from an input."""
    return text(
        f"""g (float[1,3,8,8] x{", float[4] s" if "Add (s" in body else ""}) => (float[1,3,N,M] y) {{
          a = Conv <pads = [1, 1, 1, 1]> (x, w) {body} y = Relu (r) }}""",
        opset=20,
        w=normal(3, 3, 3, 3, scale=0.3),
        none=np.zeros(0, np.float32),
        twice=np.array([1, 1, 2, 2], np.float32),
        more=np.array([0, 0, 1, 1], np.float32),
    )


def and_scales(seed: int) -> Sample:
    return {"x": normal(1, 3, 8, 8, seed=seed), "s": np.ones(4, np.float32)}


def wide_operators() -> onnx.ModelProto:
    """Operators that FP16 does not have in ONNX or in an engine: suppression of boxes, and a Celu beside it."""
    return text(
        """g (float[1,6,4] b, float[1,2,6] s) => (int64[K,3] found, float[1,2,6] y) <int64 most = {4}, float over = {0.5}, float least = {0}> {
          found = NonMaxSuppression (b, s, most, over, least) y = Celu (s) }""",
        opset=17,
    )


def boxes(seed: int) -> Sample:
    at, size = np.random.default_rng(seed).uniform(0, 8, (1, 6, 2)), 2.0
    return {"b": np.concatenate([at, at + size], axis=2).astype(np.float32), "s": normal(1, 2, 6, seed=seed)}


def branch_weights() -> onnx.ModelProto:
    """Branches of weights alone, and a sum behind them."""
    return text(
        """g (float[4,8] x, bool c) => (float[4,8] z, float[4,8] y) {
          z = Add (x, e)
          u = If (c) <then_branch = t () => (float[4,8] r) <float[4,8] w = {W}> { r = Add (w, e) },
                      else_branch = f () => (float[4,8] s) <float[4,8] v = {V}> { s = Mul (v, e) }>
          y = Add (u, z) }""".replace("W", ", ".join(map(str, range(32)))).replace("V", ", ".join(["0.5"] * 32)),
        opset=20,
        e=normal(4, 8),
    )  # fmt: skip


def branch_says_what_is_outside() -> onnx.ModelProto:
    """Bodies that only hand on a tensor of the graph around them, and say its type again."""
    model = text(
        """g (float[4,8] x, bool c) => (float[4,8] y) {
          y = If (c) <then_branch = t () => (float[4,8] r) { r = Identity (x) }, else_branch = f () => (float[4,8] s) { s = Neg (x) }> }""",
        opset=20,
    )
    for attribute in model.graph.node[0].attribute:
        attribute.g.value_info.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 8]))
    return model


def norm(axis: int, power: float, tail: str = "y = Identity (d)") -> onnx.ModelProto:
    """A LayerNorm written out, over another axis, without scale, or with a power that makes it none."""
    return text(
        f"""g (float[2,3,4,16] x) => (float[2,3,4,16] y) <float eps = {{0.00001}}> {{
          m = ReduceMean <axes = [{axis}]> (x) c = Sub (x, m) a = Abs (c) p = Pow (a, k) v = ReduceMean <axes = [{axis}]> (p) e = Add (v, eps)
          s = Sqrt (e) d = Div (c, s) {tail} }}""",
        opset=13,
        k=np.float32(power),
        g=normal(16) + np.float32(2),
    )


def in_doubles() -> onnx.ModelProto:
    """A double input, double constants, and limits that FP32 does not have."""
    return text(
        """g (double[4,32] x) => (double[4,32] y) <int64[2] to = {4, 32}> {
          c = ConstantOfShape <value = double[1] {2.5}> (to) a = Add (x, w) b = Mul (a, c) d = Clip (b, low, high) y = Add (d, w) }""",
        opset=17,
        w=normal(4, 32).astype(np.float64),
        low=np.float64(-1.7e308),
        high=np.float64(1.7e308),
    )


def doubles(seed: int) -> Sample:
    return {"x": normal(4, 32, seed=seed).astype(np.float64)}


def asks_for_infinities(opset: int) -> onnx.ModelProto:
    """IsInf behind a Conv: FP16 from opset 20 on."""
    return text(
        """g (float[1,3,8,8] x) => (float[1,4,8,8] y, bool[1,4,8,8] lost) { y = Conv <pads = [1, 1, 1, 1]> (x, w) lost = IsInf (y) }""",
        opset=opset,
        w=normal(4, 3, 3, 3),
    )


IMAGE: Callable[[int], Sample] = small(1, 3, 8, 8)
AUTOCAST = (
    Odd("three-readers", lambda: three_readers(normal(1, 8)), matrix),
    Odd("three-readers-past-fp16", lambda: three_readers(np.array([-7e4, 7e4] * 4, np.float32)), matrix, wide=3),
    Odd("sizes-computed", sizes_computed, two_by_two),
    Odd("outputs-that-are-read", outputs_that_are_read, matrix),
    Odd("casts-in-a-row", casts_in_a_row, matrix, wide=1),
    Odd("half-already", half_already, in_half),
    Odd("output-in-two-types", output_in_two_types, matrix, wide=1),
    Odd("input-that-is-an-output", input_that_is_an_output, matrix),
    Odd("nothing-joined", nothing_joined, small(4)),
    Odd("nothing-given", nothing_given, with_nothing),
    Odd("joined-twice", joined_twice, maps),
    Odd("resized", lambda: scaled("r = Resize <mode = 'nearest'> (a, none, twice)".replace("'", '"')), IMAGE),
    Odd(
        "resized-by-an-input",
        lambda: scaled("t = Add (s, more) r = Resize <mode = 'nearest'> (a, none, t)".replace("'", '"')),
        and_scales,
        wide=1,
    ),
    Odd("wide-operators", wide_operators, boxes, wide=2),
    Odd("branch-weights", branch_weights, condition((4, 8), 1.0)),
    Odd("branch-says-what-is-outside", branch_says_what_is_outside, condition((4, 8), 1.0)),
    Odd("norm-over-another-axis", lambda: norm(-2, 2.0), small(2, 3, 4, 16)),
    Odd("norm-with-scale-alone", lambda: norm(-1, 2.0, "y = Mul (d, g)"), small(2, 3, 4, 16)),
    Odd("no-norm", lambda: norm(-1, 3.0), small(2, 3, 4, 16)),
    Odd("in-doubles", in_doubles, doubles),
    Odd("infinities-asked-for", lambda: asks_for_infinities(13), IMAGE, wide=1),
    Odd("infinities-asked-for-in-fp16", lambda: asks_for_infinities(20), IMAGE),
)
