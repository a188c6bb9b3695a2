from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from fp16fix.report.headline import cards, story
from fp16fix.report.outcome import EngineFacts, Outcome
from fp16fix.verdict.verdict import Figures
from tests.report.outcomes import outcome


def figures(name: str, sqnr_db: float, nonfinite: int = 0) -> Figures:
    return Figures(name, sqnr_db, 0.5, 0.1, 0.9, nonfinite)


def made(before: Sequence[Figures], after: Sequence[Figures]) -> Outcome:
    base = outcome()
    return replace(base, before=tuple(before), verdict=replace(base.verdict, outputs=tuple(after)))


def test_the_big_error_is_that_of_the_output_plain_fp16_gets_worst() -> None:
    card = cards(made([figures("a", 60), figures("b", 10)], [figures("a", 61), figures("b", 70)]))[0]
    assert (card.was, card.value) == ("10.0 dB", "70.0 dB")
    assert "b, worst of 2 outputs" in card.notes
    assert "worst after repair: a, 61.0 dB" in card.notes


def test_nan_is_worse_than_any_noise() -> None:
    card = cards(made([figures("a", 60, nonfinite=1), figures("b", -20)], [figures("a", 61), figures("b", 60.5)]))[0]
    assert (card.was, card.value) == ("1 lost", "61.0 dB")


def test_a_model_that_was_right_all_along() -> None:
    card = cards(made([figures("a", math.inf)], [figures("a", math.inf)]))[0]
    assert (card.was, card.value) == ("exact", "exact")
    assert not any("worst after" in note for note in card.notes)


def test_nothing_compared_is_said_not_invented() -> None:
    card = cards(made([], []))[0]
    assert card.value == "–"


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


def test_the_story_names_what_was_done() -> None:
    text = " ".join(story(outcome()))
    assert "image: 49,152 lost" in text
    assert "2 rewrites" in text
    assert "1 node kept wide" in text
    assert "1 of 212 float nodes run in FP32" in text


def test_the_story_of_a_model_that_needed_nothing() -> None:
    base = outcome()
    text = " ".join(story(replace(base, recipe=type(base.recipe)())))
    assert "Nothing had to be changed." in text


def test_the_worst_sample_and_entry_stand_in_the_headline() -> None:
    assert "Now the worst is image in sample night, entry 2 of axis 1: 56.6 dB" in " ".join(story(outcome()))
    assert "worst in sample night, entry 2 of axis 1" in cards(outcome())[0].notes
