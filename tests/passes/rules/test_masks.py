"""Mask literals: what is clamped and levelled, fully masked rows, and the literals that must stay."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.passes.recipe import Edit
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules import rule
from fp16fix.ranges.measure import measure

from .evidence import evidence_of, repaired, run, strictly
from .trial import HEADER, Trial

PADDING = """g (float[2,4,6] x, float[2,1,6] m) => (float[2,4,6] y) <float low = {LOW}, float one = {1}>
    { i = Sub (one, m) b = Mul (i, low) s = Add (x, b) y = Softmax <axis = -1> (s) }"""
CAUSAL = """g (float[6,6] x, float[1,6] m) => (float[6,6] y) <float low = {LOW}, float one = {1}, int64 up = {1}, int64[2] z = {6, 6}>
    { f = Expand (low, z) c = Trilu <upper = 1> (f, up) i = Sub (one, m) b = Mul (i, low) s = Add (x, c) t = Add (s, b)
      y = Softmax <axis = -1> (t) }"""


def masked(text: str, low: str) -> tuple[Findings, tuple[Edit, ...]]:
    """Calibrated with every token kept: no mask is ever seen at work."""
    evidence = evidence_of(HEADER + text.replace("LOW", low))
    shape = evidence.model.graph.inputs[0].shape
    mask = evidence.model.graph.inputs[1].shape
    kept = [{"x": np.random.default_rng(seed).standard_normal(shape).astype(np.float32), "m": np.ones(mask, np.float32)} for seed in (0, 1)]
    evidence = Findings(evidence.model, measure(evidence.model, kept, threads=1), ())
    return evidence, tuple(each for each in rule("mask-literal").propose(evidence) if isinstance(each, Edit))


@pytest.mark.parametrize("low", ["-1e9", "-3.4028235e38", "-1e30"])
@pytest.mark.parametrize("text", [PADDING, CAUSAL], ids=["padding", "causal and padding"])
def test_rows_masked_only_at_run_time_are_as_in_fp32(text: str, low: str) -> None:
    evidence, repairs = masked(text, low)
    model = repaired(rule("mask-literal"), evidence, list(repairs))
    rng = np.random.default_rng(2)
    mask = np.ones(evidence.model.graph.inputs[1].shape, np.float32)
    mask[..., :3] = 0
    feeds = [
        {"x": 2 * rng.standard_normal(evidence.model.graph.inputs[0].shape).astype(np.float32), "m": each} for each in (mask, 0 * mask)
    ]
    truth, after, cured = run(evidence.model, feeds)["y"], run(model, feeds)["y"], strictly(model, feeds)["y"]
    assert np.isfinite(cured).all()
    finite = np.isfinite(truth).all(axis=-1)
    assert finite.any()
    np.testing.assert_array_equal(after[finite], truth[finite])
    np.testing.assert_allclose(cured[finite], truth[finite], atol=2e-3)


def test_plain_fp16_of_the_same_rows_is_nan() -> None:
    evidence, _ = masked(PADDING, "-1e9")
    shape = evidence.model.graph.inputs[0].shape
    feeds = [{"x": np.zeros(shape, np.float32), "m": np.ones((2, 1, 6), np.float32)}]
    assert np.isnan(strictly(evidence.model, feeds)["y"]).all()


def test_minus_infinity_is_clamped_without_nan() -> None:
    trial = Trial(
        "mask-literal",
        """g (float[2,3,4] x) => (float[2,3,4] y) <float low = {-inf}, bool[3,1] m = {1, 0, 1}>
        { w = Where (m, x, low) y = Softmax <axis = -1> (w) }""",
    )
    assert len(trial.repairs) == 1
    assert np.isfinite(trial.cured()["y"]).all()
    np.testing.assert_array_equal(trial.after()["y"][:, :, 1], np.float32(0.25))


def test_nan_guard_keeps_minus_infinity() -> None:
    trial = Trial(
        "mask-literal",
        """g (float[2,3,4] x) => (float[2,3,4] y) <float low = {-inf}, float zero = {0}, bool[3,1] m = {1, 0, 1}>
        { w = Where (m, x, low) p = Softmax <axis = -1> (w) n = IsNaN (p) y = Where (n, zero, p) }""",
    )
    assert trial.repairs == []
    assert "NaN" in trial.refusals[0].why


def test_mask_input_with_minus_infinity_is_floored() -> None:
    evidence = evidence_of(HEADER + "g (float[2,4] x, float[2,4] m) => (float[2,4] y) { s = Add (x, m) y = Softmax <axis = -1> (s) }")
    low = np.float32(np.finfo(np.float32).min)
    mask = np.asarray([[0, 0, low, low], [low, low, low, low]], np.float32)
    feeds = [{"x": np.random.default_rng(3).standard_normal((2, 4)).astype(np.float32), "m": mask}]
    evidence = Findings(evidence.model, measure(evidence.model, feeds, threads=1), ())
    repairs = [each for each in rule("mask-literal").propose(evidence) if isinstance(each, Edit)]
    assert [dict(each.values).keys() for each in repairs] == [{"floor"}]
    model = repaired(rule("mask-literal"), evidence, repairs)
    assert np.isnan(strictly(evidence.model, feeds)["y"]).any()
    np.testing.assert_allclose(strictly(model, feeds)["y"], run(evidence.model, feeds)["y"], atol=1e-3)


def test_positive_literal_that_is_subtracted() -> None:
    trial = Trial(
        "mask-literal",
        """g (float[2,4,6] x) => (float[2,4,6] y) <float big = {1e9}, float[2,1,6] m = {0,0,0,0,1,1, 1,1,1,1,1,1}>
        { b = Mul (m, big) s = Sub (x, b) y = Softmax <axis = -1> (s) }""",
    )
    assert dict(trial.repairs[0].values) == {"bound": 24576.0}
    np.testing.assert_array_equal(trial.after()["y"], trial.truth()["y"])
    np.testing.assert_allclose(trial.cured()["y"], trial.truth()["y"], atol=1e-3)


def test_other_reader_of_a_shared_literal_keeps_it() -> None:
    trial = Trial(
        "mask-literal",
        """g (float[4,4] x) => (float[4,4] y, float[4,4] z) <float low = {-1e9}, bool[4] m = {1, 1, 0, 1}, float t = {1e-7}>
        { w = Where (m, x, low) y = Softmax <axis = -1> (w) v = Where (m, x, low) z = Mul (v, t) }""",
    )
    model = trial.model.node_map()
    assert float(model["Where_w"].inputs[2].values) == -24576.0
    assert float(model["Where_v"].inputs[2].values) == np.float32(-1e9)
    assert [each.node for each in trial.refusals] == ["Where_v"]
    np.testing.assert_array_equal(trial.after()["z"], trial.truth()["z"])


def test_readers_of_one_array_share_its_clamped_copy() -> None:
    trial = Trial(
        "mask-literal",
        """g (float[2,3] x) => (float[2,3] y, float[2,3] z) <float[3] c = {0, 0, -1e9}>
        { s = Add (x, c) y = Softmax <axis = -1> (s) n = Neg (x) t = Add (n, c) z = Softmax <axis = -1> (t) }""",
    )
    nodes = trial.model.node_map()
    assert nodes["Add_s"].inputs[1] is nodes["Add_t"].inputs[1]
    np.testing.assert_allclose(trial.cured()["z"], trial.truth()["z"], atol=1e-3)


def test_large_scores_take_the_larger_bound() -> None:
    trial = Trial(
        "mask-literal",
        """g (float[2,4] x) => (float[2,4] y) <float k = {1500}, float low = {-1e30}, bool[4] m = {1, 1, 0, 1}>
        { s = Mul (x, k) w = Where (m, s, low) y = Softmax <axis = -1> (w) }""",
    )
    assert dict(trial.repairs[0].values) == {"bound": 49152.0}


def test_pooled_maximum_where_something_always_wins() -> None:
    text = """g (float[2,4,3] x) => (float[2,3] y) <float low = {-1e9}, bool[4,1] m = {1, 1, MASK, 0}>
        { w = Where (m, x, low) y = ReduceMax <axes = [1], keepdims = 0> (w) }"""
    trial = Trial("mask-literal", text.replace("MASK", "0"))
    assert len(trial.repairs) == 1
    np.testing.assert_allclose(trial.cured()["y"], trial.truth()["y"], rtol=1e-3)
    assert Trial("mask-literal", text.replace("{1, 1, MASK, 0}", "{0, 0, 0, 0}")).repairs == []
