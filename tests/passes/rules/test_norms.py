"""What the rules of normalisations do beyond their evidence: sharing, unknown sizes, refusals with reasons, the numbers of an eps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fp16fix.errors import ReplayError
from fp16fix.graph.model import Model
from fp16fix.half import SMALLEST
from fp16fix.passes.recipe import Edit, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules import rule, rules
from fp16fix.passes.rewrite.rules._interior import norm_interiors
from fp16fix.passes.rewrite.rules._norm import channel_fit, guard, trailing_fit, writable

from .evidence import evidence_of, proposed, repaired, run, samples, strictly, worst_db, worst_gap

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
CORE = """m = ReduceMean <axes = [-1]> (s) c = Sub (s, m) q = Mul (c, c) v = ReduceMean <axes = [-1]> (q) e = Add (v, eps) d = Sqrt (e)
n = Div (c, d)"""


def refusals(name: str, evidence: Findings) -> list[str]:
    return [each.why for each in rule(name).propose(evidence) if isinstance(each, Refusal)]


def ops(model: Model) -> list[str]:
    return [node.op for node in model.nodes()]


def test_a_healthy_layernorm_is_fused_too() -> None:
    """One kernel instead of several is reason enough."""
    text = f"{HEAD} g (float[2,8] x) => (float[2,8] n) <float eps = {{1e-3}}> {{ {CORE.replace('(s', '(x')} }}"
    evidence = evidence_of(text)
    assert evidence.hazards == ()
    (repair,) = proposed(rule("layernorm"), evidence)
    assert "as one kernel" in repair.because
    assert ops(repaired(rule("layernorm"), evidence, [repair])) == ["LayerNormalization"]


def test_two_affine_parts_share_one_norm() -> None:
    text = f"""{HEAD} g (float[2,8] x) => (float[2,8] y, float[2,8] z)
    <float k = {{900}}, float eps = {{1e-5}}, float[8] w = {{1, 2, 3, 4, 5, 6, 7, 8}}>
    {{ s = Mul (x, k) {CORE} y = Mul (n, w) z = Add (n, w) }}"""
    evidence = evidence_of(text)
    repairs = proposed(rule("layernorm"), evidence)
    model = repaired(rule("layernorm"), evidence, repairs)
    assert ops(model) == ["Mul", "LayerNormalization", "Mul", "Add"]
    assert worst_gap(run(evidence.model, samples(model)), run(model, samples(model))) < 1e-5


def test_centred_input_with_another_reader_stays() -> None:
    text = f"""{HEAD} g (float[2,8] x) => (float[2,8] n, float[2,8] c)
    <float k = {{900}}, float eps = {{1e-5}}> {{ s = Mul (x, k) {CORE} }}"""
    evidence = evidence_of(text)
    model = repaired(rule("layernorm"), evidence, proposed(rule("layernorm"), evidence))
    assert sorted(ops(model)) == ["LayerNormalization", "Mul", "ReduceMean", "Sub"]
    assert worst_gap(run(evidence.model, samples(model)), run(model, samples(model))) < 1e-5


def test_scale_computed_at_run_time_stays_outside() -> None:
    text = f"""{HEAD} g (float[2,8] x, float[8] w) => (float[2,8] y)
    <float k = {{900}}, float eps = {{1e-5}}> {{ s = Mul (x, k) {CORE} y = Mul (n, w) }}"""
    evidence = evidence_of(text)
    model = repaired(rule("layernorm"), evidence, proposed(rule("layernorm"), evidence))
    assert ops(model) == ["Mul", "LayerNormalization", "Mul"]


def test_unknown_sizes() -> None:
    """A symbolic batch and length are no obstacle; a symbolic width is one unless the scale gives it away."""
    body = f"<float k = {{900}}, float eps = {{1e-5}}, float[8] w = {{1, 2, 3, 4, 5, 6, 7, 8}}> {{ s = Mul (x, k) {CORE} y = "
    assert proposed(rule("layernorm"), evidence_of(f"{HEAD} g (float[N,L,8] x) => (float[N,L,8] y) {body} Neg (n) }}"))
    assert not proposed(rule("layernorm"), evidence_of(f"{HEAD} g (float[2,W] x) => (float[2,W] y) {body} Neg (n) }}"))


def test_raising_the_opset_converts_the_rest_of_the_graph() -> None:
    text = f"""<ir_version: 7, opset_import: ["" : 11]> g (float[2,3,8] x) => (float[2,3,8] y) <float k = {{900}}, float eps = {{1e-5}}>
    {{ s = Mul (x, k) {CORE} t = Softmax <axis = 1> (n) o = ReduceSum <axes = [1], keepdims = 1> (t) y = Add (n, o) }}"""
    evidence = evidence_of(text)
    repairs = proposed(rule("layernorm"), evidence)
    assert "opset 11 becomes 17" in repairs[0].because
    model = repaired(rule("layernorm"), evidence, repairs)
    assert (evidence.model.opset, model.opset) == (11, 17)
    feeds = samples(model)
    truth = run(evidence.model, feeds)
    assert worst_gap(truth, run(model, feeds)) < 1e-5
    assert worst_db(truth, strictly(model, feeds)) > 50


def test_opset_that_cannot_be_raised_is_a_refusal_that_names_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no adapter")

    text = f"""<ir_version: 7, opset_import: ["" : 11]> g (float[2,3,8] x) => (float[2,3,8] y) <float k = {{900}}, float eps = {{1e-5}}>
    {{ s = Mul (x, k) {CORE} a = ReduceSum <axes = [0]> (n) y = Add (a, n) }}"""
    evidence = evidence_of(text)
    monkeypatch.setattr("onnx.version_converter.convert_version", fail)
    assert "ReduceSum" in refusals("layernorm", evidence)[0]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("q = Mul (c, c)", "q = Mul (c, s)", "not by itself"),
        ("v = ReduceMean <axes = [-1]> (q)", "v = ReduceMean <axes = [0]> (q)", "unlike another reduction"),
        ("e = Add (v, eps)", "e = Add (v, m)", ""),
    ],
)
def test_near_misses_of_layernorm_have_reasons(old: str, new: str, why: str) -> None:
    body = CORE.replace(old, new)
    text = f"{HEAD} g (float[2,8] x) => (float[2,8] n) <float k = {{9}}, float eps = {{1e-5}}> {{ s = Mul (x, k) {body} }}"
    evidence = evidence_of(text)
    assert not proposed(rule("layernorm"), evidence)
    assert why in refusals("layernorm", evidence)[0]


def test_variance_that_leaks_is_a_refusal_that_names_it() -> None:
    text = f"{HEAD} g (float[2,8] x) => (float[2,8] n, float[2,1] d) <float k = {{9}}, float eps = {{1e-5}}> {{ s = Mul (x, k) {CORE} }}"
    assert "'Sqrt_d'" in refusals("layernorm", evidence_of(text))[0]


@pytest.mark.parametrize("name", ["rmsnorm", "l2norm", "cosine"])
def test_what_an_exponent_does_is_left_to_it(name: str) -> None:
    held = [text for text in rule(name).declines if "k = {900}" in text]
    assert held
    for text in held:
        assert "one exponent" in refusals(name, evidence_of(text))[0]


@pytest.mark.parametrize("name", ["rmsnorm", "l2norm"])
@pytest.mark.parametrize("size", [2.0**-13, 1.0, 2.0**15])
def test_rows_of_any_size_and_empty_rows_come_out_right(name: str, size: float) -> None:
    """One repaired graph serves every magnitude that FP16 can store, head-room or not."""
    rows = f"{{{size}, {size / 64}, 0, 1}}"
    text = rule(name).fires[0].replace("{9000, 10, 0.01, 0.0005}", rows).replace("{9000, 1, 0.0005, 0}", rows)
    assert rows in text
    ill = evidence_of(rule(name).fires[0])
    evidence = evidence_of(text)
    model = evidence.model.copy()
    for repair in proposed(rule(name), ill):
        rule(name).apply(model, repair)
    feeds = samples(model)
    truth = run(evidence.model, feeds)
    assert worst_gap(truth, run(model, feeds)) < 1e-5
    if size < 1e4:
        assert worst_db(truth, strictly(model, feeds)) > 40


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("eps", [1e-3, 1e-5, 1e-8, 1e-12, 3.6e-15])
def test_guard_numbers_fit_fp16_and_multiply_to_eps(eps: float, degree: int) -> None:
    found = guard(eps, degree)
    assert found.unit >= SMALLEST
    assert math.log2(found.unit).is_integer()
    assert SMALLEST <= found.factor <= 1.0
    assert found.factor * found.unit**degree == pytest.approx(eps)


def test_guard_of_an_eps_beyond_fp16() -> None:
    assert not guard(0.0, 2).given
    assert not writable(1e-15, 1)
    assert writable(1e-15, 2)
    with pytest.raises(ReplayError, match="1e-15"):
        guard(1e-15, 1)


def test_constants_as_scales() -> None:
    channel, trailing = channel_fit(4, 3), trailing_fit([2, 3])
    assert np.array_equal(channel(np.asarray([[[1]], [[2]], [[3]]])), [1, 2, 3])  # type: ignore[arg-type]
    assert np.array_equal(channel(np.asarray(5.0)), [5, 5, 5])  # type: ignore[arg-type]
    assert channel(np.ones((1, 3))) is None
    assert channel(np.ones((2, 3, 1, 1))) is None
    assert channel(np.ones((1, 1, 3, 1, 1))) is None
    assert np.array_equal(trailing(np.asarray([1, 2, 3])), [[1, 2, 3], [1, 2, 3]])  # type: ignore[arg-type]
    assert trailing(np.ones((2, 1, 3))) is None
    assert trailing(np.ones(4)) is None
    assert trailing_fit([None])(np.ones(5)).shape == (5,)  # type: ignore[union-attr]


def test_groupnorm_written_out_becomes_one_node_at_opset_21() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]> g (float[N,4,6,6] x) => (float[N,4,6,6] y) <float k = {900}, float eps = {1e-5},
    int64[4] in = {0, 2, -1, 36}, int64[4] out = {0, 4, 6, 6}, int64[2] a = {2, 3}, float[4,1,1] w = {1, 2, 0.5, 1},
    float[4,1,1] b = {0, 1, -1, 0}>
    { s = Mul (x, k) h = Reshape (s, in) m = ReduceMean (h, a) c = Sub (h, m) q = Mul (c, c) v = ReduceMean (q, a) e = Add (v, eps)
      d = Sqrt (e) n = Div (c, d) o = Shape (s) u = Reshape (n, o) z = Mul (u, w) y = Add (z, b) }"""
    evidence = evidence_of(text)
    model = evidence.model.copy()
    for each in rules():
        for repair in each.propose(Findings(model, evidence.ranges, evidence.hazards)):
            if isinstance(repair, Edit) and each.name in {"instancenorm", "groupnorm"}:
                each.apply(model, repair)
    assert ops(model) == ["Mul", "GroupNormalization"]
    feeds = samples(model)
    truth = run(evidence.model, feeds)
    assert worst_gap(truth, run(model, feeds)) < 1e-5
    assert worst_db(truth, strictly(model, feeds)) > 50


def test_interiors_are_the_nodes_of_norms_and_nothing_else() -> None:
    text = f"""{HEAD} g (float[2,8] x) => (float[2,8] y, float[2,1] r) <float eps = {{1e-5}}>
    {{ q = Mul (x, x) m = ReduceMean <axes = [-1]> (q) e = Add (m, eps) d = Sqrt (e) n = Div (x, d)
      l = ReduceL2 <axes = [-1]> (n) f = Clip (l, eps) y = Div (n, f) p = Mul (y, y) t = ReduceMean <axes = [-1]> (p) r = Sqrt (t) }}"""
    names = ["Mul_q", "ReduceMean_m", "Add_e", "Sqrt_d", "Div_n", "ReduceL2_l", "Clip_f", "Div_y"]
    assert norm_interiors(evidence_of(text).model) == frozenset(names)
