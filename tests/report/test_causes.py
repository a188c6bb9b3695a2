from __future__ import annotations

from dataclasses import replace

from fp16fix.hazards.hazard import Kind
from fp16fix.passes.recipe import Edit, Promise, Recipe, rescaling
from fp16fix.report.causes import causes, steps, summed
from fp16fix.report.outcome import Disposition, Outcome
from fp16fix.report.view import CAP, folded
from fp16fix.search.trial import Trial
from tests.report.outcomes import hazard, outcome


def norms(count: int) -> Outcome:
    """As many written-out norms, each with a square that overflows and a mean that does, and one residual stream."""
    edits, ended = [], []
    for n in range(count):
        nodes = (f"norm{n}/Mul", f"norm{n}/ReduceMean")
        edits.append(Edit("fuse-layernorm", f"norm{n}/Div", Promise.REORDERED, nodes, because="fused"))
        ended += [
            Disposition(replace(hazard(nodes[0], bits=3.0 + n)), "repaired", "fuse-layernorm (reordered): fused"),
            Disposition(replace(hazard(nodes[1], bits=1.0), op="ReduceMean"), "repaired", "fuse-layernorm (reordered): fused"),
        ]
    ended += [Disposition(hazard("add", bits=5.0), "rescaled", "stored as true × 2^-6 (exact)")]
    ended += [Disposition(hazard("act", Kind.VANISH), "harmless", "it does not matter")]
    return outcome(hazards=tuple(ended), recipe=Recipe((*edits, rescaling({"add_out": 6}))))


def test_six_norms_are_one_cause() -> None:
    found = causes(norms(6))
    assert [(each.what, each.places, each.end, each.by, len(each.hazards)) for each in found] == [
        ("overflow in Mul, ReduceMean", 6, "repaired", "fuse-layernorm", 12),
        ("overflow in Mul", 1, "rescaled", "", 1),
        ("vanish in Mul", 1, "harmless", "", 1),
    ]
    assert found[0].worst.hazard.node == "norm5/Mul", "the one that is furthest out stands for them"
    assert [each.number for each in found] == [1, 2, 3]


def test_what_is_left_comes_first_and_what_is_harmless_last() -> None:
    assert [each.end for each in causes(outcome())] == ["refused", "pinned", "repaired", "rescaled", "gone", "harmless"]


def test_the_first_screen_leaves_out_what_does_no_harm_and_counts_places_of_one_fault_once() -> None:
    assert list(summed(causes(norms(6)))) == ["overflow in Mul, ReduceMean at 6 places", "overflow in Mul at 1 place"]
    assert list(summed(causes(norms(6)), 1)) == ["overflow in Mul, ReduceMean at 6 places", "and 1 more"]


def test_every_cause_shows_a_row_however_many_the_first_one_has() -> None:
    folds = folded(causes(norms(CAP)))
    assert [(len(each.rows.rows), each.rows.left) for each in folds] == [(CAP, CAP), (1, 0), (1, 0)]
    assert [each.first for each in folds] == [1, CAP + 1, CAP + 2]


def test_the_derivation_says_of_every_step_what_it_gave() -> None:
    found = steps(norms(6), "image: 49,152 lost", "Verified; image: 56.6 dB")
    assert [(each.done, each.promise, each.gave) for each in found] == [
        ("Plain FP16", "", "image: 49,152 lost; 14 hazards"),
        ("fuse-layernorm × 6", "reordered", "answers 12 hazards"),
        ("1 tensor × a power of two", "exact", "answers 1 hazard; 1 multiplication left at run time"),
        ("All that rules, exponents and islands do", "", "44.2 dB (image: 44.2 dB, wanted 50 dB)"),
        ("refine: 1 recipe tried", "", f"{outcome().derivation[1].tried}: 56.6 dB, 1 wide node"),
        ("Verdict", "", "Verified; image: 56.6 dB"),
    ]


def test_a_search_that_found_nothing_says_so() -> None:
    tried = (Trial("draft", "nothing", False, 1.0, 0), Trial("refine", "a", False, 2.0, 1), Trial("refine", "b", None, 2.0, 1))
    found = steps(replace(norms(1), derivation=tried), "", "")
    assert [(each.done, each.gave, each.tone) for each in found if each.href == "#derivation"][1:] == [
        ("refine: 2 recipes tried", "none was good", "warn")
    ]
