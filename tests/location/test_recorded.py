"""Outputs computed elsewhere find their samples, and are held to what the model can give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fp16fix.errors import SampleError
from fp16fix.location.recorded import Given, Witness, read_outputs
from tests.models import model


def recorded(folder: Path, *stems: str) -> Path:
    folder.mkdir(exist_ok=True)
    for stem in stems:
        np.savez(folder / f"{stem}.npz", y=np.zeros(1))
    return folder


def order(folder: Path, *names: str) -> list[str]:
    return [Path(given.where).stem for given in read_outputs(folder, names)]


@pytest.mark.parametrize(
    ("files", "names", "found"),
    [
        (("b", "a", "more"), ("b", "a"), ("b", "a")),
        (("out_2", "out_10"), ("samples[2]", "samples[10]"), ("out_2", "out_10")),
        (("out_2", "out_10"), ("in_10", "in_2"), ("out_10", "out_2")),
        (("1", "2", "10"), ("samples[0]", "samples[1]", "samples[2]"), ("1", "2", "10")),
        (("right", "left"), ("a", "b"), ("left", "right")),
        (("2_a", "2_b"), ("0", "1"), ("2_a", "2_b")),
    ],
    ids=["by name", "by number", "by number, whatever the order", "by rank of number", "by alphabet", "numbers that do not tell"],
)
def test_files_find_their_samples(tmp_path: Path, files: tuple[str, ...], names: tuple[str, ...], found: tuple[str, ...]) -> None:
    recorded(tmp_path / "out", *files)
    (tmp_path / "out" / "._hidden.npz").write_bytes(b"an archive tool's")
    assert order(tmp_path / "out", *names) == list(found)


def test_one_file_serves_one_sample(tmp_path: Path) -> None:
    file = recorded(tmp_path, "only") / "only.npz"
    assert order(file, "sample") == ["only"]
    with pytest.raises(SampleError, match=r"1 \.npz files for 2 samples"):
        read_outputs(file, ["a", "b"])


def test_files_that_are_too_few_or_of_other_samples_are_refused_before_any_is_read(tmp_path: Path) -> None:
    folder = recorded(tmp_path, "a", "b", "x")
    with pytest.raises(SampleError, match=r"3 \.npz files for 4 samples") as caught:
        read_outputs(folder, ["p", "q", "r", "s"])
    assert "np.savez" in caught.value.hint
    with pytest.raises(SampleError, match="no outputs of sample 'c'"):
        read_outputs(folder, ["a", "b", "c"])
    with pytest.raises(SampleError, match=r"0 \.npz files"):
        read_outputs(tmp_path / "missing", ["a"])


def test_what_cannot_be_read_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"nothing")
    with pytest.raises(SampleError, match=r"a\.npz: cannot be read"):
        list(read_outputs(tmp_path, ["a"]))


SHAPES = """g (float[n,3] x) => (float[n,3] y, float[kept,2] boxes) {
    y = Abs (x) found = NonZero (x) pairs = Transpose (found) boxes = Cast <to = 1> (pairs)
}"""
EXACT = {"y": np.zeros((4, 3), np.float32), "boxes": np.zeros((5, 2), np.float32)}


def taken(*outputs: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    witness = Witness(model(SHAPES), [Given(f"out {index}", each) for index, each in enumerate(outputs)], "recorded")
    return [witness.take(EXACT) for _ in outputs]


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ([{"w": np.zeros(3)}], "out 0: has an array 'w', which is no output\n  → the model's outputs are y, boxes"),
        ([{}], "out 0: holds no outputs"),
        ([{"y": np.zeros((4, 3))}, {"boxes": np.zeros((5, 2))}], "out 1: differs from the others in 'y'"),
        ([{"y": np.zeros((4, 4))}], "out 0: 'y' has shape (4, 4), the model gives (4, 3)"),
        ([{"y": np.zeros((2, 3))}], "has shape (2, 3)"),
        ([{"boxes": np.zeros((5, 2, 1))}], "has shape (5, 2, 1)"),
        ([{"y": np.zeros((4, 3), np.complex64)}], "no array of numbers (complex64)"),
    ],
)
def test_outputs_that_the_model_cannot_give_are_errors(outputs: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(SampleError, match=re.escape(says)):
        taken(*outputs)


def test_a_dimension_that_depends_on_the_data_may_differ() -> None:
    assert taken({"boxes": np.zeros((7, 2))})[0]["boxes"].shape == (7, 2)


def test_bfloat16_as_numpy_stores_it_is_known(tmp_path: Path) -> None:
    values = np.asarray([[1.5, -2.0, 300.0]] * 4, ml_dtypes.bfloat16)
    np.savez(tmp_path / "a.npz", y=values)
    (given,) = read_outputs(tmp_path, ["a"])
    assert np.array_equal(taken(dict(given.arrays))[0]["y"].astype(np.float32), values.astype(np.float32))


def test_there_must_be_outputs_for_every_sample() -> None:
    witness = Witness(model(SHAPES), [Given("out", {"y": EXACT["y"]})], "reference")
    witness.take(EXACT)
    with pytest.raises(SampleError, match="outputs of only 1 samples"):
        witness.take(EXACT)
