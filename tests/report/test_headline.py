from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from fp16fix.report.causes import causes
from fp16fix.report.headline import cards, headline, screen, tone
from fp16fix.report.outcome import Asked, EngineFacts, Outcome
from fp16fix.report.strain import strain
from fp16fix.verdict.condition import Condition
from fp16fix.verdict.verdict import Figures
from tests.report.outcomes import outcome


def figures(name: str, sqnr_db: float, nonfinite: int = 0, max_abs: float = 0.1) -> Figures:
    return Figures(name, sqnr_db, max_abs, 0.1, 0.9, nonfinite)


def made(before: Sequence[Figures], after: Sequence[Figures], *own: Asked) -> Outcome:
    names = {each.output: Asked(each.output, 50.0, None, None, None) for each in (*before, *after)}
    base = outcome(asked=tuple((names | {each.output: each for each in own}).values()))
    return replace(base, before=tuple(before), verdict=replace(base.verdict, outputs=tuple(after)))


PIXELS = Asked("b", 50.0, 0.25, None, None, "px")


def lines(found: Outcome) -> dict[str, str]:
    return {each.label: each.text for each in screen(found, causes(found))}


def test_the_big_error_is_that_of_the_output_plain_fp16_gets_worst() -> None:
    card = cards(made([figures("a", 60), figures("b", 10)], [figures("a", 61), figures("b", 70)]))[0]
    assert (card.was, card.value) == ("10.0 dB", "70.0 dB")
    assert "b, the one of 2 outputs that matters most" in card.notes
    assert "least SQNR after repair: a, 61.0 dB" in card.notes


def test_an_output_in_pixels_is_told_in_pixels_however_good_its_decibels_are() -> None:
    off = made([figures("a", 8.0), figures("b", 62.0, max_abs=1.3)], [figures("a", 58.0), figures("b", 62.0, max_abs=1.05)], PIXELS)
    failed = replace(off, verdict=replace(off.verdict, verified=False, outputs=tuple(off.verdict.outputs)))
    card = cards(failed)[0]
    assert (card.label, card.was, card.value) == ("Largest error", "1.3 px", "1.05 px")
    said = lines(failed)
    assert "b: off by up to 1.3 px (62.0 dB), wanted at most 0.25 px and at least 50 dB" in said["Wrong in plain FP16"]
    assert "Beyond their bounds, too: a." in said["Wrong in plain FP16"]
    assert "b: off by up to 1.05 px (62.0 dB), 4.2 times what is allowed." in said["Left"]


def test_of_outputs_that_pass_the_one_with_a_bound_of_its_own_is_told_and_the_nearest_beside_it() -> None:
    found = lines(made([figures("a", 1.0), figures("b", 20.0)], [figures("a", 51.0), figures("b", 70.0, max_abs=0.01)], PIXELS))
    assert found["Left"].startswith("b: off by up to 0.01 px (70.0 dB), 10% of what is allowed.")
    assert "Of the other outputs a is nearest to its bound: 51.0 dB" in found["Left"]


@pytest.mark.parametrize(
    ("figures_", "asked", "used"),
    [
        (figures("b", 44.0), PIXELS, 2.0),
        (figures("b", 50.0, max_abs=1.0), PIXELS, 4.0),
        (figures("b", 80.0, nonfinite=1), PIXELS, math.inf),
        (figures("b", math.inf, max_abs=0.0), replace(PIXELS, max_abs=0.0), 0.0),
        (figures("b", 10.0), replace(PIXELS, sqnr_db=None, max_abs=None, cosine=0.975), 2.0),
        (figures("b", 10.0), replace(PIXELS, sqnr_db=None, max_abs=None, max_rel=0.4), 0.25),
        (figures("b", 10.0), None, 0.0),
    ],
)
def test_a_tolerance_is_used_up_as_far_as_the_tightest_bound_says(figures_: Figures, asked: Asked | None, used: float) -> None:
    assert strain(figures_, asked) == pytest.approx(used, rel=0.01)


def test_nan_is_worse_than_any_noise() -> None:
    card = cards(made([figures("a", 60, nonfinite=1), figures("b", -20)], [figures("a", 61), figures("b", 60.5)]))[0]
    assert (card.was, card.value) == ("1 lost", "61.0 dB")


def test_a_model_that_was_right_all_along() -> None:
    found = made([figures("a", math.inf)], [figures("a", math.inf)])
    assert (cards(found)[0].was, cards(found)[0].value) == ("exact", "exact")
    assert lines(found)["Wrong in plain FP16"].startswith("Nothing that breaks a bound.")


def test_nothing_compared_is_said_not_invented() -> None:
    assert cards(made([], []))[0].value == "–"
    assert lines(made([], []))["Wrong in plain FP16"] == "Not measured."


@pytest.mark.parametrize("status", ["built, not executed", "executed", "not built"])
def test_the_engine_says_exactly_its_status(status: str) -> None:
    found = {card.label: card for card in cards(outcome(engine=EngineFacts(status)))}
    assert found["Engine"].value == status
    assert found["Engine"].notes == ()


def test_counts_come_from_the_outcome() -> None:
    found = {card.label: card for card in cards(outcome())}
    assert found["FP32 nodes"].value == "1"
    assert "of 212 float nodes" in found["FP32 nodes"].notes
    assert found["Casts"].value == "3"
    assert found["Hazards"].value == f"{len(outcome().hazards)}"


def test_the_first_screen_says_what_was_wrong_why_what_was_done_and_what_is_left() -> None:
    said = lines(outcome())
    assert list(said) == ["Wrong in plain FP16", "Cause", "Done", "Left"]
    assert "image: 49,152 lost, wanted at least 50 dB" in said["Wrong in plain FP16"]
    assert said["Cause"].startswith("Overflow in Mul at 12 places. Furthest: ")
    assert "2 rewrites" in said["Done"]
    assert "1 node kept wide" in said["Done"]
    assert "1 of 212 float nodes run in FP32" in said["Done"]
    assert "2 hazards left as they are." in said["Left"]


@pytest.mark.parametrize(("verified", "said"), [(True, "Nothing had to be changed."), (False, "Nothing was changed: no edit was found")])
def test_nothing_changed_is_good_news_only_where_the_verdict_passes(verified: bool, said: str) -> None:
    base = outcome()
    bare = replace(base, recipe=type(base.recipe)(), verdict=replace(base.verdict, verified=verified))
    assert lines(bare)["Done"].startswith(said)


@pytest.mark.parametrize(
    ("changes", "colour", "word"),
    [
        ({"warnings": ()}, "good", "Verified"),
        ({}, "warn", "Verified, with 1 warning"),
        (
            {"warnings": (), "conditions": (Condition("fp32-accumulation", (), "why"),)},
            "warn",
            "Verified where products accumulate in FP32",
        ),
        ({"warnings": (), "samples": replace(outcome().samples, made_up=True)}, "warn", "Verified on made-up inputs only"),
        ({"verdict": replace(outcome().verdict, verified=False)}, "bad", "Not verified"),
        ({"engine": EngineFacts("built, not executed", problems=("a pin is lost",))}, "bad", "Not verified"),
    ],
)
def test_conditions_and_warnings_colour_the_verdict(changes: dict[str, Any], colour: str, word: str) -> None:
    found = outcome(**changes)
    assert (tone(found), headline(found)) == (colour, word)


def test_a_reason_that_no_output_breaks_stands_first_in_what_is_left() -> None:
    base = outcome()
    failed = replace(base, verdict=replace(base.verdict, verified=False, reasons=("100% of the FLOPs would run in FP32",)))
    assert lines(failed)["Left"].startswith("100% of the FLOPs would run in FP32. image ")


def test_the_engines_own_verdict_is_what_is_told_where_it_ran() -> None:
    base = made([figures("b", 1.0)], [figures("b", 70.0)])
    ran = replace(base, engine=replace(base.engine, verdict=replace(base.verdict, verified=False, outputs=(figures("b", 12.0),))))
    assert cards(ran)[0].value == "12.0 dB"
    assert lines(ran)["Left"].startswith("b: 12.0 dB")


def test_the_worst_sample_and_entry_stand_in_the_headline() -> None:
    assert "image in sample night, entry 2 of axis 1: 56.6 dB" in lines(outcome())["Left"]
    assert "worst in sample night, entry 2 of axis 1" in cards(outcome())[0].notes
