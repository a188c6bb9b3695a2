"""NumPy's files: read when whole, refused in plain words when not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fp16fix.errors import SampleError
from fp16fix.inputs.files import NpyFile, NpzFile, arrays_from_npz, write_npz

WHOLE = io.BytesIO()
np.savez_compressed(WHOLE, x=np.arange(40, dtype=np.float32), y=np.ones((2, 3)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE.getvalue()) - 1), st.integers(1, 255), st.booleans())
def test_a_damaged_archive_is_an_error_of_ours(tmp_path: Path, at: int, flip: int, cut: bool) -> None:
    data = bytearray(WHOLE.getvalue())
    data[at] ^= flip
    path = tmp_path / "a.npz"
    path.write_bytes(bytes(data[:at] if cut else data))
    try:
        arrays = arrays_from_npz(path, "here")
    except SampleError:
        return  # any other exception fails the test
    assert not cut
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


def test_names_that_savez_keeps_for_itself(tmp_path: Path) -> None:
    arrays = {"file": np.ones(2), "/model/input:0": np.zeros((0, 3), np.int64), "allow_pickle": np.array(True)}
    write_npz(tmp_path / "a.npz", arrays)
    read = NpzFile(tmp_path / "a.npz").read()
    assert list(read) == list(arrays)
    assert all(np.array_equal(read[name], array) and read[name].dtype == array.dtype for name, array in arrays.items())


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object))
    for entry in (NpzFile(tmp_path / "a.npz"), NpyFile(tmp_path / "a.npy", "x")):
        with pytest.raises(SampleError, match="pickled objects"):
            entry.read()


def test_one_kind_under_the_name_of_the_other(tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.ones(2))
    with pytest.raises(SampleError, match="holds one array"):
        NpzFile(tmp_path / "a.npz").read()
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, x=np.ones(2))
    with pytest.raises(SampleError, match="archive of arrays"):
        NpyFile(tmp_path / "a.npy", "x").read()


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00", b"PK\x03\x04junk"])
def test_other_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    for entry in (NpyFile(path, "x"), NpzFile(path)):
        with pytest.raises(SampleError, match=r"a\.npy"):
            entry.read()
