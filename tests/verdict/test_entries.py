"""Each entry of an axis on its own scale, where scales differ; and never where they do not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp16fix.verdict import entries
from fp16fix.verdict.channels import Axis, Channels
from fp16fix.verdict.entries import NOTHING
from fp16fix.verdict.metrics import Accumulator
from fp16fix.verdict.verdict import Entry, Figures

ALL = Channels((Axis(-3), Axis(-2), Axis(-1)))


def figures(pairs: list[tuple[Any, Any]], channels: Channels = ALL) -> Figures:
    accumulator = Accumulator(channels)
    for reference, candidate in pairs:
        accumulator.add(reference, candidate)
    return accumulator.figures("y")


def whole(pairs: list[tuple[Any, Any]]) -> float:
    return figures(pairs, Channels()).sqnr_db


def mixed(scales: list[float], noise_db: list[float], samples: int = 3, length: int = 64) -> list[tuple[np.ndarray, np.ndarray]]:
    """Channels of these scales with noise so far below each."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(samples):
        ref = np.stack([scale * rng.standard_normal(length) for scale in scales])[None]
        error = np.stack([s * 10 ** (-d / 20) * rng.standard_normal(length) for s, d in zip(scales, noise_db, strict=True)])[None]
        made.append((ref, ref + error))
    return made


def test_a_small_channel_is_held_to_its_own_scale() -> None:
    found = figures(mixed([5e5, 4e-6], [60.0, 25.0]), Channels((Axis(-2),)))
    assert found.sqnr_db == pytest.approx(25.0, abs=2.0)
    assert found.entry == Entry(1, 1)
    assert found.least is not None
    assert found.least.entry == Entry(1, 1)


@pytest.mark.parametrize(("scale", "judged"), [(1 / 20, False), (1 / 50, True)])
def test_scales_must_differ_by_more_than_two_to_the_fifth(scale: float, judged: bool) -> None:
    pairs = mixed([1.0, scale], [60.0, 20.0], length=4096)
    assert (figures(pairs, Channels((Axis(-2),))).entry is not None) is judged


def test_without_what_the_graph_says_no_axis_is_judged() -> None:
    assert figures(mixed([5e5, 4e-6], [60.0, 0.0]), Channels()).sqnr_db == pytest.approx(60.0, abs=1.0)


def test_small_entries_are_compared_over_all_samples_together() -> None:
    """Six numbers a sample, of which two are small: eight samples say how large they are."""
    rng = np.random.default_rng(0)
    scales = np.array([300.0, 300.0, 300.0, 300.0, 1.0, 1.0])
    pairs = [(ref := scales * rng.standard_normal((1, 6)), ref + 0.03 * rng.standard_normal((1, 6))) for _ in range(8)]
    found = figures(pairs, Channels((Axis(-1),)))
    assert found.entry is not None
    assert found.entry.index in {4, 5}
    assert found.sqnr_db == pytest.approx(30.0, abs=4.0)
    assert found.least is None
    assert figures(pairs[:7], Channels((Axis(-1),))).entry is None, "seven are too few to know a scale by"


def test_an_axis_whose_length_changes_is_not_judged() -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for length in (20, 21):
        ref = rng.standard_normal((length, 64)) * np.where(np.arange(length) < 5, 1e-4, 1.0)[:, None]
        pairs.append((ref, ref + 1e-6 * rng.standard_normal(ref.shape)))
    assert figures(pairs).entry is None


def test_probabilities_beside_boxes_are_one_entry() -> None:
    """A class that is never seen, at 1e-7, asks for nothing; all scores together are held to their own scale."""
    rng = np.random.default_rng(0)
    boxes, scores = 300.0 * rng.random((1, 200, 4)), rng.random((1, 200, 3)) * [0.9, 0.5, 1e-7]
    ref = np.concatenate([boxes, scores], 2)
    error = np.concatenate([np.zeros_like(boxes), 1e-4 * rng.standard_normal(scores.shape)], 2)
    plain, together = (figures([(ref, ref + error)], Channels((Axis(-1),), told)) for told in (False, True))
    assert plain.sqnr_db < 0.0
    assert together.sqnr_db == pytest.approx(10 * math.log10(np.square(scores).sum() / np.square(error).sum()), abs=1e-6)
    assert together.entry == Entry(2, 4, 3)


def test_operands_of_a_concat_are_of_one_unit_each() -> None:
    """A small entry among its likes is held to their scale; the operand as a whole to its own."""
    rng = np.random.default_rng(0)
    ref = rng.standard_normal((1, 200, 7)) * np.array([300.0, 300.0, 300.0, 1.0, 1.0, 1.0, 1e-3])
    pairs = [(ref, ref + 1e-3 * rng.standard_normal(ref.shape))]
    found = figures(pairs, Channels((Axis(-1, (3, 4)),)))
    assert found.entry == Entry(2, 3, 4)
    assert found.sqnr_db == pytest.approx(60.0, abs=2.0)
    assert figures(pairs, Channels((Axis(-1, (3, 3)),))).sqnr_db < 3.0, "parts of another length say nothing"


def test_probabilities_alone_are_judged_as_a_whole() -> None:
    rng = np.random.default_rng(0)
    ref = rng.random((1, 200, 3)) * [0.9, 0.5, 1e-7]
    pairs = [(ref, ref + 1e-4 * rng.standard_normal(ref.shape))]
    assert figures(pairs, Channels((Axis(-1),), probabilities=True)).sqnr_db == whole(pairs)


def test_an_entry_of_zeros_demands_nothing_impossible() -> None:
    rng = np.random.default_rng(0)
    ref = rng.standard_normal((1, 3, 64)) * np.array([1e3, 1.0, 0.0])[:, None]
    below, above = ref.copy(), ref.copy()
    below[0, 2] += 0.99 * NOTHING
    above[0, 2] += 0.1
    assert figures([(ref, below)], Channels((Axis(-2),))).sqnr_db > 130.0
    found = figures([(ref, above)], Channels((Axis(-2),)))
    assert found.entry == Entry(1, 2)
    assert found.sqnr_db == pytest.approx(20.0, abs=2.0), "held to the smallest scale beside it"


def test_an_entry_mostly_at_rest_is_as_large_as_when_it_moves() -> None:
    """Of 4096 values ten are 1 and wrong by 1e-3: 60 dB by themselves; with an eighth as the scale of all the rest, 68."""
    ref = np.random.default_rng(0).standard_normal((1, 2, 4096))
    ref[0, 0] *= 100.0
    ref[0, 1] = 0.0
    ref[0, 1, :10] = 1.0
    x = ref.copy()
    x[0, 1, :10] += 1e-3
    found = figures([(ref, x)], Channels((Axis(-2),)))
    assert found.entry == Entry(1, 1)
    assert found.sqnr_db == pytest.approx(10 * math.log10(4096 / 64 / 1e-5))


def test_an_entry_mostly_at_rest_is_no_small_one() -> None:
    """Its rms is a sixtieth of its neighbour's, an eighth of its peak a twenty-fourth."""
    ref = 3.0 * np.random.default_rng(0).standard_normal((1, 2, 4096))
    ref[0, 1] = 0.0
    ref[0, 1, :10] = 1.0
    assert figures([(ref, ref + 1e-3)], Channels((Axis(-2),))).entry is None


def test_a_channel_silent_in_one_sample_is_floored() -> None:
    loud, silent = mixed([100.0, 1.0], [60.0, 60.0], samples=2)
    silent[0][0, 1] *= 1e-6
    silent[1][0, 1] = silent[0][0, 1] + 1e-3
    found = figures([loud, silent], Channels((Axis(-2),)))
    assert found.sqnr_db == pytest.approx(10 * math.log10(0.5e-4 / 1e-6), abs=1.0)


def test_values_that_are_not_finite_are_no_part_of_a_scale() -> None:
    ((ref, x),) = mixed([1e3, 1.0], [60.0, 30.0], samples=1)
    ref[0, 1, :5] = x[0, 1, :5] = -math.inf
    ref[0, 0, 3] = math.nan
    found = figures([(ref, x)], Channels((Axis(-2),)))
    assert (found.lost, found.excluded, found.entry) == (1, 5, Entry(1, 1))
    assert found.sqnr_db == pytest.approx(30.0, abs=2.0)


@given(st.integers(1, 5), st.integers(2, 9), st.integers(1, 7), st.integers(1, 30))
def test_slabs_add_up(before: int, length: int, behind: int, chunk: int) -> None:
    rng = np.random.default_rng(0)
    ref, x = rng.standard_normal((2, before, length, behind))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "CHUNK", chunk)
        parts = entries.sums_along(ref, x, -2)
    assert parts is not None
    np.testing.assert_allclose(parts.signal, np.square(ref).sum((0, 2)))
    np.testing.assert_allclose(parts.noise, np.square(ref - x).sum((0, 2)))
    assert (parts.count == before * behind).all()
    assert (parts.low == ref.min((0, 2))).all()
    assert (parts.high == ref.max((0, 2))).all()


SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40))


def draw(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if kind == "uniform":
        return rng.random(shape)
    if kind == "student":
        return rng.standard_t(2.0, shape)
    normal = rng.standard_normal(shape)
    return {"normal": normal, "relu": np.maximum(normal - 1.0, 0.0), "lognormal": 1e-2 * np.exp(3.0 * normal)}[kind]


@given(SHAPES, st.integers(1, 6), st.integers(0, 10**6), st.sampled_from(["normal", "uniform", "student", "relu", "lognormal"]))
def test_storing_in_fp16_never_fails_for_its_entries(shape: tuple[int, int, int], samples: int, seed: int, kind: str) -> None:
    """Data of one kind throughout, rounded: whichever axes are taken for channels, at least the 60 dB that rounding leaves."""
    rng = np.random.default_rng(seed)
    refs = [draw(kind, shape, rng) for _ in range(samples)]
    pairs = [(ref, ref.astype(np.float16).astype(np.float64)) for ref in refs]
    assert figures(pairs).sqnr_db >= 60.0


@given(SHAPES, st.integers(1, 6), st.integers(0, 10**6), st.sampled_from(["normal", "uniform", "relu"]))
def test_noise_that_is_alike_everywhere_trips_no_axis(shape: tuple[int, int, int], samples: int, seed: int, kind: str) -> None:
    """Errors of accumulation are as large beside small values as beside large ones: an entry small by chance must not be held to it."""
    rng = np.random.default_rng(seed)
    refs = [draw(kind, shape, rng) for _ in range(samples)]
    pairs = [(ref, ref + 1e-3 * rng.standard_normal(shape)) for ref in refs]
    assert figures(pairs).sqnr_db == whole(pairs)
