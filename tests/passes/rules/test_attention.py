"""The scale goes to Q through movement and sums; what it cannot pass is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.passes.recipe import Promise

from .trial import Trial

HEAD = """g (float[2,3,4,64] x, float[2,1,1,4] m) => (float[2,3,4,4] y) <float k = {40}, float c = {C}>
    { q = Mul (x, k) t = Transpose <perm = [0, 1, 3, 2]> (q) """


@pytest.mark.parametrize(("scale", "promise"), [("0.125", Promise.EXACT), ("0.11", Promise.REORDERED)])
def test_promise_is_exact_for_powers_of_two_only(scale: str, promise: Promise) -> None:
    trial = Trial("attention-scale", HEAD.replace("C}", scale + "}") + "p = MatMul (q, t) a = Add (p, m) y = Mul (a, c) }")
    assert [each.promise for each in trial.repairs] == [promise]
    if promise is Promise.EXACT:
        np.testing.assert_array_equal(trial.after()["y"], trial.truth()["y"])
    np.testing.assert_allclose(trial.cured()["y"], trial.truth()["y"], rtol=5e-3, atol=20)


def test_two_products_in_one_sum_are_both_scaled() -> None:
    trial = Trial(
        "attention-scale",
        HEAD.replace("C}", "0.125}")
        + "p = MatMul (q, t) n = Neg (q) r = MatMul (n, t) h = Mul (r, c) z = MatMul (x, t) a = Add (p, z) y = Mul (c, a) }",
    )
    repairs = [each for each in trial.repairs if each.node == "Mul_y"]
    assert repairs[0].covers == ("Add_a", "MatMul_p", "MatMul_z", "Mul_y")
    np.testing.assert_array_equal(trial.after()["y"], trial.truth()["y"])


def test_constant_bias_is_scaled_offline() -> None:
    text = (
        HEAD.replace("<float k", "<float[4] b = {8, 16, -8, 0}, float k").replace("C}", "0.125}")
        + "p = MatMul (q, t) a = Add (p, b) y = Mul (a, c) }"
    )
    trial = Trial("attention-scale", text)
    bias = trial.model.node_map()["Add_a"].inputs[1]
    np.testing.assert_array_equal(bias.values, np.asarray([1, 2, -1, 0], np.float32))


def test_product_with_a_weight_is_left_to_exponents() -> None:
    trial = Trial(
        "attention-scale",
        """g (float[4,2] x) => (float[4,2] y) <float k = {1e5}, float[2,2] w = {1, 2, 3, 4}, float c = {0.125}>
        { s = Mul (x, k) p = MatMul (s, w) y = Mul (p, c) }""",
    )
    assert trial.repairs == []


def test_scale_inside_a_loop_body() -> None:
    trial = Trial(
        "attention-scale",
        """g (float[4,64] x) => (float[4,4] y) <int64 n = {2}, bool go = {1}, float k = {100},
        float[4,4] z = {0,0,0,0, 0,0,0,0, 0,0,0,0, 0,0,0,0}>
        { q = Mul (x, k) t = Transpose (q) y = Loop (n, go, z) <body = step (int64 i, bool b, float[4,4] u) => (bool d, float[4,4] v)
          <float c = {0.0078125}> { d = Identity (b) p = MatMul (q, t) e = Mul (p, c) v = Add (u, e) }> }""",
    )
    assert len(trial.repairs) == 1
    np.testing.assert_array_equal(trial.after()["y"], trial.truth()["y"])
    assert not np.isfinite(trial.ill()["y"]).all()
    np.testing.assert_allclose(trial.cured()["y"], trial.truth()["y"], rtol=3e-3, atol=20)


FOLDED = """g (float[4,2] x, float[4,4] k) => (float[4,4] y) <float[2,4] w = {W}, float[4] b = {300, 3, 3, 3}, float s = {100},
    float[4,2] v = {9, 9, 9, 9, -9, 9, 9, 9}, float c = {C}> { h = Mul (k, s) BODY }"""
WEIGHTS = "900, 900, 900, 900, -900, 900, 900, 900"


@pytest.mark.parametrize(
    "body",
    [
        "q = MatMul (x, w) t = Div (q, c) u = Transpose <perm = [1, 0]> (t) y = MatMul (h, u)",
        "q = Gemm <alpha = 2.0> (x, w, b) t = Div (q, c) y = MatMul (t, h)",
        "q = MatMul (v, z) a = Sub (b, q) t = Div (a, c) y = MatMul (t, h)".replace("z", "e").replace("q =", "e = Transpose (x) q ="),
    ],
)
def test_a_scale_in_front_goes_into_all_that_makes_the_operand(body: str) -> None:
    """Tensors that now hold other values have other names: ranges go by name."""
    trial = Trial("fold-scale", FOLDED.replace("W}", WEIGHTS + "}").replace("C}", "88.5}").replace("BODY", body))
    (edit,) = trial.repairs
    assert edit.promise is Promise.REORDERED
    assert "Div" not in trial.ops()
    np.testing.assert_allclose(trial.after()["y"], trial.truth()["y"], rtol=1e-4, atol=1e-1)
    assert not {"q", "a"} & set(trial.model.tensors())


@pytest.mark.parametrize(
    ("weights", "said"),
    [(WEIGHTS, None), ("0.003, 0.1, 900, 900, -900, 900, 900, 900", None), ("1e-4, 2e-4, 1e-4, 3e-4, 1e-4, 2e-4, 1e-4, 3e-4", "subnormal")],
)
def test_weights_do_not_become_subnormal(weights: str, said: str | None) -> None:
    """What rounds off of small weights beside large ones does not show; of weights that are all small it does."""
    scale = "100}" if said is None else "2e9}"
    text = FOLDED.replace("W}", weights + "}").replace("C}", "100}").replace("s = {100}", "s = {" + scale)
    trial = Trial("fold-scale", text.replace("BODY", "q = MatMul (x, w) t = Div (q, c) y = MatMul (t, h)"))
    assert (said is None) == (trial.refusals == [])
    assert said is None or said in trial.refusals[0].why
