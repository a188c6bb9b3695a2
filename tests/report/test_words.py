from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp16fix.report import words
from fp16fix.verdict.verdict import Entry, Figures, SampleFigures, worst

FINE = Figures("y", 60.0, 0.125, 0.01, 0.9999, 0)
NAN = math.nan


@pytest.mark.parametrize(
    ("word", "value", "said"),
    [
        (words.decibels, 56.64, "56.6 dB"),
        (words.decibels, -3.0, "−3.0 dB"),
        (words.decibels, math.inf, "exact"),
        (words.decibels, -math.inf, "lost"),
        (words.decibels, None, "–"),
        (words.decibels, NAN, "–"),
        (words.number, 9.6e5, "9.6e+05"),
        (words.number, -0.5, "−0.5"),
        (words.number, -math.inf, "−∞"),
        (words.octaves, -3.94, "−3.9"),
        (words.octaves, 2.0, "+2.0"),
        (words.octaves, math.inf, "∞"),
        (words.octaves, -math.inf, "−∞"),
        (words.power, -14, "2⁻¹⁴"),
        (words.duration, 0.041, "41 ms"),
        (words.duration, 8.731, "8.73 s"),
        (words.duration, 200.0, "3 min 20 s"),
        (words.size, 1000, "1000 bytes"),
        (words.size, 6_047_932, "5.8 MiB"),
        (words.size, 2**41, "2048.0 GiB"),
        (words.visible, "a\u202eb\u2028c\x00d\te", "a\\u202eb\\u2028c\\u0000d\te"),
    ],
)
def test_a_figure_in_words(word: Callable[[Any], str], value: Any, said: str) -> None:
    assert word(value) == said


@given(st.floats())
def test_every_float_has_a_word(value: float) -> None:
    for word in (words.decibels, words.number):
        assert word(value)
        assert "nan" not in word(value)
        assert "inf" not in word(value)


@pytest.mark.parametrize(("part", "whole", "said"), [(0, 0, "0 %"), (0, 5, "0 %"), (1, 2, "50 %"), (4.1, 520.0, "0.79 %")])
def test_a_share_of_nothing_is_nothing(part: float, whole: float, said: str) -> None:
    assert words.share(part, whole) == said


@pytest.mark.parametrize(
    ("fraction", "said"),
    [(0.0, "0%"), (1e-12, "<1%"), (0.0099, "<1%"), (0.01, "1%"), (0.876, "88%"), (0.995, ">99%"), (1.0, "100%"), (math.nan, "–")],
)
def test_next_to_nothing_is_not_nothing(fraction: float, said: str) -> None:
    assert words.percent(fraction) == said


@pytest.mark.parametrize(
    ("figures", "error", "detail"),
    [
        (FINE, "60.0 dB", "off by at most 0.125"),
        (replace(FINE, lost=1), "1 lost", "1 element lost"),
        (replace(FINE, mismatches=1200), "1,200 differ", "1,200 elements changed"),
    ],
)
def test_an_error_is_told_by_what_is_worst_about_it(figures: Figures, error: str, detail: str) -> None:
    assert words.error(figures) == error
    assert words.detail(figures) == detail


def sampled(*figures: SampleFigures, **rest: Any) -> Figures:
    return replace(FINE, samples=figures, **rest)


QUIET, LOUD = SampleFigures("quiet", 60.0, 0.1, 0.1, 1.0), SampleFigures("loud", 70.0, 0.2, 0.1, 1.0)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (sampled(QUIET, LOUD), " in sample quiet"),
        (sampled(QUIET), ""),
        (sampled(QUIET, LOUD, sqnr_db=55.0, entry=Entry(2, 7)), " over all samples, entry 7 of axis 2"),
        (sampled(QUIET, LOUD, sqnr_db=70.0, entry=Entry(1, 4, 80)), " in sample loud, 80 entries from 4 on of axis 1"),
        (sampled(QUIET, LOUD, lost=3, sample="loud"), ", most in sample loud"),
        (sampled(replace(QUIET, sqnr_db=math.inf), replace(LOUD, sqnr_db=math.inf), sqnr_db=math.inf), ""),
    ],
)
def test_the_worst_sample_and_entry_are_named_where_there_is_a_choice(figures: Figures, said: str) -> None:
    assert words.place(figures) == said


def test_the_worst_output() -> None:
    noisy = replace(FINE, output="noisy", sqnr_db=-10.0)
    wrong = replace(FINE, output="wrong", mismatches=1)
    lost = replace(FINE, output="lost", lost=1)
    assert worst([FINE, noisy, wrong, lost]) == lost
    assert worst([FINE, noisy, wrong]) == wrong
    assert worst([FINE, noisy]) == noisy
    assert worst([]) is None
