"""Values of each kind stay in their bounds and have the structure they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp16fix.inputs.draw import Filling, draw, image

SHAPES = st.lists(st.integers(1, 5), max_size=3).map(tuple)


def drawn(kind: Filling, shape: tuple[int, ...], limit: int = 8, *, padded: bool = False, seed: int = 0) -> np.ndarray:
    return draw(kind, shape, limit, np.random.default_rng(seed), padded=padded)


@given(st.sampled_from([Filling.IDS, Filling.SMALL, Filling.STEPS, Filling.POSITIONS, Filling.SEGMENTS]), SHAPES, st.integers(1, 20))
def test_integers_stay_below_their_limit(kind: Filling, shape: tuple[int, ...], limit: int) -> None:
    values = drawn(kind, shape, limit)
    assert values.shape == shape
    assert values.min() >= 0
    assert values.max() < limit


@given(SHAPES, st.booleans(), st.integers(0, 99))
def test_masks_are_ones_then_zeros(shape: tuple[int, ...], padded: bool, seed: int) -> None:
    mask = drawn(Filling.MASK, shape, padded=padded, seed=seed)
    assert mask.shape == shape
    assert set(np.unique(mask)) <= {0.0, 1.0}
    if shape:
        assert (np.diff(mask, axis=-1) <= 0).all()
        assert (mask[..., 0] == 1).all(), "no row is masked in full"
        assert (mask[..., -1] == (0.0 if padded and shape[-1] > 1 else 1.0)).all()


def test_an_additive_mask_is_zero_where_the_mask_is_one() -> None:
    assert np.array_equal(drawn(Filling.ADDITIVE, (3, 1, 1, 8), padded=True), (drawn(Filling.MASK, (3, 1, 1, 8), padded=True) - 1) * 1e4)


@pytest.mark.parametrize(("kind", "expected"), [(Filling.POSITIONS, [0, 1, 2, 3, 4, 0]), (Filling.SEGMENTS, [0, 0, 0, 1, 1, 1])])
def test_sequences(kind: Filling, expected: list[int]) -> None:
    assert drawn(kind, (2, 6), 5).tolist() == [expected] * 2


def test_lengths_are_full_or_shorter() -> None:
    assert drawn(Filling.LENGTHS, (4,), 16).tolist() == [16] * 4
    assert (drawn(Filling.LENGTHS, (40,), 16, padded=True) < 16).all()
    assert (drawn(Filling.LENGTHS, (40,), 16, padded=True) >= 4).all()


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_images_lie_in_zero_to_one(channels: int, height: int, width: int, seed: int) -> None:
    picture = image(np.random.default_rng(seed), channels, height, width)
    assert picture.shape == (channels, height, width)
    assert picture.min() >= 0.0
    assert picture.max() <= 1.0


def test_images_are_smooth_and_have_contrast() -> None:
    picture = drawn(Filling.IMAGE, (2, 3, 64, 64))
    steps = np.abs(np.diff(picture, axis=-1))
    assert np.median(steps) < 0.02, "neighbours are alike; white noise would give 0.29"
    assert picture.std() > 0.1
    assert not np.array_equal(picture[0], picture[1])
    assert np.array_equal(np.moveaxis(drawn(Filling.IMAGE_LAST, (2, 64, 64, 3)), 3, 1), picture)


def test_normals_and_flags() -> None:
    normal = drawn(Filling.NORMAL, (1000,))
    assert abs(float(normal.mean())) < 0.1
    assert abs(float(normal.std()) - 1) < 0.1
    assert {bool(flag) for flag in drawn(Filling.FLAGS, (50,))} == {True, False}
    assert drawn(Filling.IMAGE, (0, 3, 4, 4)).shape == (0, 3, 4, 4)
