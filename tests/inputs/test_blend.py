"""Blends: like the samples, none of them, and the same ones for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.inputs.blend import Blends, blended
from tests.models import normal


def sample(seed: int, length: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "audio": np.asarray(100.0 + normal(2, length, seed=seed), np.float32),
        "mask": np.asarray(rng.integers(0, 2, (2, length)), np.float32),
        "ids": np.asarray(1000 * seed + np.arange(2 * length).reshape(2, length), np.int64),
        "size": np.asarray(length, np.int64),
    }


def made(
    count: int = 40, octaves: float = 2.0, seed: int = 0, lengths: tuple[int, ...] = (6, 6, 6)
) -> tuple[Blends, list[dict[str, np.ndarray]]]:
    samples = [sample(number, length) for number, length in enumerate(lengths)]
    return blended(samples, [f"s{number}" for number in range(len(samples))], count, octaves, seed), samples


def test_floats_are_between_two_samples_and_half_of_them_quieter() -> None:
    blends, samples = made()
    loud = quiet = 0
    for blend, found, name in zip(blends.blends, blends, blends.names, strict=True):
        one, other = samples[blend.one]["audio"], samples[blend.other]["audio"]
        assert blend.one != blend.other
        scaled = found["audio"] / np.float32(2.0**blend.octaves)
        assert (scaled >= np.minimum(one, other) - 1e-4).all()
        assert (scaled <= np.maximum(one, other) + 1e-4).all()
        assert not np.array_equal(scaled, one)
        assert found["audio"].dtype == np.float32
        assert -2.0 <= blend.octaves <= 0.0
        loud, quiet = loud + (blend.octaves == 0.0), quiet + (blend.octaves < -0.1)
        assert name.startswith(f"s{blend.one} + s{blend.other}")
        assert ("quieter" in name) == (blend.octaves < 0.0)
    assert loud == 20
    assert quiet > 10


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


def test_a_sample_of_another_shape_blends_with_itself_only_quieter() -> None:
    blends, samples = made(lengths=(6, 6, 4))
    alone = [(blend, found) for blend, found in zip(blends.blends, blends, strict=True) if 2 in (blend.one, blend.other)]
    assert alone
    for blend, found in alone:
        assert blend.one == blend.other == 2
        assert blend.octaves < 0.0
        np.testing.assert_allclose(found["audio"], samples[2]["audio"] * 2.0**blend.octaves, rtol=1e-5)
        np.testing.assert_array_equal(found["ids"], samples[2]["ids"])


def test_one_sample_of_whole_numbers_has_no_blend() -> None:
    assert len(blended([{"ids": np.arange(8)}], ["only"], 8, 2.0, 0)) == 0
    assert len(blended([{"x": normal(4)}], ["only"], 8, 0.0, 0)) == 0


@pytest.mark.parametrize(("seed", "same"), [(0, True), (1, False)])
def test_blends_are_reproducible_by_seed(seed: int, same: bool) -> None:
    assert (made()[0].blends == made(seed=seed)[0].blends) is same
