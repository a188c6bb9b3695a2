"""Sums and squares: where the power of two goes, and where it may not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.passes.recipe import Edit, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules import rule

from .evidence import evidence_of, repaired, run, samples
from .trial import HEADER, Trial


def test_the_smaller_factor_of_the_terms_is_scaled() -> None:
    trial = Trial(
        "pre-divide",
        """g (float[2,512,8] x, float[2,512,1] m) => (float[2,8] y) <float k = {500}, int64[1] a = {1}>
        { s = Mul (x, k) p = Abs (s) w = Abs (m) z = Mul (p, w) t = ReduceSum <keepdims = 0> (z, a) n = ReduceSum <keepdims = 0> (w, a)
          y = Div (t, n) }""",
    )
    product = trial.model.node_map()["Mul_z"]
    assert product.inputs[0].name == "p"
    assert product.inputs[1].inputs[0].op == "Mul"
    np.testing.assert_array_equal(trial.after()["y"], trial.truth()["y"])


def test_mean_is_scaled_only_for_a_hazard_inside() -> None:
    evidence = evidence_of(
        HEADER + "g (float[2,4096] x) => (float[2,1] y) <float k = {60}> { s = Mul (x, k) p = Abs (s) y = ReduceMean <axes = [-1]> (p) }"
    )
    inside = Hazard("ReduceMean_y", Kind.OVERFLOW, "y", "ReduceMean", 0.0, 50.0, 1.0, 2.0, "the sum inside", internal=True)
    without = Findings(evidence.model, evidence.ranges, ())
    assert list(rule("pre-divide").propose(without)) == []
    repairs = [each for each in rule("pre-divide").propose(Findings(evidence.model, evidence.ranges, (inside,))) if isinstance(each, Edit)]
    model = repaired(rule("pre-divide"), evidence, repairs)
    feeds = samples(evidence.model)
    terms = run(evidence.model, feeds)["y"].max() * 4096 * 2.0 ** -repairs[0].shift
    assert terms < 65504 / 4
    np.testing.assert_array_equal(run(model, feeds)["y"], run(evidence.model, feeds)["y"])


def test_terms_that_would_go_subnormal_are_refused() -> None:
    trial = Trial(
        "pre-divide",
        """g (float[1,8] x) => (float[1,1] y) <int64[1] a = {-1}, float n = {8}, float k = {1e-3}>
        { s = Mul (x, k) t = ReduceSum (s, a) y = Div (t, n) }""",
    )
    total = replace(trial.evidence.ranges["t"], high=3e6)
    ranges = {**trial.evidence.ranges, "t": total}
    refusal, *more = rule("pre-divide").propose(Findings(trial.evidence.model, ranges, ()))
    assert isinstance(refusal, Refusal)
    assert "subnormals" in refusal.why
    assert more == []


def test_square_shared_with_another_reader_is_left() -> None:
    trial = Trial(
        "mean-of-squares",
        """g (float[4,64] x) => (float[4,1] y, float[4,64] z) <float k = {300}, float c = {1e-5}>
        { s = Mul (x, k) q = Mul (s, s) m = ReduceMean <axes = [-1]> (q) y = Sqrt (m) z = Mul (q, c) }""",
    )
    assert trial.repairs == []


def test_head_room_is_left_above_the_squares() -> None:
    trial = Trial(
        "mean-of-squares",
        """g (float[4,64] x) => (float[4,1] y) <float k = {300}>
        { s = Mul (x, k) q = Mul (s, s) m = ReduceMean <axes = [-1]> (q) y = Sqrt (m) }""",
    )
    feeds = [{"x": 2 * each["x"]} for each in trial.feeds]
    np.testing.assert_allclose(trial.cured(feeds)["y"], trial.truth(feeds)["y"], rtol=2e-3)


def test_small_mean_squares_beside_large_ones_are_refused() -> None:
    """No power of two brings 9e6 under 65504 and leaves 4e-4 above subnormals."""
    trial = Trial(
        "mean-of-squares",
        """g (float[4,64] x) => (float[4,1] y) <float[4,1] k = {3000, 0.02, 1, 1}>
        { s = Mul (x, k) q = Mul (s, s) m = ReduceMean <axes = [-1]> (q) y = Sqrt (m) }""",
    )
    assert trial.repairs == []
    assert [("do not fit FP16 under one power of two" in each.why) for each in trial.refusals] == [True]
    alike = Trial(
        "mean-of-squares",
        """g (float[4,64] x) => (float[4,1] y) <float[4,1] k = {3000, 300, 1000, 1000}>
        { s = Mul (x, k) q = Mul (s, s) m = ReduceMean <axes = [-1]> (q) y = Sqrt (m) }""",
    )
    assert len(alike.repairs) == 1
    np.testing.assert_allclose(alike.cured()["y"], alike.truth()["y"], rtol=2e-3)
