"""Where each kind begins: the value at the limit is a hazard, or not, and the next one is the other."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.ranges.measure import measure
from tests.models import model, normal


def found(text: str, **inputs: np.ndarray) -> list[Hazard]:
    fp32 = model(text)
    return list(diagnose(fp32, measure(fp32, [inputs])))


def below(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(0)))


@pytest.mark.parametrize(("largest", "expected"), [(65520.0, [Kind.OVERFLOW]), (below(65520.0), [])])
def test_overflow_begins_where_rounding_makes_infinity(largest: float, expected: list[Kind]) -> None:
    hazards = found("g (float[4] x) => (float[4] y) { y = Neg (x) }", x=np.array([1, 2, 3, largest], np.float32))
    assert [hazard.kind for hazard in hazards if hazard.tensor == "y"] == expected


@pytest.mark.parametrize(("smallest", "expected"), [(2.0**-25, [Kind.VANISH]), (2.0**-24, [])])
def test_a_logarithm_of_zero_begins_at_half_the_smallest(smallest: float, expected: list[Kind]) -> None:
    hazards = found("g (float[4] x) => (float[4] y) { y = Log (x) }", x=np.array([1, 2, 3, smallest], np.float32))
    assert [hazard.kind for hazard in hazards] == expected


@pytest.mark.parametrize(("eps", "says"), [("1e-8", "is zero in FP16"), ("1e-7", "is subnormal in FP16")])
def test_an_eps_is_zero_or_rounds(eps: str, says: str) -> None:
    text = f"g (float[4] x) => (float[4] y) <float e = {{{eps}}}> {{ q = Mul (x, x) s = Add (q, e) y = Sqrt (s) }}"
    (why,) = [hazard.why for hazard in found(text, x=np.array([0, 1, 2, 3], np.float32)) if hazard.tensor == "e"]
    assert says in why


@pytest.mark.parametrize(("most", "expected"), [(2048, []), (2050, [Kind.SWAMP])])
def test_counts_are_coarse_past_2048(most: int, expected: list[Kind]) -> None:
    whole = np.array([0, 1, 3, 7, 20, 100, 500, most // 2], np.float32)
    hazards = found("g (float[8] x) => (float[8] y) { y = Add (x, x) }", x=whole)
    assert [hazard.kind for hazard in hazards] == expected


def test_a_difference_is_judged_beside_its_largest_operand() -> None:
    """Of three, one is as small as the result."""
    text = "g (float[64] x) => (float[64] y) <float k = {4000}> { a = Add (x, k) n = Neg (a) y = Sum (a, n, x) }"
    assert [(hazard.node, hazard.kind) for hazard in found(text, x=normal(64))] == [("Sum_y", Kind.CANCEL)]
