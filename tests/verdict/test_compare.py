from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest

from fp16fix.config import Config
from fp16fix.verdict.entries import NOTHING
from fp16fix.verdict.gates import broken, judge
from fp16fix.verdict.verdict import Entry, Figures, SampleFigures

INF = math.inf


@dataclass(frozen=True)
class Bounds:
    sqnr_db: float | None = 50.0
    max_abs: float | None = None
    max_rel: float | None = None
    cosine: float | None = None


def figures(
    output: str = "boxes", sqnr_db: float = 60.0, max_abs: float = 1e-3, max_rel: float = 1e-3, cosine: float = 0.99999, **rest: int
) -> Figures:
    return Figures(output, sqnr_db, max_abs, max_rel, cosine, rest.get("lost", 0), rest.get("mismatches", 0))


def zeros(max_abs: float) -> Figures:
    """Figures of an all-zero reference with an error."""
    return figures(sqnr_db=-INF, max_abs=max_abs, max_rel=INF, cosine=0.0)


@pytest.mark.parametrize(
    ("found", "bounds", "sentence"),
    [
        (figures(sqnr_db=31.2), Bounds(), "boxes: 31.2 dB, wanted 50 dB"),
        (figures(sqnr_db=49.98), Bounds(), "boxes: 49.98 dB, wanted 50 dB"),
        (figures(sqnr_db=-INF, max_rel=1.0), Bounds(), "boxes: nothing is left of the signal, wanted 50 dB"),
        (figures("logits", lost=12), Bounds(), "logits: 12 elements lost: NaN or infinite on one side, and not the same on the other"),
        (figures("ids", INF, mismatches=1), Bounds(), "ids: 1 element of an integer, boolean or data-dependent output changed"),
        (figures(max_abs=0.5), Bounds(None, max_abs=0.1), "boxes: off by up to 0.5, wanted at most 0.1"),
        (figures(max_rel=0.5), Bounds(None, max_rel=0.1), "boxes: off by up to 0.5 of the largest value, wanted at most 0.1"),
        (figures(cosine=0.9), Bounds(None, cosine=0.99), "boxes: cosine similarity 0.900000, wanted at least 0.99"),
        (figures(sqnr_db=math.nan), Bounds(), "boxes: FP32 itself gives no finite value, so there is nothing to compare with"),
    ],
)
def test_a_broken_bound_is_one_sentence(found: Figures, bounds: Bounds, sentence: str) -> None:
    assert broken(found, bounds) == [sentence]


def sampled(**changes: Any) -> Figures:
    """Worst in the second of two samples."""
    right, wrong = (SampleFigures(name, 60.0, 1e-3, 1e-3, 0.99999) for name in ("monday", "tuesday"))
    return replace(figures(**changes), samples=(right, replace(wrong, **changes)))


@pytest.mark.parametrize(
    ("found", "bounds", "sentence"),
    [
        (sampled(sqnr_db=31.2), Bounds(), "boxes: 31.2 dB in sample tuesday, wanted 50 dB"),
        (replace(sampled(sqnr_db=31.2), entry=Entry(1, 4)), Bounds(), "boxes, entry 4 of axis 1: 31.2 dB in sample tuesday, wanted 50 dB"),
        (
            replace(sampled(), sqnr_db=31.2, entry=Entry(2, 4, 80)),
            Bounds(),
            "boxes, 80 entries from 4 on of axis 2: 31.2 dB, wanted 50 dB",
        ),
        (sampled(max_abs=0.5), Bounds(max_abs=0.1), "boxes: off by up to 0.5 in sample tuesday, wanted at most 0.1"),
        (sampled(max_rel=0.5), Bounds(max_rel=0.1), "boxes: off by up to 0.5 of the largest value in sample tuesday, wanted at most 0.1"),
        (sampled(cosine=0.9), Bounds(cosine=0.99), "boxes: cosine similarity 0.900000 in sample tuesday, wanted at least 0.99"),
    ],
)
def test_a_sentence_names_the_sample_and_the_entry(found: Figures, bounds: Bounds, sentence: str) -> None:
    assert broken(found, bounds) == [sentence]


def test_which_output_fails_is_data() -> None:
    """Names that begin like one another, and the worst first."""
    verdict = judge((figures("a", 40.0), figures("a: x", 60.0), figures("b", 20.0)), lambda _: Bounds(), "strict", "engine", 2)
    assert [each.output for each in verdict.failed] == ["b", "a"]
    assert verdict.worst is not None
    assert verdict.worst.output == "b"
    assert verdict.reasons == tuple(reason for each in verdict.outputs for reason in each.broken)


def test_what_no_figure_covers_is_said() -> None:
    found = replace(figures(), excluded=1, near_ties=2)
    verdict = judge((found,), lambda _: Bounds(), "strict", "engine", 2)
    assert verdict.verified
    assert verdict.notes == (
        "boxes: 1 element is NaN or infinite in FP32 and the same here; no other figure covers it",
        "boxes: 2 near ties decided otherwise: there FP32 itself decides by less than FP16's spacing",
    )


def test_bounds_hold_at_their_own_value() -> None:
    exact = figures(sqnr_db=50.0, max_abs=0.1, max_rel=0.2, cosine=0.9)
    assert broken(exact, Bounds(50.0, 0.1, 0.2, 0.9)) == []


def test_without_bounds_only_nonfinite_values_and_mismatches_fail() -> None:
    assert broken(figures(sqnr_db=-20.0, max_abs=9.0, max_rel=9.0, cosine=-1.0), Bounds(None)) == []
    assert len(broken(figures(lost=1, mismatches=1), Bounds(None))) == 2


def test_zeros_on_both_sides_pass() -> None:
    assert broken(figures(sqnr_db=INF, max_abs=0.0, max_rel=0.0, cosine=1.0), Bounds(cosine=0.99, max_rel=1e-3)) == []


def test_where_fp32_gives_zeros_an_error_below_what_fp16_holds_well_passes() -> None:
    strict = Bounds(max_rel=1e-3, cosine=0.99)
    assert broken(zeros(NOTHING / 2), strict) == []
    (sentence,) = broken(zeros(NOTHING), strict)
    assert "all zeros" in sentence
    assert "6.1e-05" in sentence


def test_where_fp32_gives_zeros_max_abs_decides_if_given() -> None:
    assert broken(zeros(0.01), Bounds(max_abs=0.1)) == []
    assert broken(zeros(1e-6), Bounds(max_abs=1e-7)) == ["boxes: off by up to 1e-06, wanted at most 1e-07"]


def test_each_output_is_held_to_its_own_bounds() -> None:
    config = Config.model_validate({"tolerance": {"sqnr_db": 50, "outputs": {"aux": {"sqnr_db": 20}}}})
    verdict = judge((figures("boxes", 30.0), figures("aux", 30.0)), config.tolerance.of, "strict", "engine", 4)
    assert not verdict.verified
    assert verdict.reasons == ("boxes: 30.0 dB, wanted 50 dB",)
    assert (verdict.oracle, verdict.profile, verdict.samples) == ("strict", "engine", 4)


def test_a_good_run_is_verified_and_a_run_of_nothing_is_not() -> None:
    good = (figures(),)
    assert judge(good, lambda _: Bounds(), "strict", "engine", 1).verified
    assert judge(good, lambda _: Bounds(), "strict", "engine", 0).reasons == ("nothing was compared: there are no samples",)
    assert judge((), lambda _: Bounds(), "strict", "engine", 3).reasons == ("nothing was compared: there are no outputs",)
