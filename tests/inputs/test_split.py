"""Calibration and held-out samples: disjoint, complete, spread evenly, the same every time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp16fix.errors import ConfigError
from fp16fix.inputs.check import Contract
from fp16fix.inputs.made import Made
from fp16fix.inputs.sample import Samples
from fp16fix.inputs.split import split


def samples(count: int) -> Samples:
    return Samples(tuple(Made((), {}, 0, index) for index in range(count)), Contract(()), "test", notes=("n",))


def indices(part: Samples) -> list[int]:
    return [int(sample.name[5:-1]) for sample in part]


@given(st.integers(2, 60), st.floats(0.01, 0.99))
def test_a_partition_with_something_on_each_side(count: int, fraction: float) -> None:
    calibration, held_out = split(samples(count), fraction)
    kept, out = indices(calibration), indices(held_out)
    assert sorted(kept + out) == list(range(count))
    assert kept == sorted(kept)
    assert 0 in kept
    assert out
    assert abs(len(out) - count * fraction) <= 1
    gaps = [b - a for a, b in itertools.pairwise(out)]
    assert not gaps or max(gaps) - min(gaps) <= 1, "spread evenly"
    assert not calibration.shared
    assert not held_out.shared


def test_half_is_every_other_one() -> None:
    calibration, held_out = split(samples(8))
    assert indices(calibration) == [0, 2, 4, 6]
    assert indices(held_out) == [1, 3, 5, 7]
    assert held_out.notes == ("n",)


def test_one_sample_serves_both_and_says_so() -> None:
    calibration, held_out = split(samples(1))
    assert indices(calibration) == indices(held_out) == [0]
    assert calibration.shared
    assert held_out.shared


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_is_between_0_and_1(fraction: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        split(samples(4), fraction)
