"""What passes with less: fewer pins on request, BF16 where an island needs range and not precision, and what is never thinned."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fp16fix.config import Config
from fp16fix.config.sections import Build
from fp16fix.hazards.hazard import Kind
from fp16fix.passes.design import Draft
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.recipe import RESCALE, Recipe
from fp16fix.progress import Silent, Stages
from fp16fix.search.draft import design
from fp16fix.search.thin import around, has_bf16, thinned
from fp16fix.search.trial import Trial
from fp16fix.search.trials import trials
from tests.models import model, normal
from tests.search.test_leave_out import HEAD, STREAM, given, wave
from tests.search.test_refine import ENDS

ALL = ("Mul_a", "Abs_b", "Add_c", "Mul_d", "Log_y")
POSITIONS = (
    HEAD
    + """g (float[64] x) => (float[64] y) <float o = {0}, float n = {64}, float d = {1}, float k = {0.25}> {
    r = Range (o, n, d) p = Mul (r, k) s = Sin (p) y = Add (x, s) }"""
)
RANGE = (
    HEAD
    + """g (float[4,8] x) => (float[4,8] y) <float w = {16384}, float v = {0.00006103515625}> {
    a = Mul (x, w)  b = Abs (a)  y = Mul (b, v) }"""
)
"""Overflows, and nothing else is wrong with it."""
MIXED = (
    HEAD
    + """g (float[4,8] x) => (float[4,8] y) <float w = {16384}, float v = {0.00006103515625}, float k = {4000}> {
    a = Mul (x, w)  c = Mul (a, v)  s = Neg (c)  d = Add (s, k)  y = Sub (d, k) }"""
)
"""One island: an overflow at one end, a cancellation at the other."""


def thin(found: Evidence, names: Iterable[str] = (), without: frozenset[str] = frozenset()) -> tuple[Draft, Recipe, list[Trial]]:
    """A draft (with other pins if any are named), the recipe that thinning makes of it, and what was tried on the way."""
    stages = Stages(Silent())
    draft = design(found, stages, without)
    recipe = draft.pinned(dict.fromkeys(names, "fp32")) if names else draft.recipe
    with trials(found, stages) as tried:
        tried.widen()
        assert tried.verdict(recipe, "test", "to be thinned").verified
        less, stopped = thinned(tried, draft, recipe, stages)
        assert tried.verdict(less, "test", "thinned").verified
        assert stopped == ""
        return draft, less, [trial for trial in tried.told.values() if trial.search != "test"]


def narrow(tmp_path: Path, **keys: object) -> Evidence:
    """The stream, whose held-out sample needs a pin."""
    return given(tmp_path, STREAM, {"x": wave(1.0)}, {"x": wave(1e-8)}, **keys)


def bf16(tmp_path: Path, text: str, scale: float, **keys: Any) -> Evidence:
    """For a target that computes in BF16, with a bound that eight bits can reach."""
    samples = [{"x": normal(4, 8, scale=scale, seed=seed)} for seed in (0, 1)]
    return given(tmp_path, text, *samples, build={"targets": ("sm80",)}, tolerance={"sqnr_db": 35.0}, **keys)


def test_pins_are_left_alone_unless_fewer_are_asked_for(tmp_path: Path) -> None:
    _, less, told = thin(narrow(tmp_path), ALL)
    assert set(less.wide) == set(ALL)
    assert told == []


def test_only_pins_that_are_needed_stay_on_request(tmp_path: Path) -> None:
    found = narrow(tmp_path, search={"minimise": True})
    draft, less, told = thin(found, ALL)
    assert set(less.wide) == ENDS
    assert {trial.search for trial in told} == {"minimise"}
    with trials(found, Stages(Silent())) as tried:
        tried.widen()
        assert not tried.verdict(draft.pinned({}), "test", "none").verified


def test_what_the_user_pins_stays_though_it_is_not_needed(tmp_path: Path) -> None:
    _, less, _ = thin(narrow(tmp_path, search={"minimise": True}, pin=("Abs_*",)), ALL)
    assert set(less.wide) == {"Abs_b"} | ENDS


def test_islands_that_guard_longer_inputs_stay(tmp_path: Path) -> None:
    """FP16 holds 64 positions exactly, so the verdict would pass without any pin."""
    samples = [{"x": normal(64, seed=seed)} for seed in (0, 1)]
    found = given(tmp_path, POSITIONS, *samples, search={"minimise": True}, simplify=False)
    draft, less, told = thin(found)
    assert {hazard.kind for hazard in draft.remaining} == {Kind.SWAMP, Kind.COARSE}
    assert less.wide == draft.recipe.wide
    assert {"Mul_p", "Sin_s"} <= set(less.wide)
    assert [(trial.tried, trial.good) for trial in told] == [("0 of 0 pins", True)]


def test_islands_reach_from_pin_to_pin() -> None:
    chain = model("g (float[4] x) => (float[4] y) { a = Neg (x) b = Abs (a) c = Neg (b) d = Abs (c) y = Neg (d) }")
    pins = dict.fromkeys(("Neg_a", "Abs_b", "Abs_d", "Neg_y"), "fp32")
    assert around(chain, pins, {"Neg_a"}) == {"Neg_a", "Abs_b"}
    assert around(chain, pins, {"Neg_y"}) == {"Abs_d", "Neg_y"}
    assert around(chain, pins, {"Neg_c"}) == set(), "a hazard in FP16 holds no pin"


def test_range_without_precision_is_bf16(tmp_path: Path) -> None:
    draft, less, told = thin(bf16(tmp_path, RANGE, 30.0), without=frozenset({RESCALE}))
    assert {hazard.kind for hazard in draft.remaining} == {Kind.OVERFLOW}
    assert less.wide == dict.fromkeys(draft.recipe.wide, "bf16")
    assert {trial.search for trial in told} == {"formats"}


@pytest.mark.parametrize("keys", [{"wide": "fp32"}, {"pin": ("*",)}])
def test_fp32_stays_fp32_where_it_was_asked_for(tmp_path: Path, keys: dict[str, Any]) -> None:
    _, less, _ = thin(bf16(tmp_path, RANGE, 30.0, **keys), without=frozenset({RESCALE}))
    assert set(less.wide.values()) == {"fp32"}


def test_an_island_that_also_needs_precision_is_not_even_tried_in_bf16(tmp_path: Path) -> None:
    draft, less, told = thin(bf16(tmp_path, MIXED, 30.0), without=frozenset({RESCALE}))
    assert {hazard.kind for hazard in draft.remaining} == {Kind.OVERFLOW, Kind.CANCEL}
    assert around(draft.model, draft.recipe.wide, {"Sub_y"}) == set(draft.recipe.wide), "it is one island"
    assert (set(less.wide.values()), told) == ({"fp32"}, [])


@pytest.mark.parametrize(
    ("targets", "output", "expected"),
    [
        (("sm80",), "x.plan", True),
        (("sm80", "sm120"), "x.plan", True),
        (("sm75",), "x.plan", False),
        (("sm80", "sm75"), "x.plan", False),
        ((), "x.plan", True),
        ((), "x.onnx", False),
        ((), None, False),
        (("sm89",), "x.onnx", True),
    ],
)
def test_bf16_is_for_targets_that_have_it(targets: tuple[str, ...], output: str | None, expected: bool) -> None:
    config = Config(output=None if output is None else Path(output), build=Build(targets=targets))
    assert has_bf16(config) is expected
