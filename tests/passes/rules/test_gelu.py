"""Overflows that end in tanh and the like are refused as harmless, and only those."""

from __future__ import annotations

import numpy as np
import pytest

from .trial import Trial

CUBE = """g (float[4,16] x) => (float[4,16] y) <float k = {40}, float three = {3}, float c = {0.044715}, float r = {0.7978845608},
        float one = {1}>
    { s = Mul (x, k) p = Pow (s, three) q = Mul (p, c) a = Add (s, q) b = Mul (a, r) t = Tanh (b) u = Add (t, one) y = Mul (s, u) }"""


def test_cube_of_gelu_is_harmless() -> None:
    trial = Trial("tanh-gelu", CUBE)
    assert {each.node for each in trial.refusals} == {"Pow_p", "Mul_q", "Add_a", "Mul_b"} & {
        hazard.node for hazard in trial.evidence.hazards
    }
    assert "Pow_p" in {each.node for each in trial.refusals}
    assert all(each.harmless for each in trial.refusals)
    assert trial.repairs == []
    np.testing.assert_allclose(trial.ill()["y"], trial.truth()["y"], rtol=2e-3, atol=1e-2)


@pytest.mark.parametrize(
    "body",
    [
        "p = Mul (s, s) y = Sqrt (p)",
        "p = Mul (s, s) q = Mul (p, x) y = Tanh (q)",
        "p = Mul (s, s) q = Sub (p, p) y = Tanh (q)",
        "p = Mul (s, s) z = Tanh (p) y = Add (z, p)",
        "p = Mul (s, s) y = Div (s, p)",
    ],
    ids=["root", "times what may be zero", "inf minus inf", "read elsewhere", "quotient lost"],
)
def test_overflow_that_shows_is_not_called_harmless(body: str) -> None:
    trial = Trial("tanh-gelu", "g (float[4,16] x) => (float[4,16] y) <float k = {300}> { s = Mul (x, k) " + body + " }")
    assert [each for each in trial.refusals if each.node == "Mul_p"] == []


def test_mish_is_left_alone() -> None:
    text = """g (float[4,16] x) => (float[4,16] y) <float k = {12}, float one = {1}>
        { s = Mul (x, k) e = Exp (s) a = Add (e, one) l = Log (a) t = Tanh (l) y = Mul (s, t) }"""
    trial = Trial("tanh-gelu", text)
    assert {each.node for each in trial.refusals} >= {"Exp_e", "Add_a"}
    assert Trial("softplus", text).repairs == []
    np.testing.assert_allclose(trial.ill()["y"], trial.truth()["y"], rtol=2e-3, atol=1e-2)


def test_a_healthy_gelu_is_one_layer_where_there_is_one() -> None:
    body = """g (float[4,16] x) => (float[4,16] y) <float c = {0.035677408}, float r = {0.7978845608}, float one = {1}, float h = {0.5}>
        { i = Mul (x, x) q = Mul (c, i) a = Add (q, r) b = Mul (x, a) t = Tanh (b) u = Add (one, t) v = Mul (h, x) y = Mul (v, u) }"""
    assert Trial("tanh-gelu", body).repairs == [], "opset 17 has no Gelu"
    trial = Trial("tanh-gelu", '<ir_version: 9, opset_import: ["" : 20]> ' + body)
    assert trial.ops() == ["Gelu"]
    np.testing.assert_allclose(trial.after()["y"], trial.truth()["y"], rtol=1e-5, atol=1e-6)
