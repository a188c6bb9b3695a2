"""Windows of exponents: where overflow begins, where head-room is, and where small values are lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fp16fix import half
from fp16fix.passes.rescale.classes import quieter
from fp16fix.passes.rescale.windows import EMPTY, WIDEST, Window, window_of_range, window_of_squares, window_of_values
from fp16fix.ranges.range import Range

SEEN = Range("t", (4,), low=-1.0, high=1.0, smallest=0.1, energy=1.0, noise=0.0, nonfinite=0)


@pytest.mark.parametrize("absmax", [65504.0, 65505.0, 1e6, 3.0, 1e-5, 3.4e38])
def test_the_largest_value_fits_from_hard_on_and_not_below(absmax: float) -> None:
    found = window_of_range(replace(SEEN, high=absmax, low=-absmax, energy=absmax**2 / 9), 2.0)
    assert absmax * 2.0**-found.hard <= half.LARGEST < absmax * 2.0 ** (1 - found.hard)
    assert found.soft == found.hard + 2


def test_a_stream_with_massive_outliers_is_judged_by_its_bulk() -> None:
    octaves = tuple((o, n) for o, n in ((-4, 400), (-3, 600), (-2, 300), (16, 1)))
    seen = replace(SEEN, high=2.0**16.5, energy=2.0**22, octaves=octaves)
    assert window_of_range(seen, 0.0).keep == -3 + 11
    assert window_of_range(replace(seen, octaves=()), 0.0).keep == 11 + 11


def test_only_what_is_reachable_is_asked_for_a_denominator() -> None:
    tiny = replace(SEEN, low=2.0**-30, high=2.0**-20, energy=2.0**-44)
    assert window_of_range(tiny, 2.0, delicate=True).keep == -30 + 14
    barely = replace(tiny, high=2.0**5, energy=1.0)
    assert window_of_range(barely, 2.0, delicate=True).keep == -30 + 24
    hopeless = replace(tiny, high=2.0**12, energy=1.0)
    assert window_of_range(hopeless, 2.0, delicate=True) == window_of_range(hopeless, 2.0)


def test_quieter_inputs_get_room_below_as_far_as_there_is_room_above() -> None:
    small = replace(SEEN, low=2.0**-12, high=2.0**-4, energy=2.0**-12)
    assert window_of_range(small, 2.0, delicate=True).quiet == WIDEST
    assert window_of_range(small, 2.0, delicate=True, down=4.0).quiet == -12 + 14 - 4
    assert window_of_range(small, 2.0, delicate=True, down=4.0).troubled
    assert window_of_range(small, 2.0, down=4.0).quiet == WIDEST, "nothing reads its small values"
    crowded = replace(small, high=2.0**12)
    found = window_of_range(crowded, 2.0, delicate=True, down=8.0)
    assert found.quiet == found.soft, "the largest value keeps its head-room"


@pytest.mark.parametrize(("floor", "octaves"), [(0.0, 4.0), (2.0**-20, 4.0), (2.0**-12, 2.0), (2.0**-9, 0.0)])
def test_below_an_eps_nothing_is_quieter(floor: float, octaves: float) -> None:
    assert quieter(replace(SEEN, low=2.0**-10), 4.0, floor) == octaves


@pytest.mark.parametrize("energy", [0.0, float("nan")])
def test_zeros_and_the_unknown_bind_nothing(energy: float) -> None:
    assert window_of_range(replace(SEEN, energy=energy), 2.0) == EMPTY
    assert window_of_values(np.zeros(3, np.float32)) == window_of_values(np.zeros(0, np.float32)) == EMPTY


def test_literals_that_mean_infinity_are_left_out() -> None:
    ordinary = np.asarray([1.0, -2.0, 70000.0], np.float32)
    extended = np.asarray([*ordinary, -np.inf, np.finfo(np.float32).min], np.float32)
    assert window_of_values(extended).hard == window_of_values(ordinary).hard == 1


def test_subnormal_weights_are_troubled_and_ordinary_ones_are_not() -> None:
    weights = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert not window_of_values(weights * 0.02).troubled
    assert window_of_values(weights * 1e-5).troubled
    assert not window_of_values(np.where(np.arange(1000) < 900, weights * 1e-9, weights)).troubled


def test_a_norm_below_256_needs_no_exponent_for_its_squares() -> None:
    assert window_of_squares(replace(SEEN, high=250.0, energy=1e4), 0.0).soft <= 0
    assert window_of_squares(replace(SEEN, high=260.0, energy=1e4), 0.0).soft == 1
    assert window_of_squares(replace(SEEN, high=260.0, energy=1e4), 0.0).hard == -WIDEST


def test_squares_want_head_room_and_must_not_vanish() -> None:
    found = window_of_squares(replace(SEEN, high=260.0, energy=1e4), 2.0)
    assert found.soft == 3, "an octave more for the square, and two on top"
    assert found.keep == 6 + 7, "100 · 2⁻¹³ squared is 2⁻¹⁴ and a little"


def test_trouble_is_overflow_missing_headroom_or_two_bits() -> None:
    assert not Window(0, 0, -1).troubled
    assert Window(0, 1, 5).troubled
    assert Window(0, 0, -2).troubled
