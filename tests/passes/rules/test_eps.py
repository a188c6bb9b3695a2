"""An eps is raised only where nothing seen moves; other readers of the literal keep theirs."""

from __future__ import annotations

import numpy as np

from fp16fix.passes.recipe import Edit
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules import rule

from .evidence import evidence_of, parsed
from .trial import Trial

MASKED_MEAN = """g (float[4,6,3] x) => (float[4,3] y) <float eps = {1e-9}, int64[1] a = {1},
        float[4,6,1] m = {1,1,1,0,0,0, 0,0,0,0,0,0, 1,0,0,0,0,0, 1,1,1,1,1,1}>
    { p = Mul (x, m) t = ReduceSum <keepdims = 0> (p, a) n = ReduceSum <keepdims = 0> (m, a) d = Clip (n, eps) y = Div (t, d) }"""


def test_masked_mean_of_nothing_is_zero_as_in_fp32() -> None:
    trial = Trial("raise-eps", MASKED_MEAN)
    assert np.isnan(trial.ill()["y"]).any()
    np.testing.assert_array_equal(trial.after()["y"], trial.truth()["y"])
    assert (trial.cured()["y"][:, 1] == 0).all()


def test_shared_literal_is_raised_for_the_guard_alone() -> None:
    trial = Trial(
        "raise-eps",
        """g (float[4,16] x) => (float[4,16] y, float[4,16] z) <float[4,1] m = {1, 0, 1, 0}, int64[1] a = {-1}, float eps = {1e-9}>
        { s = Mul (x, m) p = Abs (s) t = ReduceSum (p, a) d = Max (t, eps) y = Div (s, d) z = Add (x, eps) }""",
    )
    nodes = trial.model.node_map()
    assert float(nodes["Add_z"].inputs[1].values) == np.float32(1e-9)
    assert float(nodes["Max_d"].inputs[1].values) > 1e-8


def test_zero_divided_into_something_is_refused() -> None:
    trial = Trial(
        "raise-eps",
        """g (float[4,16] x) => (float[4,16] y) <float[4,1] m = {1, 0, 1, 0}, int64[1] a = {-1}, float eps = {1e-9}>
        { s = Mul (x, m) p = Abs (s) t = ReduceSum (p, a) d = Max (t, eps) y = Div (x, d) }""",
    )
    assert trial.repairs == []
    assert "eps 1e-09 itself" in trial.refusals[0].why


OLD = """<ir_version: 5, opset_import: ["" : 9]> g (float[4,16] x) => (float[4,16] y) <float[4,1] m = {1, 0, 1, 0}>
    { s = Mul (x, m) p = Abs (s) t = ReduceSum <axes = [1]> (p) d = Clip <min = 0.000000001> (t) y = Div (s, d) }"""
NEW = """<ir_version: 7, opset_import: ["" : 11]> g (float[4,16] x) => (float[4,16] y) <float[4,1] m = {1, 0, 1, 0}, float eps = {1e-9}>
    { s = Mul (x, m) p = Abs (s) t = ReduceSum <axes = [1]> (p) d = Clip (t, eps) y = Div (s, d) }"""


def test_clip_attribute_of_old_opsets() -> None:
    model, ranges = parsed(OLD), evidence_of(NEW).ranges
    (repair,) = rule("raise-eps").propose(Findings(model, ranges, ()))
    assert isinstance(repair, Edit)
    copy = model.copy()
    rule("raise-eps").apply(copy, repair)
    assert copy.node_map()["Clip_d"].attrs["min"] == 2.0**-14
    assert model.node_map()["Clip_d"].attrs["min"] < 1e-8


def test_values_as_small_as_the_eps_are_refused() -> None:
    trial = Trial(
        "raise-eps",
        """g (float[4,16] x) => (float[4,16] y) <float k = {1e-6}, float eps = {1e-8}>
        { s = Mul (x, k) p = Abs (s) d = Add (p, eps) y = Div (s, d) }""",
    )
    assert trial.repairs == []
    assert trial.refusals
