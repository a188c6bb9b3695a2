"""Softmax, logarithms of it, logsumexp and softplus: the forms beyond each rule's own evidence."""

from __future__ import annotations

import numpy as np
import pytest

from .trial import Trial


def test_reduce_logsumexp_is_shifted_whatever_the_engine_does_inside() -> None:
    trial = Trial(
        "logsumexp",
        """g (float[4,16] x) => (float[4] y) <float k = {20}>
        { s = Mul (x, k) y = ReduceLogSumExp <axes = [1], keepdims = 0> (s) }""",
    )
    assert trial.ops() == ["Mul", "ReduceMax", "Sub", "Exp", "ReduceSum", "Log", "Add", "Squeeze"]
    np.testing.assert_allclose(trial.after()["y"], trial.truth()["y"], rtol=1e-6)


def test_log_softmax_operator_becomes_the_shifted_form() -> None:
    """TensorRT's parser makes it a Softmax and a Log, which loses p < 2⁻²⁴: the operator is no cure."""
    trial = Trial("log-softmax", "g (float[4,16] x) => (float[4,16] y) <float k = {20}> { s = Mul (x, k) y = LogSoftmax <axis = -1> (s) }")
    assert "LogSoftmax" not in trial.ops()
    assert "engine" in trial.repairs[0].because
    np.testing.assert_allclose(trial.after()["y"], trial.truth()["y"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(trial.cured()["y"], trial.truth()["y"], rtol=2e-3, atol=2e-2)


def test_a_healthy_softmax_is_fused_too_and_its_eps_goes() -> None:
    """Shifted by the maximum, its sum is at least 1, beside which 1e-12 rounds away."""
    trial = Trial(
        "softmax",
        """<ir_version: 7, opset_import: ["" : 12]> g (float[3,9] x) => (float[3,9] y) <float k = {30}, float eps = {1e-12}>
        { s = Mul (x, k) m = ReduceMax <axes = [1]> (s) d = Sub (s, m) f = Exp (d) t = ReduceSum <axes = [-1]> (f) u = Add (t, eps)
          y = Div (f, u) }""",
    )
    assert trial.ops() == ["Mul", "Softmax"]
    np.testing.assert_allclose(trial.after()["y"], trial.truth()["y"], rtol=1e-6, atol=1e-7)


def test_softmax_read_elsewhere_stays_beside_its_logarithm() -> None:
    trial = Trial(
        "log-softmax",
        """g (float[4,16] x) => (float[4,16] p, float[4,16] y) <float k = {20}>
        { s = Mul (x, k) p = Softmax <axis = -1> (s) y = Log (p) }""",
    )
    assert "Softmax" in trial.ops()
    np.testing.assert_array_equal(trial.after()["p"], trial.truth()["p"])


def test_log_of_sum_keeps_the_eps_where_it_shows() -> None:
    trial = Trial(
        "log-probability",
        """g (float[4,16] x) => (float[4,16] y) <float k = {20}, float eps = {1e-10}>
        { s = Mul (x, k) p = Softmax <axis = -1> (s) q = Add (p, eps) y = Log (q) }""",
    )
    assert trial.truth()["y"].min() < -23
    np.testing.assert_allclose(trial.after()["y"], trial.truth()["y"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(trial.cured()["y"], trial.truth()["y"], rtol=2e-3, atol=2e-2)


def test_minus_infinity_in_a_row_is_refused() -> None:
    trial = Trial(
        "logsumexp",
        """g (float[4,16] x) => (float[4] y) <float[16] low = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,-inf}, float k = {9}, int64[1] a = {1}>
        { s = Mul (x, k) t = Add (s, low) e = Exp (t) u = ReduceSum <keepdims = 0> (e, a) y = Log (u) }""",
    )
    assert trial.repairs == []
    assert "finite" in trial.refusals[0].why


def test_softmax_in_a_scan_body() -> None:
    trial = Trial(
        "softmax",
        """g (float[3,8] x) => (float[3,8] y) <int64[1] a = {-1}, float k = {20}>
        { y = Scan <num_scan_inputs = 1, body = step (float[8] r) => (float[8] p)
          { s = Mul (r, k) e = Exp (s) t = ReduceSum (e, a) p = Div (e, t) }> (x) }""",
    )
    assert len(trial.repairs) == 1
    np.testing.assert_allclose(trial.after()["y"], trial.truth()["y"], atol=1e-6)
    np.testing.assert_allclose(trial.cured()["y"], trial.truth()["y"], atol=2e-3)


def test_softplus_between_torch_threshold_branches() -> None:
    trial = Trial(
        "softplus",
        """g (float[4,16] x) => (float[4,16] y) <float k = {20}, float limit = {20}, float one = {1}>
        { s = Mul (x, k) c = Greater (s, limit) e = Exp (s) a = Add (e, one) l = Log (a) y = Where (c, s, l) }""",
    )
    assert trial.ops() == ["Mul", "Greater", "Softplus", "Where"]
    np.testing.assert_allclose(trial.cured()["y"], trial.truth()["y"], rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(("eps", "refused"), [("1e-8", True), ("1e-15", False)])
def test_an_eps_beside_the_smallest_sum_is_part_of_the_answer(eps: str, refused: bool) -> None:
    """Rows whose sums differ by e²⁰: 1e-8 is nothing beside the largest and a hundredth of the smallest."""
    trial = Trial(
        "softmax",
        f"""g (float[4,16] x) => (float[4,16] y) <float[4,1] o = {{-20, 0, 0, 0}}, float k = {{4}}, float eps = {{{eps}}}, int64[1] a = {{-1}}>
        {{ m = Mul (x, k) s = Add (m, o) e = Exp (s) t = ReduceSum (e, a) u = Add (t, eps) y = Div (e, u) }}""",
    )
    assert trial.evidence.ranges["t"].low < 1e-6 < 1e3 < trial.evidence.ranges["t"].high
    assert [("part of the answer" in each.why) for each in trial.refusals] == [True] * refused
    assert bool(trial.repairs) is not refused
    if not refused:
        np.testing.assert_allclose(trial.after()["y"], trial.truth()["y"], rtol=1e-5)
