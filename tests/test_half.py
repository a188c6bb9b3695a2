"""The limits of the formats, as NumPy rounds."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.half import FP16, FP32, INTEGERS, LARGEST, SMALLEST, SMALLEST_NORMAL, Format, headroom, octave


def half(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float16(value))


def test_infinity_begins_where_rounding_says_and_not_at_the_largest() -> None:
    assert half(FP16.overflow) == np.inf
    assert half(np.nextafter(FP16.overflow, 0.0)) == LARGEST == 65504.0
    assert FP16.overflow == 65520.0


def test_zero_begins_at_half_the_smallest() -> None:
    assert half(SMALLEST / 2) == 0.0
    assert half(np.nextafter(SMALLEST / 2, 1.0)) == SMALLEST == 2.0**-24


@pytest.mark.parametrize(("format_", "judge"), [(FP16, np.float16), (FP32, np.float32)])
def test_the_ends_are_numpys(format_: Format, judge: type[np.floating]) -> None:
    facts = np.finfo(judge)
    found = (format_.largest, format_.smallest_normal, format_.smallest, format_.itemsize)
    assert found == (float(facts.max), float(facts.tiny), float(facts.smallest_subnormal), facts.dtype.itemsize)


def test_every_integer_up_to_2048_is_there_and_the_next_is_not() -> None:
    counted = np.arange(INTEGERS + 2)
    np.testing.assert_array_equal(np.flatnonzero(counted.astype(np.float16) != counted), [INTEGERS + 1])


def test_below_the_normal_range_steps_stop_shrinking() -> None:
    spacing = [float(np.spacing(np.float16(value))) for value in (SMALLEST_NORMAL, SMALLEST_NORMAL / 2, 2 * SMALLEST_NORMAL)]
    assert spacing == [SMALLEST, SMALLEST, 2 * SMALLEST]


def test_head_room_and_octaves() -> None:
    assert headroom(LARGEST / 4) == 2.0
    assert headroom(2 * LARGEST) == -1.0
    assert (headroom(0.0), headroom(float("inf"))) == (np.inf, -np.inf)
    assert [octave(value) for value in (1.0, 1.99, 2.0, 0.5, 2.0**-24)] == [0, 0, 1, -1, -24]
