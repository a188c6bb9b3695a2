"""Which axes of an output may hold mixed units, read off the graph."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.verdict import channels
from fp16fix.verdict.channels import Axis, Channels, channels_of
from tests.models import model


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("g (float[1,2,64] x) => (float[1,2,64] y) <float[1,2,1] k = {1, 40}> { y = Mul (x, k) }", (Axis(-2),)),
        ("g (float[1,2,64] x) => (float[1,2,64] y) <float[1,2,1] k = {1, 20}> { y = Mul (x, k) }", ()),
        ("g (float[1,2,64] x) => (float[1,2,64] y) <float[1,2,1] k = {1, 40}> { y = Add (x, k) }", ()),
        ("g (float[1,2,64] x) => (float[1,2,64] y) { y = Tanh (x) }", ()),
        ("g (float[1,2,2] x) => (float[1,2,2] y) <float[2,2] w = {1,2,3,4}> { y = MatMul (x, w) }", ()),
        ("g (float[1,2,2] x) => (float[1,2,2] y) <float[2,2] w = {1,99,1,99}> { m = MatMul (x, w)  y = Tanh (m) }", (Axis(-1),)),
        ("g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1,99,1,99}> { y = Gemm <transB = 1> (x, w) }", ()),
        ("g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1,1,99,99}> { y = Gemm <transB = 1> (x, w) }", (Axis(-1),)),
        ("g (float[1,9,4] a, float[1,9,2] b) => (float[1,9,6] y) { y = Concat <axis = 2> (a, b) }", (Axis(-1, (4, 2)),)),
        (
            "g (float[1,9,4] a, float[1,9,2] b) => (float[1,6,9] y) { c = Concat <axis = -1> (a, b)  y = Transpose <perm = [0, 2, 1]> (c) }",
            (Axis(-2, (4, 2)),),
        ),
        (
            "g (float[1,9,1] a, float[1,9,1] b) => (float[1,9,2] y) <float[2] k = {1, 99}> { c = Concat <axis = 2> (a, b)  y = Mul (c, k) }",
            (Axis(-1),),
        ),
        (
            "g (float[1,2,5,5] x) => (float[1,2,5,5] y) <float[2,2,1,1] w = {1, 1, 99, 99}> { c = Conv (x, w)  y = Relu (c) }",
            (Axis(-3),),
        ),
        (
            "g (float[1,2,5,5] x) => (float[1,5,5,2] y) <float[2,2,1,1] w = {1,1,99,99}> { c = Conv (x, w)  y = Transpose <perm = [0,2,3,1]> (c) }",
            (Axis(-1),),
        ),
        ("g (float[a,2] x, float[b,2] z) => (float[n,2] y) { y = Concat <axis = 0> (x, z) }", ()),
        ("g (float[4,2] x) => (float[8] y) <int64[1] s = {8}, float[2] k = {1, 99}> { m = Mul (x, k)  y = Reshape (m, s) }", ()),
    ],
)
def test_axes_along_which_the_graph_makes_entries_differ(text: str, axes: tuple[Axis, ...]) -> None:
    assert channels_of(model(text))["y"].axes == axes


@pytest.mark.parametrize(
    ("body", "probable"),
    [
        ("y = Softmax (x)", True),
        ("s = Sigmoid (x)  y = Transpose <perm = [1, 0]> (s)", True),
        ("s = Sigmoid (x)  t = Softmax (x)  y = Mul (s, t)", True),
        ("s = Sigmoid (x)  y = Mul (x, s)", False),
        ("s = Sigmoid (x)  y = Concat <axis = 0> (x, s)", True),
        ("e = Exp (x)  s = ReduceSum <keepdims = 1> (e)  y = Div (e, s)", True),
        ("e = Exp (x)  s = ReduceSum <keepdims = 1> (e)  t = Add (s, k)  y = Div (e, t)", True),
        ("e = Exp (x)  s = ReduceSum <keepdims = 1> (e)  y = Div (x, s)", False),
        ("l = LogSoftmax (x)  y = Exp (l)", True),
        ("y = LogSoftmax (x)", False),
        ("s = Softmax (x)  y = Add (s, x)", False),
        ("y = Tanh (x)", False),
    ],
)
def test_probabilities_are_what_softmax_or_sigmoid_give(body: str, probable: bool) -> None:
    assert channels_of(model(f"g (float[a,b] x) => (float[c,d] y) <float k = {{1e-9}}> {{ {body} }}"))["y"].probabilities is probable


def test_a_long_axis_is_not_looked_at() -> None:
    assert channels.sizes(np.ones((2, channels.LONGEST)), 1).size == channels.LONGEST
    assert channels.sizes(np.ones((2, channels.LONGEST + 1)), 1).size == 0


def test_sizes_are_those_of_rows() -> None:
    values = np.random.default_rng(0).standard_normal((3, 4, 5))
    np.testing.assert_allclose(channels.sizes(values, -2), np.sqrt(np.square(values).mean((0, 2))))


def test_a_long_chain_ends() -> None:
    chain = " ".join(f"t{n + 1} = Tanh (t{n})" for n in range(300))
    text = f"g (float[2,3] x) => (float[2,3] t300) <float[3] k = {{1, 2, 300}}> {{ t0 = Mul (x, k) {chain} }}"
    assert channels_of(model(text))["t300"] == Channels()
