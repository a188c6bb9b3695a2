"""Scalar factors keep value and sign; what cannot be split is refused with its reason."""

from __future__ import annotations

import numpy as np
import pytest

from .trial import Trial


@pytest.mark.parametrize("factor", ["-1e-8", "3e-7", "1e-9"])
def test_tiny_factor_keeps_its_sign_and_value(factor: str) -> None:
    trial = Trial(
        "split-literal",
        "g (float[4,16] x) => (float[4,16] y) <float k = {9000}, float c = {" + factor + "}> { s = Mul (x, k) y = Mul (s, c) }",
    )
    if abs(float(factor)) * 9000 < 2.0**-15:
        assert trial.repairs == []
        assert "stays under" in trial.refusals[0].why
        return
    np.testing.assert_array_equal(trial.after()["y"], trial.truth()["y"])
    signs = np.sign(trial.cured()["y"])
    np.testing.assert_array_equal(signs[signs != 0], np.sign(trial.truth()["y"])[signs != 0])
    assert (signs != 0).mean() > 0.9


def test_infinite_factor_is_refused() -> None:
    trial = Trial("split-literal", "g (float[4] x) => (float[4] y) <float c = {inf}> { a = Abs (x) y = Mul (a, c) }")
    assert trial.repairs == []


def test_literal_as_numerator_is_not_a_factor() -> None:
    trial = Trial("split-literal", "g (float[4] x) => (float[4] y) <float c = {1e6}, float k = {1e4}> { a = Mul (x, k) y = Div (c, a) }")
    assert trial.repairs == []
