"""Sums that Loop and Scan carry, and whole numbers that are taken for positions though they are none."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.ranges.measure import measure
from tests.models import model, normal


def swamped(text: str, opset: int = 17, **inputs: np.ndarray) -> list[Hazard]:
    fp32 = model(text, opset)
    return [hazard for hazard in diagnose(fp32, measure(fp32, [inputs])) if hazard.kind is Kind.SWAMP]


def loop(step: str, count: str = "sh = Shape (x) n = Gather (sh, zero)", literal: str = "") -> str:
    return f"""g (float[T,4] x) => (float[4] y) <bool go = {{1}}, float[4] s0 = {{0,0,0,0}}, float k = {{0.5}}, int64 zero = {{0}} {literal}> {{
        {count} y = Loop (n, go, s0) <body = b (int64 i, bool c, float[4] s) => (bool co, float[4] so) {{ co = Identity (c) r = Gather (x, i) {step} }}> }}"""


@pytest.mark.parametrize(
    "step",
    ["so = Add (s, r)", "so = Sub (s, r)", "a = Add (r, s) so = Identity (a)", "t = Tanh (s) u = Add (t, r) so = Add (s, u)"],
)
def test_a_state_that_is_added_to_grows_with_the_length(step: str) -> None:
    found = swamped(loop(step), x=normal(20, 4))
    assert len(found) == 1
    assert "a state of Loop" in found[0].why
    assert "grows with the length" in found[0].why


def test_sums_of_sums_are_looked_at_once_each() -> None:
    """Sixty doublings: as many additions as there are ways through them by a factor of 2⁶⁰."""
    chain = " ".join(f"a{n + 1} = Add (a{n}, a{n})" for n in range(60))
    assert len(swamped(loop(f"a0 = Add (s, r) {chain} so = Identity (a60)"), x=normal(2, 4))) == 61


@pytest.mark.parametrize("step", ["d = Mul (s, k) so = Add (d, r)", "so = Tanh (r)", "a = Add (r, r) so = Identity (a)"])
def test_a_decay_bounds_it_and_a_state_that_is_replaced_is_no_sum(step: str) -> None:
    assert swamped(loop(step), x=normal(20, 4)) == []


def test_a_loop_over_layers_is_as_long_for_every_input() -> None:
    assert swamped(loop("so = Add (s, r)", count="", literal=", int64 n = {3}"), x=normal(20, 4)) == []


@pytest.mark.parametrize(("length", "hazards"), [("T", 1), ("20", 0)])
def test_scans_too_where_their_length_is_open(length: str, hazards: int) -> None:
    text = f"""g (float[{length},4] x) => (float[4] y, float[{length},4] z) <float[4] s0 = {{0,0,0,0}}> {{
        y, z = Scan <num_scan_inputs = 1, body = b (float[4] s, float[4] r) => (float[4] so, float[4] o) {{ so = Add (s, r) o = Neg (so) }}> (s0, x) }}"""
    assert len(swamped(text, x=normal(20, 4))) == hazards


def test_small_whole_numbers_from_which_nothing_is_computed_are_exact() -> None:
    text = """g (float[K] x) => (float[K] y) <int64 zero = {0}, int64 one = {1}> {
        s = Size (x) r = Range (zero, s, one) p = Cast <to = 1> (r) y = Add (x, p) }"""
    assert swamped(text, x=normal(128)) == []
    assert [h.op for h in swamped(text, x=normal(200))] == ["Cast"], "16 times as long, FP16 counts them no more"
    angle = text.replace("y = Add (x, p)", "a = Mul (p, f) y = Add (x, a)").replace("<int64", "<float f = {0.01}, int64")
    assert [h.op for h in swamped(angle, x=normal(64))] == ["Cast", "Mul"], "a position is computed from them"


def test_the_root_of_a_size_is_a_scale_and_no_position() -> None:
    text = """g (float[2,H] x) => (float[2,H] y) <int64 one = {1}> {
        s = Shape (x) h = Gather (s, one) f = Cast <to = 1> (h) r = Sqrt (f) y = Div (x, r) }"""
    assert swamped(text, x=normal(2, 64)) == []
    given = "g (float[2,64] x, int64 h) => (float[2,64] y) { f = Cast <to = 1> (h) r = Sqrt (f) y = Div (x, r) }"
    assert {h.op for h in swamped(given, x=normal(2, 64), h=np.array(64))} == {"Cast", "Sqrt"}, "an input may be a time step"


def test_an_accumulator_of_whole_numbers_is_no_position() -> None:
    text = """g (uint8[2,64] x, uint8[64,4] w) => (float[2,4] y) <float k = {0.001}> {
        a = MatMulInteger (x, w) f = Cast <to = 1> (a) y = Mul (f, k) }"""
    rng = np.random.default_rng(0)
    x, w = (rng.integers(0, 3, shape).astype(np.uint8) for shape in ((2, 64), (64, 4)))
    assert swamped(text, x=x, w=w) == []
