from __future__ import annotations

import numpy as np
import pytest

from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.strict.emulate import emulate
from fp16fix.strict.jitter import SHARE, Jitter
from tests.models import model, normal

PRODUCT = "g (float[256,64] x) => (float[256,64] y) <float k = {1.5}> { y = Mul (x, k) }"


def run(text: str, x: np.ndarray, seed: int | None, opset: int = 17) -> np.ndarray:
    return shaken(lower(model(text, opset), {}), x, seed)


def shaken(typed: Model, x: np.ndarray, seed: int | None) -> np.ndarray:
    jitter = Jitter()
    session = Session(emulate(typed, jitter=None if seed is None else jitter))
    return np.asarray(session.run({"x": x, **({} if seed is None else jitter.feeds(seed))})["y"])


@pytest.mark.parametrize("opset", [8, 13, 23])
def test_errors_are_half_a_rounding_and_another_for_each_seed(opset: int) -> None:
    x = normal(256, 64)
    plain, one, again, other = (run(PRODUCT, x, seed, opset) for seed in (None, 1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert 0.15 < np.mean(one != plain) < 0.3, "such an error moves about one rounding in five"
    assert np.mean(one != other) > 0.15
    assert np.abs(one - plain).max() <= 2.0**-10 * np.abs(plain).max(), "never further than the neighbour"


def test_errors_add_as_much_as_half_of_the_unit_roundoff() -> None:
    """Relative errors uniform in ±2⁻¹² before a rounding to 11 bits make its RMS 1.21 times as large."""
    x = normal(256, 64).astype(np.float16).astype(np.float64)
    exact = x * float(np.float16(1.3))
    plain, one = (run(PRODUCT.replace("1.5", "1.3"), x.astype(np.float32), seed) / exact - 1.0 for seed in (None, 1))
    assert 1.17 < np.sqrt(np.mean(one**2) / np.mean(plain**2)) < 1.25


def test_errors_are_unbiased_and_bounded() -> None:
    """Values in the middle between two of FP16: which way they go is the error's sign."""
    fine = 1.0 + (np.arange(0, 16384, dtype=np.float32).reshape(256, 64) % 1024 + 0.5) * 2.0**-10
    up = run("g (float[256,64] x) => (float[256,64] y) { y = Relu (x) }", fine, 1)
    assert (up == run("g (float[256,64] x) => (float[256,64] y) { y = Relu (x) }", fine, 2)).all(), (
        "a choice among stored values has no kernel"
    )
    moved = run(PRODUCT, fine.astype(np.float16).astype(np.float32), 1) / (1.5 * fine.astype(np.float16).astype(np.float64)) - 1.0
    assert abs(moved.mean()) < 2.0**-15
    assert np.abs(moved).max() <= 2.0**-11 * (1.0 + SHARE)


EXACT = {
    "integers": np.arange(-128, 128),
    "ends": np.array([0.0, -0.0, np.inf, -np.inf]),
    "powers": 2.0 ** np.arange(-24, 15),
    "subnormals": np.arange(512) * 2.0**-24,
    "largest": np.arange(63488, 65505, 32) / 2,
}


@pytest.mark.parametrize("values", EXACT.values(), ids=EXACT)
def test_what_is_stored_exactly_is_left_alone(values: np.ndarray) -> None:
    x = np.resize(values.astype(np.float32), (256, 64))
    for text in (PRODUCT.replace("1.5", "1"), PRODUCT.replace("1.5", "-2") if np.isfinite(values).all() else PRODUCT.replace("1.5", "-1")):
        np.testing.assert_array_equal(run(text, x, 1), run(text, x, None))


def test_nan_stays_nan_and_what_overflows_still_does() -> None:
    x = np.resize(np.array([np.nan, 60000.0, -60000.0, 1.0], np.float32), (256, 64))
    found = run(PRODUCT, x, 3)
    assert np.isnan(found[:, 0::4]).all()
    assert (found[:, 1::4] == np.inf).all()
    assert (found[:, 2::4] == -np.inf).all()


def test_a_wide_node_has_no_error() -> None:
    typed = lower(
        model("g (float[256,64] x) => (float[256,64] y) <float k = {1.5}> { a = Mul (x, k) y = Tanh (a) }"),
        {"Mul_a": "fp32", "Tanh_y": "fp32"},
    )
    x = normal(256, 64)
    np.testing.assert_array_equal(shaken(typed, x, None), shaken(typed, x, 1))


def test_errors_reach_into_bodies() -> None:
    loop = """g (float[256,64] x) => (float[256,64] y) <int64 n = {2}, bool go = {1}, float k = {1.3}>
        { y = Loop (n, go, x) <body = b (int64 i, bool c, float[256,64] a) => (bool d, float[256,64] e) { d = Identity (c)  e = Mul (a, k) }> }"""
    x = normal(256, 64)
    plain, one, other = (run(loop, x, seed) for seed in (None, 1, 2))
    assert np.mean(one != plain) > 0.15
    assert np.mean(one != other) > 0.15


@pytest.mark.parametrize("opset", [8, 13, 23])
def test_many_errors_come_apart_by_splits_of_splits(opset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's time to open a graph grows with the square of what one Split makes."""
    steps = " ".join(f"a{n + 1} = Mul (a{n}, k)" for n in range(11))
    text = f"g (float[16,64] a0) => (float[16,64] y) <float k = {{1.1}}> {{ {steps} y = Mul (a11, k) }}"

    def once(widest: int) -> tuple[np.ndarray, int]:
        monkeypatch.setattr("fp16fix.strict.jitter.WIDEST", widest)
        jitter = Jitter()
        graph = emulate(lower(model(text, opset), {}), jitter=jitter)
        widths = [len(node.outputs) for node in graph.graph.nodes if node.op == "Split"]
        assert max(widths) <= widest
        return np.asarray(Session(graph).run({"a0": normal(16, 64), **jitter.feeds(1)})["y"]), len(widths)

    (plain, one), (apart, many) = once(256), once(2)
    np.testing.assert_array_equal(plain, apart)
    assert (one, many) == (1, 12 + 6 + 3 + 2 + 1)


def test_all_errors_come_in_by_one_input() -> None:
    """ONNX Runtime's time to bind inputs grows with their square: a pass of 4,000 nodes took fifteen times as long by an input each."""
    jitter = Jitter()
    graph = emulate(lower(model("g (float[4] x, float s) => (float[4] y) { a = Exp (x) b = Exp (s) y = Mul (a, b) }"), {}), jitter=jitter)
    assert [tensor.name for tensor in graph.graph.inputs] == ["x", "s", "jitter"]
    assert jitter.feeds(1)["jitter"].shape == (6,)
    sample = {"x": normal(4), "s": np.asarray(0.5, np.float32)}
    assert Session(graph).run(sample | jitter.feeds(1))["y"].shape == (4,)
