"""The limits of the formats, as NumPy rounds."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fp16fix.half import BF16, FP16, FP32, INTEGERS, LARGEST, SMALLEST, SMALLEST_NORMAL, Format, octave


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


@pytest.mark.parametrize(("format_", "judge"), [(FP16, np.float16), (BF16, ml_dtypes.bfloat16), (FP32, np.float32)])
def test_the_ends_are_numpys(format_: Format, judge: type) -> None:
    facts: Any = ml_dtypes.finfo(judge)  # type: ignore[no-untyped-call]
    found = (format_.largest, format_.smallest_normal, format_.smallest, format_.itemsize)
    assert found == (float(facts.max), float(facts.tiny), float(facts.smallest_subnormal), facts.dtype.itemsize)


def test_every_integer_up_to_2048_is_there_and_the_next_is_not() -> None:
    counted = np.arange(INTEGERS + 2)
    np.testing.assert_array_equal(np.flatnonzero(counted.astype(np.float16) != counted), [INTEGERS + 1])


def test_below_the_normal_range_steps_stop_shrinking() -> None:
    spacing = [float(np.spacing(np.float16(value))) for value in (SMALLEST_NORMAL, SMALLEST_NORMAL / 2, 2 * SMALLEST_NORMAL)]
    assert spacing == [SMALLEST, SMALLEST, 2 * SMALLEST]


def test_head_room_and_octaves() -> None:
    assert FP16.headroom(LARGEST / 4) == 2.0
    assert FP16.headroom(2 * LARGEST) == -1.0
    assert (FP16.headroom(0.0), FP16.headroom(float("inf"))) == (np.inf, -np.inf)
    assert [octave(value) for value in (1.0, 1.99, 2.0, 0.5, 2.0**-24)] == [0, 0, 1, -1, -24]


def test_bf16_rounds_eight_times_as_coarsely_and_its_limits_are_roundings_own() -> None:
    def rounded(value: float) -> float:
        return float(np.float32(value).astype(ml_dtypes.bfloat16))

    assert (str(BF16), BF16.integers, BF16.coarseness, FP16.coarseness) == ("BF16", 256, 8.0, 1.0)
    assert BF16.coarseness_db == pytest.approx(18.06, abs=0.01)
    assert FP16.coarseness_db == 0.0
    assert rounded(BF16.overflow) == np.inf
    assert rounded(float(np.nextafter(np.float32(BF16.overflow), np.float32(0)))) == BF16.largest
    assert [rounded(float(k)) for k in (255, 256, 257, 258)] == [255.0, 256.0, 256.0, 258.0]
    assert [BF16.spacing(value) for value in (1.0, 256.0, 2.0**-130)] == [2.0**-7, 2.0, 2.0**-133]
    assert BF16.headroom(1e30) == pytest.approx(28.33, abs=0.01)
    assert [fmt.has_fp32_range for fmt in (FP16, BF16, FP32)] == [False, True, True]
    assert [fmt.narrow_sums for fmt in (FP16, BF16, FP32)] == [True, False, False]
