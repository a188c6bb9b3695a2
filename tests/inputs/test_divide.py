"""Files that hold many samples: split where the model's own batch says how, else an error that says how to cut them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fp16fix.errors import SampleError
from fp16fix.inputs.files import write_npz
from fp16fix.inputs.load import load
from fp16fix.inputs.signature import signature
from tests.models import model, normal

ONE = "g (float[1,3,4] x, int64[1] n) => (float[1,3,4] y) { y = Relu (x) }"
PAIR = "g (float[2,4] x) => (float[2,4] y) { y = Relu (x) }"
BARE = "g (float[3,4] x) => (float[3,4] y) { y = Relu (x) }"
FREE = "g (float[batch,4] x) => (float[batch,4] y) { y = Relu (x) }"


def saved(folder: Path, **arrays: np.ndarray) -> str:
    write_npz(folder / "all.npz", arrays)
    return str(folder / "all.npz")


@pytest.mark.parametrize(
    ("text", "shape", "each"), [(ONE, (5, 3, 4), (1, 3, 4)), (PAIR, (6, 4), (2, 4)), (BARE, (5, 3, 4), (3, 4)), (FREE, (5, 2, 4), (2, 4))]
)
def test_a_leading_axis_that_fits_is_split_and_said(tmp_path: Path, text: str, shape: tuple[int, ...], each: tuple[int, ...]) -> None:
    x = normal(*shape)
    extra = {"n": np.array([7])} if text is ONE else {}
    found = load(saved(tmp_path, x=x, **extra), signature(model(text)), {})
    assert [sample.arrays["x"].shape for sample in found] == [each] * len(found)
    assert np.array_equal(np.concatenate([sample.arrays["x"].reshape(-1) for sample in found]), x.reshape(-1))
    assert [sample.name for sample in found][:2] == ["all[0]", "all[1]"]
    assert f"all.npz was split along its first axis into {len(found)} samples." in found.caveats[0]
    assert all(sample.arrays["n"] == 7 for sample in found if "n" in sample.arrays)


def test_what_fits_as_it_is_stays_one_sample(tmp_path: Path) -> None:
    place = saved(tmp_path, x=normal(8, 4))
    found = load(place, signature(model(FREE)), {})
    assert len(found) == 1
    assert (
        "The 8 rows of all are one sample, for the model leaves their number free; if each is a sample, --shape x:1x4 splits them."
        in found.caveats
    )
    assert len(load(place, signature(model(FREE)), {"x": (1, 4)})) == 8


@pytest.mark.parametrize(
    ("text", "arrays", "says"),
    [
        (PAIR, {"x": normal(5, 4)}, r"holds 5 rows, no multiple of the model's batch of 2\n  → .*leave out 1"),
        (ONE, {"x": normal(5, 3, 4), "n": np.arange(4)}, r"different numbers of samples .*\(x 5, n 4\)"),
        (ONE, {"x": normal(5, 3, 9), "n": np.array([1])}, r"expected shape \[1, 3, 4\], found \[5, 3, 9\]"),
        (BARE, {"x": normal(0, 3, 4)}, r"expected shape \[3, 4\], found \[0, 3, 4\]"),
    ],
)
def test_what_does_not_come_out_even_says_how_to_cut_it(tmp_path: Path, text: str, arrays: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(SampleError, match=says):
        load(saved(tmp_path, **arrays), signature(model(text)), {})
