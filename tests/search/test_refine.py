"""More pins for a draft that fails: on top of its own, and never on what the user allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from fp16fix.graph.lower import lower
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Silent, Stages
from fp16fix.search import refine
from fp16fix.search.answer import Candidate, judged, settle_on
from fp16fix.search.draft import design
from fp16fix.search.refine import NEEDED, UNMENDED, Refinement, accuse, refined
from fp16fix.search.trials import Trials, trials
from tests.models import model, normal
from tests.search.test_leave_out import LOG, STREAM, given, wave

ENDS = {"Mul_a", "Mul_d", "Log_y"}
"""Where values of 1e-8 come in, and from where they are back."""


def more(tmp_path: Path, **keys: object) -> tuple[Recipe, bool]:
    """What refining makes of the stream's draft, whose held-out sample sinks into subnormals, and whether that passes."""
    found, stages = given(tmp_path, STREAM, {"x": wave(1.0)}, {"x": wave(1e-8)}, **keys), Stages(Silent())
    with trials(found, stages) as tried:
        tried.widen()
        draft = design(found, stages)
        assert not tried.verdict(draft.recipe, "test", "draft").verified
        recipe, stopped = refined(tried, draft, stages)
        assert stopped == ""
        return recipe, tried.verdict(recipe, "test", "refined").verified


def test_the_fewest_pins_and_why(tmp_path: Path) -> None:
    recipe, verified = more(tmp_path)
    assert verified
    assert set(recipe.wide) == ENDS
    assert recipe.reasons["Mul_a"] == NEEDED, "calibration accuses nobody"
    assert recipe.exponents, "the draft's changes stay"


def test_pins_of_the_draft_stay(tmp_path: Path) -> None:
    recipe, verified = more(tmp_path, pin=("Abs_*",))
    assert verified
    assert set(recipe.wide) == {"Abs_b"} | ENDS
    assert recipe.reasons["Abs_b"] == "the user pins it"


def test_what_the_user_allows_is_not_pinned_even_where_nothing_else_helps(tmp_path: Path) -> None:
    recipe, verified = more(tmp_path, allow=("Mul_a",))
    assert "Mul_a" not in recipe.wide
    assert not verified


def test_what_all_pins_do_not_mend_is_said_after_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FP16 at the interface alone misses the bound."""
    monkeypatch.setattr(refine, "alone", lambda *_, **__: pytest.fail("asked what each node does"))
    found = given(tmp_path, LOG, {"x": wave(1.0)}, {"x": wave(1.0)}, io="fp16", tolerance={"sqnr_db": 140.0})
    with trials(found, Stages(Silent())) as tried:
        answer = settle_on(tried, Stages(Silent()))
    assert answer.verdict.reasons[-1].startswith("no pins mend it, with 2 nodes in FP32, all that may be, it is still y: ")
    assert answer.verdict.reasons[-1].endswith(UNMENDED)
    (asked, *_) = (trial for trial in answer.derivation if trial.search == "refine")
    assert (asked.good, asked.wide) == (False, 2)


def test_what_passed_its_search_fails_for_another_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft before it may have been hopeless."""
    monkeypatch.setattr(Trials, "too_wide", lambda *_: "too much")
    found, stages = given(tmp_path, STREAM, {"x": wave(1.0)}, {"x": wave(1.0)}), Stages(Silent())
    with trials(found, stages) as tried:
        draft = design(found, stages)
        candidate = Candidate(draft, draft.recipe, tried.score(draft.recipe, "test", "draft"))
        tried.hopeless = "no pins mend it"
        assert candidate.score.good
        assert judged(tried, candidate).verdict.reasons == ("too much",)


def test_what_pins_mend_is_not_called_hopeless(tmp_path: Path) -> None:
    found, stages = given(tmp_path, STREAM, {"x": wave(1.0)}, {"x": wave(1e-8)}), Stages(Silent())
    with trials(found, stages) as tried:
        tried.widen()
        tried.hopeless = "said of a draft before"
        draft = design(found, stages)
        tried.verdict(draft.recipe, "test", "draft")
        assert refined(tried, draft, stages)[0].wide
        assert tried.hopeless == ""


TWO = """g (float[4,64] x) => (float[4,64] y) <float far = {1000}, float near = {30}, float tiny = {0.001}> {
    [loud] l = Add (x, far)  [worst] b = Sub (l, far)  [scaled] s = Mul (b, tiny)
    [mild] m = Add (x, near)  [felt] a = Sub (m, near)  [sum] y = Add (a, s) }"""


def test_what_shows_in_the_output_is_pinned_before_what_is_worst_where_it_is_born() -> None:
    subject, samples = model(TWO), [{"x": normal(4, 64, seed=seed)} for seed in range(2)]
    found = accuse(subject, lower(subject, {}), samples, {}, [node.name for node in subject.nodes()], 0)
    assert next(iter(found.because)) in {"loud", "worst"}, "32 times more is lost there"
    assert found.ranking[0] == "mild"
    assert found.ranking.index("mild") < found.ranking.index("loud")
    assert set(found.ranking) <= {node.name for node in subject.nodes()}


def test_what_leaves_too_much_in_fp32_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, stages = given(tmp_path, STREAM, {"x": wave(1.0)}, {"x": wave(1e-8)}), Stages(Silent())
    monkeypatch.setattr(Trials, "too_wide", lambda _, recipe: "too much" if "Mul_a" in recipe.wide else "")
    with trials(found, stages) as tried:
        search = Refinement(tried, design(found, stages), lambda: None)
        order = [frozenset({"Log_y"}), frozenset({"Log_y", "Mul_d"}), frozenset({"Mul_a"}), None]
        assert sorted({*order}, key=search.rank) == order
        assert [search.is_affordable(each) for each in order] == [True, True, False, False]
