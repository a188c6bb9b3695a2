from __future__ import annotations

import math

import numpy as np
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

from .case import Feeds
from .net import BOOL, FLOAT, HALF, INT64, Net
from .strict_check import half, overflowing, run, run_strict, sqnr_db, strict

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEADER} {text}")


def test_products_overflow_where_the_cpu_providers_own_fp16_does_not() -> None:
    body = "m = Mul (x, x) s = Constant <value_float: float = 0.001> () y = Mul (m, s)"
    feeds = [{"x": np.asarray([300.0], np.float32)}]
    assert run(parse(f"g (float[1] x) => (float[1] y) {{ {body} }}"), feeds)["y"] == pytest.approx(90.0)
    assert run_strict(parse(f"g (float[1] x) => (float[1] y) {{ {body} }}"), feeds)["y"] == math.inf


@pytest.mark.parametrize(
    ("value", "expected"),
    [(65519.0, 65504.0), (65520.0, math.inf), (2049.0, 2048.0), (2.0**-25, 0.0), (1.5 * 2.0**-24, 2.0**-23), (-1e-9, 0.0)],
)
def test_rounding_is_to_nearest_even_with_subnormals(value: float, expected: float) -> None:
    model = parse("g (float[1] x, float[1] z) => (float[1] y) { y = Add (x, z) }")
    feeds = {"x": np.asarray([0.0], np.float32), "z": np.asarray([value], np.float32)}
    assert run_strict(model, [feeds], wide_inputs=("z",))["y"] == expected
    assert half(feeds["z"])[0] == expected


def test_agrees_with_numpy_float16_on_exact_operators() -> None:
    text = "g ({0}[4,5] x, {0}[4,5] z) => ({0}[4,5] y) {{ a = Mul (x, z) b = Sub (a, x) c = Abs (b) d = Sqrt (c) y = Div (d, z) }}"
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal((4, 5)).astype(np.float16) for name in ("x", "z")}
    (found,) = ReferenceEvaluator(parse(text.format("float16"))).run(None, feeds)
    expected = np.asarray(found)
    assert expected.dtype == np.float16
    emulated = run_strict(parse(text.format("float")), [{name: array.astype(np.float32) for name, array in feeds.items()}])["y"]
    np.testing.assert_array_equal(emulated, expected.astype(np.float32).ravel())


def test_weights_and_bodies_are_rounded() -> None:
    net = Net("g")
    x, count = net.input("x", [1]), net.input("count", [], INT64)
    body = net.body("body")
    body.input("step", [], INT64)
    body.input("running", [], BOOL)
    state = body.input("state", [1])
    body.output("still", body.op("Identity", "running"), [], BOOL)
    body.output("next", body.op("Add", state, net.weight("one", np.asarray([1.0001]))), [1])
    net.output("y", net.op("Loop", count, np.asarray(True), x, body=body.graph()), [1])
    feeds: list[Feeds] = [{"x": np.asarray([2046.0], np.float32), "count": np.asarray(5, np.int64)}]
    assert run(net.model(), feeds)["y"] > 2051
    assert run_strict(net.model(), feeds)["y"] == 2048


def test_own_casts_do_not_escape() -> None:
    net = Net("g")
    narrow = net.op("Cast", net.input("x", [1]), to=HALF)
    square = net.op("Mul", narrow, narrow)
    net.output("y", net.op("Mul", net.op("Cast", square, to=FLOAT), 1e-3), [1])
    assert run_strict(net.model(), [{"x": np.asarray([300.0], np.float32)}])["y"] == math.inf
    assert {value.type.tensor_type.elem_type for value in strict(net.model()).graph.value_info} == {FLOAT}


def test_overflowing_names_the_tensors() -> None:
    model = parse("g (float[1] x) => (float[1] y) { a = Mul (x, x) b = Neg (a) y = Tanh (b) }")
    assert overflowing(model, [{"x": np.asarray([300.0], np.float32)}]) == ["a", "b"]


def test_sqnr() -> None:
    truth = np.asarray([1.0, -2.0, 2.0], np.float32)
    assert sqnr_db(truth, truth) == math.inf
    assert sqnr_db(truth, truth + np.asarray([0.0, 0.0, 0.03], np.float32)) == pytest.approx(10 * math.log10(9 / 0.0009), abs=1e-3)
    assert sqnr_db(truth, np.asarray([1.0, np.nan, 2.0], np.float32)) == -math.inf
