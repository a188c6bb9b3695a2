from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fp16fix.location.triage import Fault, Triage
from fp16fix.report.located_view import HEADLINES, PINS, answer, births, cards, flaky, least, located_view, story
from fp16fix.report.view import CAP
from fp16fix.search.shrink import Minimal
from tests.report.locations import culprit, healthy, located, minimal


def test_every_fault_has_a_headline_and_only_a_harmless_one_is_good() -> None:
    assert set(HEADLINES) == set(Fault)
    assert [fault for fault, (tone, _) in HEADLINES.items() if tone == "good"] == [Fault.ELSEWHERE, Fault.ENGINE_RIGHT]


def test_the_story_names_the_worst_and_what_it_does() -> None:
    (verdict, rest) = story(located())
    assert verdict == located().triage.verdict
    assert rest == f"Error is born in 4 nodes; {located().culprits[0].node} alone does 88% of the damage."
    (only,) = story(healthy())
    assert only == healthy().triage.verdict


def test_a_node_in_a_body_is_told_with_its_place() -> None:
    (_, rest) = story(located(culprits=(culprit("body/Mul", within="/loop"),)))
    assert "body/Mul in the body of /loop alone does 50%" in rest


def test_births_that_do_no_harm_are_not_called_damage() -> None:
    (_, rest) = story(replace(healthy(), culprits=(culprit("n", 1.0, 58.0),)))
    assert "damage" not in rest
    found = {card.label: card for card in cards(replace(healthy(), culprits=(culprit("n", 1.0, 58.0),)))}
    assert "Culprits" not in found
    assert found["Births of error"].tone == "calm"


def test_the_big_numbers() -> None:
    found = {card.label: card for card in cards(located())}
    assert (found["Culprits"].value, found["Culprits"].tone) == ("4", "bad")
    assert found["Culprits"].notes == ("1 overflow, 1 swamp, 1 cancel, 1 vanish",)
    assert found["Explained"].value == "97%"
    assert found["Only carry it on"].value == f"{len(located().carried)}"
    assert found["Minor births"].value == "2"
    assert (found["Least in FP32"].value, found["Least in FP32"].notes) == ("2", ("none can be left out", "17 oracle calls"))
    assert [card.label for card in cards(healthy())] == ["Births of error", "Only carry it on"]


@pytest.mark.parametrize(
    ("minimal", "value", "said"),
    [
        (minimal("a", calls=3), "1", "no single one can be left out"),
        (minimal("a", complete=False, stopped="the budget is spent", calls=3), "1", "the search was stopped (the budget is spent)"),
        (minimal(), "0", "Nothing: the oracle is content with all-FP16."),
        (minimal(stopped="not even all nodes in FP32 satisfy the oracle"), "–", "No answer: not even all nodes"),
    ],
)
def test_a_minimal_set_is_worth_what_its_search_was(minimal: Minimal, value: str, said: str) -> None:
    assert said in least(minimal)
    assert {card.label: card.value for card in cards(located(minimal=minimal))}["Least in FP32"] == value
    assert flaky(minimal) == ""


def test_a_flaky_oracle_is_said() -> None:
    assert flaky(minimal("a", calls=3, flaky=2)).startswith("The oracle is flaky: repeated runs of 2 candidates disagreed")


@pytest.mark.parametrize(
    ("repair", "found"),
    [
        ("layernorm, eps-raised", ("good", "layernorm, eps-raised", "")),
        ("exponent -16", ("good", "exponent -16", "")),
        ("pin bf16", ("warn", "pin bf16", "")),
        ("none: harmless", ("calm", "harmless", "")),
        ("none needed", ("calm", "none needed", "")),
        ("none: no room: none at all", ("bad", "none", "no room: none at all")),
    ],
)
def test_an_answer_has_a_tone(repair: str, found: tuple[str, str, str]) -> None:
    assert answer(repair) == found


def test_ranks_go_on_through_the_minor_births() -> None:
    found = located_view(located())
    assert [row.rank for row in found.culprits.rows] == [1, 2, 3, 4]
    assert [row.rank for row in found.minor.rows] == [5, 6]
    assert [row.tone for row in found.culprits.rows] == ["bad", "warn", "warn", "bad"]
    assert [row.share for row in (*found.culprits.rows, *found.minor.rows)] == ["88%", "10%", "2%", "<1%", "<1%", "0%"]


@pytest.mark.parametrize(("share", "width"), [(0.25, 25.0), (math.nan, 0.0), (math.inf, 0.0), (-1.0, 0.0), (1.5, 100.0)])
def test_a_meter_stays_a_meter(share: float, width: float) -> None:
    (row,) = located_view(located(culprits=(culprit("n", share),))).culprits.rows
    assert row.percent == width


def test_every_birth_is_marked_and_says_what_it_is() -> None:
    made = located()
    found = located_view(made).curve.marks
    assert len(found) == sum(step.born for step in made.along) == 6
    assert [each.tone for each in found] == ["minor", "minor", "born", "born", "born", "born"]
    assert found[2].title == f"1. {made.culprits[0].node} (Pow): overflow, 70.0 dB → lost"
    assert found[5].title == f"4. body/Mul (Mul) in the body of {made.culprits[3].within}: vanish, 70.0 dB → 31.0 dB"


def test_a_birth_in_a_body_of_a_body_is_marked_where_the_main_graph_has_it() -> None:
    made = located()
    inner = replace(made, culprits=(culprit("deep/Mul", within="inner If"),), minor=())
    loop = made.culprits[3].within
    assert births(inner)[loop] == ("born", f"{loop} (Pow): error is born in its body", "")


def test_long_lists_are_capped() -> None:
    pins = tuple(f"pin{i}" for i in range(PINS + 3))
    many = tuple(culprit(f"n{i}", 0.001, pins=pins) for i in range(CAP + 5))
    found = located_view(located(5000, culprits=many, minimal=minimal(*tuple(f"n{i}" for i in range(CAP + 1)))))
    assert (len(found.culprits.rows), found.culprits.left) == (CAP, 5)
    assert found.culprits.rows[0].pins.left == 3
    assert (len(found.carried.rows), found.carried.total) == (CAP, len(located(5000).carried))
    assert found.pins.left == 1
    assert len(births(located(5000, culprits=many))) <= CAP + 10


def test_sets_that_only_hurt_together_are_capped_too() -> None:
    some = tuple((f"a{i}", *(f"b{n}" for n in range(PINS))) for i in range(CAP + 2))
    found = located_view(located(minimal=minimal("a", together=some))).together
    assert (len(found.rows), found.left, found.rows[0].left) == (CAP, 2, 1)
    assert located_view(healthy()).together.total == 0


def test_the_verdict_is_the_triage_of_the_location_word_for_word() -> None:
    made = located(triage=Triage(Fault.SUMS, "Right with FP32 sums.", ("one", "two")))
    found = located_view(made)
    assert (found.tone, found.story[0]) == ("warn", "Right with FP32 sums.")
