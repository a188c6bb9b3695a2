"""A changed graph is the original's function or it is not, by one sample, and the sentence says where."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.passes.sound import Soundness, closeness, difference
from tests.models import model, normal

TEXT = "g (float[4,8] x) => (float[4,8] y) {{ {0} }}"


def fault(changed: str, count: int = 1) -> str:
    sound = Soundness(model(TEXT.format("y = Exp (x)")), [{"x": normal(4, 8, seed=seed)} for seed in range(3)], 1)
    sound.count = count
    return sound.fault(model(TEXT.format(changed).replace("[4,8] y", "[N,M] y")))


def test_the_same_function_in_other_words_is_sound() -> None:
    assert fault("n = Neg (x) e = Exp (n) y = Reciprocal (e)") == ""
    assert fault("n = Neg (x) e = Exp (n) y = Reciprocal (e)", count=3) == ""


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("e = Exp (x) y = Add (e, e)", "'y' changes with it in FP32: 0.0 dB"),
        ("y = Log (x)", "'y' changes with it in FP32: -inf dB"),
        ("n = Neg (x) y = Transpose (n)", "has shape (8, 4) with it and (4, 8) without"),
    ],
)
def test_another_function_is_named(changed: str, said: str) -> None:
    assert said in fault(changed)


def test_flips_of_integers_are_counted() -> None:
    exact = {"k": np.arange(1000)}
    assert difference(exact, {"k": np.where(np.arange(1000) < 9, -1, exact["k"])}) == ""
    assert "2% of output 'k' change" in difference(exact, {"k": np.where(np.arange(1000) < 20, -1, exact["k"])})


def test_infinities_must_stay() -> None:
    exact = np.array([1.0, np.inf, np.nan, 4.0])
    assert closeness(exact, exact) == np.inf
    assert closeness(exact, np.array([1.0, 2.0, np.nan, 4.0])) == -np.inf
