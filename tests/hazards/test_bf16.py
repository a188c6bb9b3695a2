"""Hazards follow the narrow type: what counts and cancels is found earlier in BF16, what overflows or vanishes in FP16 alone is not there."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.half import BF16, FP16, Format
from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules import mends_rounding, rules
from fp16fix.ranges.measure import measure
from fp16fix.trace.harmless import harmless
from tests.models import model, normal


def found(text: str, narrow: Format, **inputs: np.ndarray) -> list[Hazard]:
    fp32 = model(text)
    fp32.narrow = narrow
    return list(diagnose(fp32, measure(fp32, [inputs])))


def kinds(text: str, narrow: Format, **inputs: np.ndarray) -> set[Kind]:
    return {hazard.kind for hazard in found(text, narrow, **inputs)}


NORM = "g (float[4,16] x) => (float[4,1] y) <float two = {2.0}> { p = Pow (x, two) m = ReduceMean <axes = [1]> (p) y = Sqrt (m) }"
SUM = "g (float[4,16] x, float[4,16] z) => (float[4,16] y) { y = Add (x, z) }"
DIFFERENCE = "g (float[4,16] x, float[4,16] z) => (float[4,16] y) { y = Sub (x, z) }"


def test_what_overflows_or_vanishes_in_fp16_alone_is_no_hazard() -> None:
    for scale in (1e6, 1e12):
        assert Kind.OVERFLOW in kinds(NORM, FP16, x=normal(4, 16, scale=scale))
        assert kinds(NORM, BF16, x=normal(4, 16, scale=scale)) == set()
    tiny = "g (float[4,16] x) => (float[4,16] y) { r = Relu (x) y = Reciprocal (r) }"
    quiet = np.abs(normal(4, 16, scale=1e-12)) + 1e-13
    assert Kind.VANISH in kinds(tiny, FP16, x=quiet.astype(np.float32))
    assert kinds(tiny, BF16, x=quiet.astype(np.float32)) == set()
    eps = "g (float[4,16] x, float[4,16] z) => (float[4,16] y) <float e = {1e-12}> { s = Mul (x, x) a = Add (s, e) y = Div (z, a) }"
    assert Kind.VANISH in kinds(eps, FP16, x=normal(4, 16), z=normal(4, 16))
    assert kinds(eps, BF16, x=normal(4, 16), z=normal(4, 16)) == set()


def test_weights_are_held_to_the_narrow_type() -> None:
    text = "g (float[4,3] x) => (float[4,3] y) <float[3] w = {{{w}}}> {{ y = Mul (x, w) }}"
    for values in ("1e-9, 2e-9, 3e-9", "70000, 1, 2"):
        assert Kind.CONSTANT in kinds(text.format(w=values), FP16, x=normal(4, 3))
        assert kinds(text.format(w=values), BF16, x=normal(4, 3)) == set()


def test_values_past_what_fp32_can_square_are_not_taken_for_lost() -> None:
    assert kinds("g (float[4,16] x) => (float[4,16] y) { y = Neg (x) }", BF16, x=normal(4, 16, scale=1e30)) == set()


def test_whole_numbers_past_256_are_swamped_and_up_to_there_they_are_not() -> None:
    whole = "g (float[4,64] x) => (float[4,64] y) <float k = {1.0}> { y = Mul (x, k) }"
    x = np.random.default_rng(0).integers(0, 300, (4, 64)).astype(np.float32)
    (hazard,) = found(whole, BF16, x=x)
    assert (hazard.kind, hazard.op) == (Kind.SWAMP, "Mul")
    assert "BF16 counts exactly only to 256" in hazard.why
    assert found(whole, FP16, x=x) == []
    assert found(whole, BF16, x=x % 200) == []
    assert kinds(whole, BF16, x=normal(4, 64, scale=1e10)) == set(), "past 2^24 FP32 has whole numbers only"


def test_positions_are_held_to_an_eighth_of_fp16s_length() -> None:
    text = "g (int64[1,40] i) => (float[1,40] y) <float k = {1.0}> { c = Cast <to = 1> (i) y = Identity (c) }"
    steps = np.arange(40, dtype=np.int64)[None]
    assert {hazard.kind for hazard in found(text, BF16, i=steps)} == {Kind.SWAMP}, "sixteen times as long they pass 256"
    assert found(text, FP16, i=steps) == []


def test_cancellation_and_swallowing_follow_the_digits() -> None:
    x = normal(4, 16, scale=100.0)
    near = (x + normal(4, 16, scale=0.3, seed=1)).astype(np.float32)
    (hazard,) = found(DIFFERENCE, BF16, x=x, z=near)
    assert hazard.kind is Kind.CANCEL
    assert "dB survive BF16" in hazard.why
    far = (x + normal(4, 16, scale=30.0, seed=1)).astype(np.float32)
    assert found(DIFFERENCE, BF16, x=x, z=far) == found(DIFFERENCE, FP16, x=x, z=far) == []
    small = normal(4, 16, scale=0.1, seed=2)
    (hazard,) = found(SUM, BF16, x=x, z=small)
    assert hazard.kind is Kind.SWALLOW
    assert "BF16 steps there are" in hazard.why
    assert found(SUM, FP16, x=x, z=small) == [], "ten octaves below: FP16 has eleven digits"


def test_sums_inside_of_operators_are_nobodys_hazard() -> None:
    text = "g (float[2,5000] x) => (float[2,1] y) { y = ReduceMean <axes = [1]> (x) }"
    x = np.abs(normal(2, 5000, scale=100.0))
    assert {hazard.internal for hazard in found(text, FP16, x=x)} == {True}
    assert found(text, BF16, x=x) == [], "TensorRT adds BF16 in FP32"


@pytest.mark.parametrize(("logit", "coarse"), [(10.0, False), (40.0, True)])
def test_a_bare_exponential_is_coarse_from_where_its_error_passes_what_is_asked(logit: float, coarse: bool) -> None:
    text = "g (float[4,16] x) => (float[4,16] y) { e = Exp (x) l = Log (e) y = Tanh (l) }"
    x = np.linspace(1.0, logit, 64, dtype=np.float32).reshape(4, 16)
    hazards = found(text, BF16, x=x)
    assert [hazard.kind for hazard in hazards] == [Kind.COARSE] * coarse
    if coarse:
        fp32 = model(text)
        fp32.narrow = BF16
        assert set(harmless(fp32, hazards, [{"x": x}])) == set(hazards), "tanh has settled: a run acquits it, as no overflow would"


def test_fp32s_lowest_number_is_infinite_and_the_mask_rule_answers_it() -> None:
    text = """g (float[2,4,6] x) => (float[2,4,6] y)
        <float low = {-3.4028235e38}, float zero = {0}, float[2,1,6] m = {1,1,1,1,0,0, 0,0,0,0,0,0}>
        { b = Cast <to = 9> (m) w = Where (b, zero, low) s = Add (x, w) y = Softmax <axis = -1> (s) }"""
    fp32 = model(text)
    fp32.narrow = BF16
    ranges = measure(fp32, [{"x": normal(2, 4, 6)}])
    hazards = diagnose(fp32, ranges)
    assert any(hazard.kind is Kind.CONSTANT and "BF16 ends at 3.38953e+38" in hazard.why for hazard in hazards)
    (mask,) = [each for each in rules() if each.name == "mask-literal"]
    edits = list(mask.propose(Findings(fp32, ranges, hazards)))
    assert {"bound", "floor"} <= {key for edit in edits for key, _ in edit.values}  # type: ignore[union-attr]
    billion = model(text.replace("-3.4028235e38", "-1e9"))
    billion.narrow = BF16
    assert list(mask.propose(Findings(billion, measure(billion, [{"x": normal(2, 4, 6)}]), ()))) == [], "BF16 holds -1e9"


def test_rules_that_mend_a_range_are_told_from_those_that_mend_rounding() -> None:
    serving = {each.name for each in rules() if mends_rounding(each)}
    assert {"layernorm", "softmax", "mask-literal"} <= serving
    assert not serving & {"mean-of-squares", "split-literal", "raise-eps", "fold-scale", "attention-scale", "pre-divide"}
