"""Traits: growth by degree, small values that matter, tensors that never meet FP16."""

from __future__ import annotations

import pytest

from fp16fix.graph.model import Model
from fp16fix.passes.rescale.equations import equations
from fp16fix.passes.rescale.traits import Laws, degrees, delicate, inside
from tests.models import model

RMS = """g (float[4,8] x) => (float[4,8] y) <float two = {2}, int64[1] one = {1}, float eps = {1e-6}, float k = {1}>
{ s = Pow (x, two) m = ReduceSum (s, one) t = Add (m, eps) r = Sqrt (t) i = Div (k, r) u = Mul (x, i) v = Mul (x, x)
w = Mul (v, u) y = Exp (w) }"""


def laws(found: Model) -> Laws:
    return [(node, equations(node)) for node in found.nodes()]


def test_degrees_follow_the_laws() -> None:
    found = model(RMS)
    degree = degrees(found, laws(found))
    assert [degree[name] for name in ("x", "s", "m", "t", "r", "i", "u", "v", "w", "y")] == [1, 2, 2, 2, 1, -1, 0, 2, 2, 0]


def test_small_values_matter_under_a_root_and_a_division_but_not_inside_a_sum() -> None:
    assert delicate(laws(model(RMS))) == {"r": 0.0, "t": 0.0, "m": pytest.approx(1e-6)}


def test_a_clamp_passes_small_values_on() -> None:
    found = model("g (float[4,8] x) => (float[4,8] y) <float low = {1e-9}> { a = Abs (x) b = Max (a, low) y = Log (b) }")
    assert delicate(laws(found)) == {"b": 0.0, "a": pytest.approx(1e-9), "x": pytest.approx(1e-9)}


def test_only_tensors_between_wide_nodes_are_inside() -> None:
    found = model("g (float[4,8] x) => (float[4,8] y) { a = Exp (x) b = Neg (a) y = Abs (b) }")
    nodes = list(found.nodes())
    assert inside(nodes, frozenset({nodes[0].name, nodes[1].name})) == {"x", "a"}
    assert inside(nodes, frozenset()) == set()
