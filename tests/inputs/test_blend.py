"""Blends: like the samples, none of them, and the same ones for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.inputs.blend import Blends, blended
from tests.models import normal


def sample(seed: int, length: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "audio": np.asarray((1 + seed) * (100.0 + normal(2, length, seed=seed)), np.float32),
        "mask": np.asarray(rng.integers(0, 2, (2, length)), np.float32),
        "ids": np.asarray(1000 * seed + np.arange(2 * length).reshape(2, length), np.int64),
        "size": np.asarray(length, np.int64),
    }


def made(count: int = 40, seed: int = 0, lengths: tuple[int, ...] = (6, 6, 6)) -> tuple[Blends, list[dict[str, np.ndarray]]]:
    samples = [sample(number, length) for number, length in enumerate(lengths)]
    return blended(samples, [f"s{number}" for number in range(len(samples))], count, seed), samples


def test_floats_are_of_two_samples_and_as_loud_as_a_third() -> None:
    blends, samples = made()
    assert len(blends) == 40
    for blend, found, name in zip(blends.blends, blends, blends.names, strict=True):
        one, other, loud = (samples[number]["audio"] for number in (blend.one, blend.other, blend.loud))
        assert blend.one != blend.other
        assert np.isclose(np.sqrt(np.square(found["audio"]).mean()), np.sqrt(np.square(loud).mean()), rtol=1e-5)
        mixed = blend.weight * one + (1 - blend.weight) * other
        np.testing.assert_allclose(found["audio"] / found["audio"].max(), mixed / mixed.max(), rtol=1e-4)
        assert not np.array_equal(found["audio"], one)
        assert found["audio"].dtype == np.float32
        assert name == f"s{blend.one} + s{blend.other}"
    assert {(blend.one, blend.other) for blend in blends.blends} == {(i, j) for i in range(3) for j in range(3) if i != j}
    assert {blend.loud for blend in blends.blends} == {0, 1, 2}
    silent = blended([{"x": np.zeros(3, np.float32)}, {"x": np.full(3, 0.5, np.float32)}], ["a", "b"], 16, 0)
    assert all(np.isfinite(found["x"]).all() for found in silent)


def test_whole_numbers_are_spliced_and_never_averaged() -> None:
    blends, samples = made()
    for blend, found in zip(blends.blends, blends, strict=True):
        one, other = samples[blend.one], samples[blend.other]
        for name in ("ids", "mask"):
            assert ((found[name] == one[name]) | (found[name] == other[name])).all()
            assert found[name].dtype == one[name].dtype
        assert found["size"] == one["size"]
    mixed = [found for blend, found in zip(blends.blends, blends, strict=True) if len({int(v) // 1000 for v in found["ids"].flat}) == 2]
    assert len(mixed) > 20, "most have something of both"


def test_samples_blend_with_those_of_their_shapes() -> None:
    blends, _ = made(lengths=(6, 6, 4, 5, 5))
    pairs = {frozenset((blend.one, blend.other)) for blend in blends.blends}
    assert pairs == {frozenset((0, 1)), frozenset((3, 4))}
    assert len(made(lengths=(6, 5, 4))[0]) == len(made(lengths=(6,))[0]) == 0


@pytest.mark.parametrize(("seed", "same"), [(0, True), (1, False)])
def test_blends_are_reproducible_by_seed(seed: int, same: bool) -> None:
    assert (made()[0].blends == made(seed=seed)[0].blends) is same
