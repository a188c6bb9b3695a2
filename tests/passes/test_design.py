"""Drafts: what the user decides is obeyed, what was proven harmless costs nothing, and every step goes on from what the last one made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from fp16fix import half
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.passes.apply import apply
from fp16fix.passes.design import LEFT_OUT, NEIGHBOUR, TIGHT, Design, Draft, Options
from fp16fix.passes.recipe import RESCALE, Edit, Promise
from fp16fix.ranges.measure import measure
from fp16fix.ranges.range import Ranges
from fp16fix.strict.emulate import emulate
from fp16fix.trace.harmless import harmless
from tests.models import model, normal, sqnr_db

Sample = dict[str, np.ndarray]
LOG = "g (float[4,8] x) => (float[4,8] y) <float eps = {1e-10}> { a = Add (x, eps)  y = Log (a) }"
POSITIVE = {"x": 0.1 + np.abs(normal(4, 8))}
STREAM = """g (float[4,8] x) => (float[4,8] y) <float w = {1048576}, float v = {0.001953125}> {
    a = Mul (x, w)  b = Abs (a)  c = Add (a, b)  y = Mul (c, v) }"""
CANCEL = "g (float[64] x) => (float[64] y) <float k = {1000}> { a = Add (x, k) y = Sub (a, k) }"
SOFTMAX = """g (float[4,16] x) => (float[4,16] y) <float k = {20}, int64[1] a = {-1}> {
    s = Mul (x, k) e = Exp (s) t = ReduceSum (e, a) y = Div (e, t) }"""
MEAN = "g (float[2,4096] x) => (float[2,1] y) <float k = {60}> { s = Mul (x, k) p = Abs (s) y = ReduceMean <axes = [-1]> (p) }"
ABSORBED = "g (float[4,8] x) => (float[8,4] y) { p = Mul (x, x) t = Transpose <perm = [1, 0]> (p) y = Tanh (t) }"
WITH_EPS = """g (float[4,8] x) => (float[4,8] y) <float w = {1073741824}, float eps = {0.001}> {
    a = Mul (x, w) b = Abs (a) c = Add (b, eps) y = Div (a, c) }"""
OUTLIER = """g (float[64,64] x) => (float[64,64] y) <float w = {1048576}, float v = {0.0000000009313225746}> {
    s = Mul (x, x)  a = Mul (s, w)  b = Abs (a)  c = Add (a, b)  y = Mul (c, v) }"""


def designer(text: str, sample: Sample, placed: Mapping[str, str] | None = None, **options: Any) -> Design:
    fp32 = model(text)
    fp32.placed.update(placed or {})

    def acquit(found: Model, hazards: Sequence[Hazard], ranges: Ranges) -> dict[Hazard, str]:
        return {hazard: proof.why for hazard, proof in harmless(found, hazards, [sample], ranges=ranges).items()}

    return Design(fp32, measure(fp32, [sample]), [sample], Options(**options), acquit)


def drafted(text: str, sample: Sample, placed: Mapping[str, str] | None = None, **options: Any) -> Draft:
    made = designer(text, sample, placed, **options)
    hazards = diagnose(made.model, made.ranges, frozenset(made.model.placed))
    return made.draft(hazards, made.acquit(made.model, hazards, made.ranges))


def figure(text: str, draft: Draft, sample: Sample) -> float:
    """The output's SQNR in strict FP16."""
    fp32 = model(text)
    return sqnr_db(Session(fp32).run(sample)["y"], Session(emulate(apply(fp32, draft.recipe))).run(sample)["y"])


def whys(draft: Draft, by: str) -> list[str]:
    return [refusal.why for refusal in draft.refusals if refusal.by == by]


STREAMED = {"x": normal(4, 8)}


def test_rules_come_first_then_exponents_then_islands() -> None:
    assert [edit.by for edit in drafted(LOG, POSITIVE).recipe.edits] == ["raise-eps"]
    stream = drafted(STREAM, STREAMED)
    assert [edit.by for edit in stream.recipe.edits] == [RESCALE]
    island = drafted(CANCEL, {"x": normal(64)})
    assert (island.recipe.changes, island.recipe.wide) == ((), {"Add_a": "fp32", "Sub_y": "fp32"})
    assert figure(LOG, drafted(LOG, POSITIVE), POSITIVE) > 60.0
    assert figure(STREAM, stream, STREAMED) > 60.0
    assert figure(CANCEL, island, {"x": normal(64)}) > 60.0


def test_a_rule_that_is_left_out_leaves_an_island() -> None:
    without = drafted(LOG, POSITIVE, without=frozenset({"raise-eps@Add_a@eps"}))
    assert whys(without, "raise-eps") == [LEFT_OUT]
    assert without.recipe.rewrites == ()
    assert set(without.recipe.wide) == {"Add_a", "Log_y"}


def test_exponents_that_are_left_out_leave_an_island() -> None:
    without = drafted(STREAM, STREAMED, without=frozenset({RESCALE}))
    assert whys(without, RESCALE) == [LEFT_OUT]
    assert (without.recipe.exponents, set(without.recipe.wide)) == ({}, {"Mul_a", "Abs_b", "Add_c", "Mul_y"})


def test_only_exact_repairs_on_request() -> None:
    exact = drafted(LOG, POSITIVE, only_exact=True)
    assert whys(exact, "raise-eps") == ["would alter the FP32 function, and only exact repairs were asked for"]
    assert set(exact.recipe.wide) == {"Add_a", "Log_y"}
    assert drafted(STREAM, STREAMED, only_exact=True).recipe.exponents, "powers of two are exact"


def test_a_hazard_that_the_user_allows_costs_nothing_around_it() -> None:
    allowed = drafted(CANCEL, {"x": normal(64)}, allow=("Sub_*",))
    assert (allowed.remaining, allowed.recipe.edits) == ((), ())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"allow": ("ReduceSum_t",)}, "the user allows this node in FP16 as it is"),
        ({"placed": {"ReduceSum_t": "fp32"}}, "the model's author placed this node in a wider type already"),
    ],
)
def test_a_node_that_somebody_decided_about_is_not_rewritten(options: dict[str, Any], why: str) -> None:
    sample = {"x": normal(4, 16)}
    assert [edit.by for edit in drafted(SOFTMAX, sample).recipe.rewrites] == ["softmax"]
    kept = drafted(SOFTMAX, sample, **options)
    assert kept.recipe.rewrites == ()
    assert whys(kept, "softmax") == [why]
    assert "Softmax" not in {node.op for node in kept.model.nodes()}


def test_the_authors_placement_stays_in_the_recipe() -> None:
    kept = drafted(SOFTMAX, {"x": normal(4, 16)}, placed={"ReduceSum_t": "fp32"})
    assert kept.recipe.wide["ReduceSum_t"] == "fp32"
    assert kept.recipe.reasons["ReduceSum_t"] == "the model's author placed it"


def test_inner_sums_are_repaired_where_they_are_held_in_fp16() -> None:
    sample = {"x": normal(2, 4096)}
    assert drafted(MEAN, sample).recipe.edits == ()
    assert [edit.by for edit in drafted(MEAN, sample, sums_in_half=True).recipe.rewrites] == ["pre-divide"]


def test_two_edits_of_one_rule_do_not_share_a_node() -> None:
    made = designer(LOG, POSITIVE)
    edit = Edit("raise-eps", "Log_y", Promise.ALTERED, covers=("Add_a", "Log_y"))
    assert made.permitted(edit, set())
    assert not made.permitted(edit, {"Add_a"})
    assert made.refusals == [], "the node is answered already"


def test_an_overflow_without_effect_moves_no_exponent_and_no_type() -> None:
    sample = {"x": normal(4, 8, scale=400.0)}
    draft = drafted(ABSORBED, sample)
    assert draft.spared == {"p", "t"}, "and what movement makes of it"
    assert draft.recipe.edits == ()
    assert figure(ABSORBED, draft, sample) > 60.0


def test_ranges_follow_exponents() -> None:
    """Of healthy tensors too: b shares the exponent of a stream that is large elsewhere."""
    text = """g (float[4,8] x) => (float[4,8] y) <float w = {1048576}, float u = {16}, float v = {0.001953125}> {
        a = Mul (x, w)  b = Mul (x, u)  c = Add (a, b)  y = Mul (c, v) }"""
    before, draft = designer(text, STREAMED).ranges, drafted(text, STREAMED)
    moved = {name: e for name, e in draft.recipe.exponents.items() if name in before}
    assert moved.keys() >= {"a", "b", "c"}
    for name, e in moved.items():
        assert draft.ranges[name].absmax == before[name].absmax * 2.0**-e
    assert before["b"].headroom > 2.0


def test_an_eps_that_its_exponent_made_vanish_is_looked_at_again() -> None:
    draft = drafted(WITH_EPS, STREAMED)
    assert [edit.by for edit in draft.recipe.edits] == [RESCALE, "raise-eps"]
    assert (draft.remaining, draft.recipe.wide) == ((), {})
    assert figure(WITH_EPS, draft, STREAMED) > 60.0


def test_a_stream_too_wide_for_one_exponent_is_pinned() -> None:
    """One square 2⁴⁰ times the others: whatever the exponent, an end of the sum has no room, though nothing overflows on calibration."""
    values = normal(64, 64) * 2.0**-10
    values[0, 0] = 2.0**10
    draft = drafted(OUTLIER, {"x": values})
    assert draft.recipe.exponents
    assert draft.remaining == ()
    assert set(draft.recipe.wide) == {"Add_c", "Mul_y"}
    assert draft.recipe.reasons["Add_c"] == TIGHT


def test_the_users_pins_are_wide_and_say_so() -> None:
    draft = drafted(ABSORBED, {"x": normal(4, 8)}, pin=("Tanh*",))
    assert draft.recipe.wide == {"Tanh_y": "fp32"}
    assert draft.recipe.reasons == {"Tanh_y": "the user pins it"}


def test_islands_are_in_the_format_asked_for_where_operators_have_it() -> None:
    text = "g (float[8] x) => (float[8] y) { a = Neg (x) y = Softplus (a) }"
    draft = drafted(text, {"x": normal(8)}, pin=("*",), wide=half.Wide.BF16)
    assert draft.recipe.wide == {"Neg_a": "bf16", "Softplus_y": "fp32"}


def test_whoever_is_wide_for_its_neighbours_says_so() -> None:
    text = """g (float[64] x) => (float[64] b, float[64] y) <float k = {1000}> {
        a = Add (x, k) b = Sub (a, k) c = Neg (b) d = Add (c, k) y = Sub (d, k) }"""
    draft = drafted(text, {"x": normal(64)})
    assert set(draft.recipe.wide) == {"Add_a", "Sub_b", "Neg_c", "Add_d", "Sub_y"}
    assert draft.recipe.reasons["Neg_c"] == NEIGHBOUR
    assert "cancel" in draft.recipe.reasons["Sub_b"]
    assert {hazard.kind for hazard in draft.remaining} == {Kind.CANCEL}


def test_more_rewrites_go_on_from_a_draft() -> None:
    draft = drafted(LOG, POSITIVE, without=frozenset({"raise-eps@Add_a@eps"}))
    (edit,) = drafted(LOG, POSITIVE).recipe.rewrites
    more = designer(LOG, POSITIVE).extended(draft, [edit])
    assert (more.recipe.rewrites, more.recipe.wide) == ((edit,), {})
    assert figure(LOG, more, POSITIVE) > 60.0
