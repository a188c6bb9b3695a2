"""Which nodes are said to cost nothing in FP32: whole insides of kernels, and of two neighbours never both sides of a border."""

from __future__ import annotations

from fp16fix.graph.ops import is_float_node
from fp16fix.passes.place.interior import Group, interiors
from tests.passes.test_price import priced

SHAPES = dict.fromkeys(["x", *(f"t{n}" for n in range(16)), "y", "w"], (8, 8))


def free(text: str, *wide: str) -> tuple[Group, ...]:
    price = priced(text, **SHAPES)
    found = interiors(price, wide, [node.name for node in price.model.nodes() if is_float_node(node)])
    assert price.of([*wide, *(name for group in found for name in group)]) == price.of(wide)
    return found


NORM = """g (float[8,8] x) => (float[8,8] y) <float[8,8] w = {W}, float two = {2}> {
    [product] t0 = MatMul (x, w) [bias] t1 = Add (t0, two) [residual] t2 = Add (t1, x)
    [mean] t3 = ReduceMean <axes = [-1]> (t2) [centre] t4 = Sub (t2, t3) [square] t5 = Pow (t4, two)
    [variance] t6 = ReduceMean <axes = [-1]> (t5) [root] t7 = Sqrt (t6) [norm] t8 = Div (t4, t7)
    [second] y = MatMul (t8, w) }""".replace("W", ", ".join(["1"] * 64))


def test_of_two_kernels_that_share_a_border_the_larger() -> None:
    assert free(NORM) == (("mean", "centre", "square", "variance", "root", "norm"),)


def test_what_is_wide_already_keeps_its_neighbours_kernel_narrow() -> None:
    assert free(NORM, "residual") == ()
    assert free(NORM, "bias") == (("mean", "centre", "square", "variance", "root", "norm"),)


def test_movement_is_wide_only_between_what_computes() -> None:
    text = """g (float[8,8] x, int64[2] s) => (float[8,8] y) {
        [in] t0 = Transpose (x) [tanh] t1 = Tanh (t0) [turn] t2 = Transpose (t1) [exp] t3 = Exp (t2) [out] y = Reshape (t3, s) }"""
    assert free(text) == (("tanh", "turn", "exp"),)


def test_no_single_node_no_attention_no_positions_and_nothing_of_a_branch() -> None:
    assert free("g (float[8,8] x) => (float[8,8] y) { [tanh] y = Tanh (x) }") == ()
    attention = """g (float[8,8] x) => (float[8,8] y) {
        [scores] t0 = MatMul (x, x) [scale] t1 = Tanh (t0) [softmax] t2 = Softmax (t1) [values] y = MatMul (t2, x) }"""
    assert free(attention) == ()
    positions = """g (int64[8,8] x) => (float[8,8] y) { t0 = Cast <to = 1> (x) [sine] t1 = Sin (t0) [exp] y = Exp (t1) }"""
    assert free(positions) == ()
    branch = """g (bool c, float[8,8] x) => (float[8,8] y) {
        y = If (c) <then_branch = a () => (float[8,8] t1) { t0 = Tanh (x)  t1 = Exp (t0) },
                    else_branch = b () => (float[8,8] t2) { t2 = Tanh (x) }> }"""
    assert free(branch) == ()
