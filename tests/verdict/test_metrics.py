from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fp16fix.errors import ModelError
from fp16fix.verdict import metrics
from fp16fix.verdict.metrics import Accumulator, Comparison
from fp16fix.verdict.verdict import Figures

FINITE = st.floats(-1e4, 1e4, width=32).filter(lambda x: x == 0.0 or abs(x) > 1e-6)
PAIRS = st.integers(1, 40).flatmap(lambda n: st.tuples(arrays(np.float32, n, elements=FINITE), arrays(np.float32, n, elements=FINITE)))


def compare(reference: Any, candidate: Any) -> Figures:
    accumulator = Accumulator()
    accumulator.add(np.asarray(reference), np.asarray(candidate))
    return accumulator.figures("y")


@given(PAIRS)
def test_figures_are_their_definitions(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ref, x = (each.astype(np.float64) for each in pair)
    found = compare(*pair)
    noise, signal = np.square(ref - x).sum(), np.square(ref).sum()
    if noise == 0:
        assert found.sqnr_db == math.inf
    elif signal == 0:
        assert found.sqnr_db == -math.inf
    else:
        assert found.sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=1e-9)
    assert found.max_abs == np.abs(ref - x).max()
    if signal:
        assert found.max_rel == pytest.approx(np.abs(ref - x).max() / np.abs(ref).max())
        if np.square(x).sum():
            assert found.cosine == pytest.approx(ref @ x / np.linalg.norm(ref) / np.linalg.norm(x), abs=1e-12)
    assert -1.0 <= found.cosine <= 1.0


@given(st.lists(PAIRS, min_size=1, max_size=5))
def test_every_figure_is_that_of_the_sample_in_which_it_is_worst(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Each sample by its definition: the floor of silence is ten thousandths of the mean square of all samples."""
    streamed = Accumulator()
    for ref, x in pairs:
        streamed.add(ref, x)
    found, wide = streamed.figures("y"), [(ref.astype(np.float64), x.astype(np.float64)) for ref, x in pairs]
    mean, loudest = np.square(np.concatenate([ref for ref, _ in wide])).mean(), max(np.abs(ref).max() for ref, _ in wide)
    assert len(found.samples) == len(pairs)
    for (ref, x), each in zip(wide, found.samples, strict=True):
        signal, noise = max(np.square(ref).sum(), 1e-4 * mean * ref.size), np.square(ref - x).sum()
        wanted = 10 * np.log10(signal / noise) if signal and noise else -math.inf if noise else math.inf
        assert each.sqnr_db == pytest.approx(wanted, abs=1e-9)
        assert each.max_abs == np.abs(ref - x).max()
        if loudest:
            assert each.max_rel == pytest.approx(each.max_abs / max(np.abs(ref).max(), 0.01 * loudest))
    assert found.sqnr_db == min(each.sqnr_db for each in found.samples)
    assert found.max_abs == max(each.max_abs for each in found.samples)
    assert found.max_rel == max(each.max_rel for each in found.samples)
    assert found.cosine == min(each.cosine for each in found.samples)


def test_the_worst_sample_is_named() -> None:
    accumulator = Accumulator(names=("monday", "tuesday", "wednesday"))
    for error in (1e-4, 1e-2, 1e-3):
        accumulator.add(np.ones(8), np.ones(8) + error)
    found = accumulator.figures("y")
    assert found.sample == "tuesday"
    assert found.sqnr_db == pytest.approx(40.0)
    assert found.least is not None
    assert found.least.sample == "tuesday"


def test_a_lost_element_makes_a_worse_sample_than_noise() -> None:
    accumulator = Accumulator()
    accumulator.add(np.ones(8), np.zeros(8))
    accumulator.add(np.ones(8), np.array([np.nan, *np.ones(7)]))
    found = accumulator.figures("y")
    assert (found.sample, found.lost, found.depth) == ("1", 1, -math.inf)
    assert found.sqnr_db == 0.0


def test_silence_is_no_infinite_demand() -> None:
    """A sample 80 dB below the mean with noise 60 dB below the mean: on its own −20 dB, under the floor 20."""
    accumulator = Accumulator()
    accumulator.add(np.ones(100), np.ones(100))
    accumulator.add(np.full(100, 1e-4), np.full(100, 1e-4 + 1e-3))
    found = accumulator.figures("y").samples[1]
    assert found.sqnr_db == pytest.approx(10 * np.log10(0.5e-4 / 1e-6), abs=0.01)
    assert found.cosine > 0.98
    assert found.max_rel == pytest.approx(0.1)


@given(PAIRS, st.integers(-20, 20))
def test_a_power_of_two_on_both_sides_changes_no_relative_figure(pair: tuple[np.ndarray, np.ndarray], shift: int) -> None:
    ref, x = (each.astype(np.float64) for each in pair)
    plain, scaled = compare(ref, x), compare(ref * 2.0**shift, x * 2.0**shift)
    assert scaled.sqnr_db == pytest.approx(plain.sqnr_db, abs=1e-9)
    assert scaled.max_rel == plain.max_rel
    assert scaled.max_abs == plain.max_abs * 2.0**shift


@given(PAIRS)
@settings(max_examples=25)
def test_chunks_add_up(pair: tuple[np.ndarray, np.ndarray]) -> None:
    whole = compare(*pair)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "CHUNK", 3)
        parts = compare(*pair)
    assert parts.sqnr_db == pytest.approx(whole.sqnr_db, abs=1e-9)
    assert parts.max_abs == whole.max_abs


def test_lost_values_are_counted_and_left_out_of_the_sums() -> None:
    found = compare([1.0, 2.0, 3.0, np.inf, np.nan], [1.0, np.inf, np.nan, 7.0, np.nan])
    assert (found.lost, found.excluded) == (3, 1)
    assert found.sqnr_db == math.inf
    assert found.max_abs == 0.0


ODD = (np.nan, np.inf, -np.inf, 1.0)


@pytest.mark.parametrize("reference", ODD)
@pytest.mark.parametrize("candidate", ODD)
def test_a_value_that_is_not_finite_must_be_met_by_its_class(reference: float, candidate: float) -> None:
    found = compare([reference, 2.0], [candidate, 2.0])
    same = repr(reference) == repr(candidate)
    assert found.lost == (not same)
    assert found.excluded == (same and not math.isfinite(reference))
    assert found.sqnr_db == math.inf, "the other element is right"


def test_an_output_that_is_all_nan_has_no_signal_left() -> None:
    assert compare([1.0, 2.0], [np.nan, np.nan]).sqnr_db == -math.inf


def test_a_reference_without_a_finite_value_gives_no_figure() -> None:
    assert math.isnan(compare([np.nan, np.inf], [np.nan, np.inf]).sqnr_db)
    assert compare([np.nan, np.inf], [1.0, 2.0]).sqnr_db == -math.inf


@pytest.mark.parametrize(("candidate", "cosine"), [([0.0, 0.0], 1.0), ([0.0, 1e-3], 0.0)])
def test_a_reference_of_zeros(candidate: list[float], cosine: float) -> None:
    found = compare([0.0, 0.0], candidate)
    assert found.cosine == cosine
    assert found.sqnr_db == (math.inf if cosine else -math.inf)
    assert found.max_rel == (0.0 if cosine else math.inf)


def test_an_empty_output_equals_an_empty_output() -> None:
    found = compare(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))
    assert (found.sqnr_db, found.cosine, found.mismatches) == (math.inf, 1.0, 0)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8])
def test_integers_and_booleans_are_compared_for_equality(dtype: type) -> None:
    found = compare(np.array([0, 1, 1, 0]).astype(dtype), np.array([0, 1, 0, 1]).astype(dtype))
    assert found.mismatches == 2
    assert found.sqnr_db == math.inf


def test_near_ties_are_counted_apart() -> None:
    comparison = Comparison()
    tied = {"ids": np.array([True, True, False])}
    comparison.add({"ids": np.array([1, 2, 3])}, {"ids": np.array([1, 7, 8])}, tied)
    (found,) = comparison.figures()
    assert (found.near_ties, found.mismatches) == (1, 1)


def test_half_precision_candidates_are_compared_wide() -> None:
    """65504 − (−65504) is not a half; a difference taken in FP16 would be infinite."""
    assert compare(np.array([65504.0], np.float32), np.array([-65504.0], np.float16)).max_abs == 131008.0
    assert compare(np.array([1.0], np.float32), np.array([1.0], ml_dtypes.bfloat16)).sqnr_db == math.inf


def test_another_shape_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"\(3,\).*\(2,\)"):
        compare(np.zeros(2), np.zeros(3))


def test_data_dependent_shapes_count_as_wrong() -> None:
    comparison = Comparison()
    comparison.add(
        {"boxes": np.ones((2, 4), np.float32), "ids": np.ones(2, np.int64)}, {"boxes": np.ones((3, 4)), "ids": np.ones(3, np.int64)}
    )
    boxes, ids = comparison.figures()
    assert (boxes.output, boxes.mismatches, boxes.sqnr_db) == ("boxes", 12, 0.0)
    assert (ids.output, ids.mismatches) == ("ids", 3)


def test_a_missing_output_and_another_rank_are_errors() -> None:
    with pytest.raises(ModelError, match=r"no output 'y'[\s\S]*its outputs: z"):
        Comparison().add({"y": np.zeros(1)}, {"z": np.zeros(1)})
    with pytest.raises(ModelError, match="output 'y'"):
        Comparison().add({"y": np.zeros(1)}, {"y": np.zeros((1, 1))})


def test_tiny_signals_and_huge_ones_do_not_leave_float64() -> None:
    assert compare([1e-150], [1.001e-150]).sqnr_db == pytest.approx(60.0, abs=0.1)
    assert compare(np.array([3e38, 3e38], np.float32), np.array([3e38, 2.9e38], np.float32)).cosine == pytest.approx(1.0, abs=1e-3)
