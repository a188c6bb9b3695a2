"""Arguments too coarse for what reads them, by their ranges: with figures where they are, silence where ordinary values come near."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.passes.place.pins import forced
from fp16fix.ranges.measure import measure
from fp16fix.trace.harmless import harmless
from tests.models import model, normal

Samples = list[dict[str, np.ndarray]]


def coarse(text: str, *samples: dict[str, np.ndarray], opset: int = 17) -> list[Hazard]:
    fp32 = model(text, opset)
    return [hazard for hazard in diagnose(fp32, measure(fp32, samples)) if hazard.kind is Kind.COARSE]


def softmax(op: str = "Softmax", axis: int = -1) -> str:
    return f"g (float[N,K] x) => (float[N,K] y) {{ y = {op} <axis = {axis}> (x) }}"


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_competing_logits_of_thousands_are_coarse(op: str) -> None:
    (found,) = coarse(softmax(op), {"x": normal(16, 100, scale=5000.0)})
    assert (found.op, found.tensor) == (op, "x")
    assert "FP16 steps there are 8" in found.why


def test_logits_past_64_are_coarse_where_all_rows_compete() -> None:
    text = softmax()
    near = normal(16, 100)
    assert [h.op for h in coarse(text, {"x": near + 100.0})] == ["Softmax"]
    assert coarse(text, {"x": near + 50.0}) == []


def test_ordinary_attention_is_free() -> None:
    assert coarse(softmax(), {"x": np.clip(normal(64, 64, scale=10.0), -30, 30)}) == []


def test_a_winner_that_stands_alone_is_free_however_large() -> None:
    logits = normal(32, 32)
    logits[np.arange(32), np.arange(32)] += 2e4
    assert coarse(softmax(), {"x": logits}) == []
    logits[:16, 0] = logits[:16].max(axis=1) + 40.0
    assert [h.op for h in coarse(softmax(), {"x": logits})] == ["Softmax"], "half of the rows have a runner-up within three steps"


def test_rows_run_along_the_axis_of_the_softmax() -> None:
    near = np.full((1, 64), 20000.0, np.float32)
    assert coarse(softmax(axis=0), {"x": near}) == [], "rows of one value have no runner-up"
    assert [h.op for h in coarse(softmax(axis=1), {"x": near})] == ["Softmax"]


@pytest.mark.parametrize("literal", [-1e4, -60000.0, -3e38])
def test_masks_do_not_make_logits_coarse(literal: float) -> None:
    logits = normal(16, 32, scale=3.0)
    logits[:, 20:] = literal
    logits[0] = literal + normal(32) if literal > -1e30 else literal
    assert coarse(softmax(), {"x": logits}) == []


def test_rows_that_are_all_far_below_zero_count() -> None:
    distances = -np.square(normal(16, 64)) * 20.0 - 3000.0
    assert [h.op for h in coarse(softmax(), {"x": distances.astype(np.float32)})] == ["Softmax"]


def test_logits_inside_a_loop_are_seen() -> None:
    text = """g (float[4,64] x) => (float[4,64] y) <int64 n = {2}, bool go = {1}> {
        y = Loop (n, go, x) <body = b (int64 i, bool c, float[4,64] s) => (bool d, float[4,64] t) { d = Identity (c) t = Softmax <axis = 1> (s) }>
    }"""
    assert [h.tensor for h in coarse(text, {"x": normal(4, 64) + 3000.0})] == ["s"]


def test_exponentials_from_16_on() -> None:
    text = "g (float[8] x) => (float[8] y) { y = Exp (x) }"
    assert [h.op for h in coarse(text, {"x": np.linspace(0, 17, 8, dtype=np.float32)})] == ["Exp"]
    assert coarse(text, {"x": np.linspace(-15, 15, 8, dtype=np.float32)}) == []


def test_an_exponential_whose_overflow_is_harmless_is_acquitted_with_it() -> None:
    text = """g (float[4,8] x) => (float[4,8] y) <float one = {1.0}> {
        e = Exp (x) p = Add (e, one) r = Reciprocal (p) y = Sub (one, r) }"""
    fp32, samples = model(text), [{"x": np.linspace(-100, 100, 32, dtype=np.float32).reshape(4, 8)}]
    found = [h for h in diagnose(fp32, measure(fp32, samples)) if h.op == "Exp" and h.kind in {Kind.COARSE, Kind.OVERFLOW}]
    assert {h.kind for h in found} == {Kind.COARSE, Kind.OVERFLOW}
    assert set(found) <= set(harmless(fp32, found, samples))
    alone = [h for h in found if h.kind is Kind.COARSE]
    assert harmless(fp32, alone, samples) == {}, "without that proof nothing acquits it"


@pytest.mark.parametrize("op", ["Sin", "Cos"])
def test_angles_past_8(op: str) -> None:
    text = f"g (float[8] x) => (float[8] y) {{ y = {op} (x) }}"
    (found,) = coarse(text, {"x": np.linspace(0, 1000, 8, dtype=np.float32)})
    assert "0.5 rad" in found.why
    assert coarse(text, {"x": np.linspace(-6.3, 6.3, 8, dtype=np.float32)}) == []


@pytest.mark.parametrize("op", ["Floor", "Ceil", "Round"])
def test_whole_numbers_read_off_values_past_16(op: str) -> None:
    text = f"g (float[8] x) => (float[8] y) {{ y = {op} (x) }}"
    (found,) = coarse(text, {"x": np.linspace(0.3, 40.0, 8, dtype=np.float32)})
    assert "FP16 steps there are 0.0312" in found.why
    assert coarse(text, {"x": np.linspace(0.3, 15.0, 8, dtype=np.float32)}) == []
    assert coarse(text, {"x": np.arange(8, dtype=np.float32) * 100}) == [], "whole numbers stay what they are"


def test_casts_to_integers_are_such_decisions_and_other_casts_are_none() -> None:
    x = np.linspace(0.3, 40.0, 8, dtype=np.float32)
    assert [h.op for h in coarse("g (float[8] x) => (int64[8] y) { y = Cast <to = 7> (x) }", {"x": x})] == ["Cast"]
    assert coarse("g (float[8] x) => (bool[8] y) { y = Cast <to = 9> (x) }", {"x": x}) == []


def test_a_length_read_off_whole_numbers_grows_past_what_fp16_counts() -> None:
    text = """g (float[K] x) => (int64[M] y) <int64 zero = {0}, int64 one = {1}> {
        s = ReduceSum <keepdims = 0> (x) n = Cast <to = 7> (s) y = Range (zero, n, one) }"""
    (found,) = coarse(text, {"x": np.full(40, 5.0, np.float32)})
    assert "200 here" in found.why
    assert coarse(text, {"x": np.full(4, 5.0, np.float32)}) == [], "16 times as long is within 2048"


DECISIONS = [
    "g (float[1,8] x) => (int64[1,1] y) { y = ArgMax <axis = 1> (x) }",
    "g (float[1,8] x) => (float[1,2] v, int64[1,2] i) <int64[1] k = {2}> { v, i = TopK <axis = 1> (x, k) }",
    "g (float[1,8] x, float[1,8] t) => (bool[1,8] y) { y = Greater (x, t) }",
]


@pytest.mark.parametrize("text", DECISIONS, ids=["ArgMax", "TopK", "Greater"])
def test_decisions_between_values_with_a_large_offset(text: str) -> None:
    other = {"t": np.zeros((1, 8), np.float32) + np.arange(8, dtype=np.float32)} if "t)" in text else {}
    spread = np.linspace(-1.0, 1.0, 8, dtype=np.float32)[None]
    (found,) = coarse(text, {"x": spread + 1000.3, **other})
    assert "FP16 has 4 steps there" in found.why
    assert coarse(text, {"x": spread * 1000, **other}) == []


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh"])
def test_what_saturates_is_coarse_only_where_large_values_cancel_before_it(op: str) -> None:
    alone = f"g (float[64] x) => (float[64] y) {{ y = {op} (x) }}"
    for scale in (1.0, 30.0, 3e4):
        assert coarse(alone, {"x": normal(64, scale=scale)}) == []
    text = f"g (float[64] a, float[64] b) => (float[64] y) {{ d = Sub (a, b) y = {op} (d) }}"
    a, b = normal(64, scale=1000.0), normal(64, scale=1000.0, seed=1)
    assert [h.op for h in coarse(text, {"a": a, "b": b})] == [op]
    assert coarse(text, {"a": a, "b": b / 1000}) == [], "where it is steep, both operands are small"
    assert coarse(text, {"a": a / 10, "b": b / 10}) == []
    assert coarse(text, {"a": a + 1e5 / 2, "b": b - 1e4}) == [], "all of it is saturated"


def spectrum(op: str = "ReduceMin", eps: float = 1e-12, square: bool = True) -> str:
    made = "p = Mul (x, x)" if square else "p = Abs (x)"
    return f"""g (float[1,4096] x) => (float[1,4096] y) <float e = {{{eps}}}, float k = {{4.3}}> {{
        {made}  q = Add (p, e)  [log] l = Log (q)  s = Mul (l, k)  [extreme] m = {op} <axes = [-1]> (s)  y = Sub (s, m) }}"""


@pytest.mark.parametrize("square", [True, False])
def test_the_least_of_logarithms_is_what_rounding_drowns(square: bool) -> None:
    (found,) = coarse(spectrum(square=square), {"x": normal(1, 4096)})
    assert (found.node, found.op, found.tensor) == ("log", "Log", "q")
    assert found.why.startswith("ReduceMin picks the least of logarithms, of ")


def test_no_other_extreme_of_logarithms_is() -> None:
    assert coarse(spectrum("ReduceMax"), {"x": normal(1, 4096)}) == []
    assert coarse(spectrum("ReduceMean"), {"x": normal(1, 4096)}) == []
    assert coarse(spectrum(eps=1e-3), {"x": normal(1, 4096)}) == [], "an eps that is more than the rounding"
    assert coarse(spectrum(square=False), {"x": normal(1, 4096, scale=0.1) + 1.0}) == []
    assert coarse("g (float[4,8] x) => (float[4,1] y) { a = Abs (x)  y = ReduceMin <axes = [-1]> (a) }", {"x": normal(4, 8)}) == []


def test_all_that_it_is_made_of_is_kept_wide() -> None:
    text = """g (float[1,64] x, float[64,64] u, float[64,4096] w) => (float[1,4096] y) { [first] b = MatMul (x, u)  [second] c = MatMul (b, w)  [square] p = Mul (c, c)
        [log] l = Log (p)  [least] m = ReduceMin <axes = [-1]> (l)  [out] y = Sub (l, m) }"""
    fp32, samples = model(text), [{"x": normal(1, 64), "u": normal(64, 64, seed=2), "w": normal(64, 4096, seed=1)}]
    ranges = measure(fp32, samples)
    found = forced(fp32, ranges, [hazard for hazard in diagnose(fp32, ranges) if hazard.kind is Kind.COARSE], frozenset())
    assert "log" in found.nodes
    assert {"b", "c", "p"} <= found.tensors
