"""What files say of themselves is checked against the file and the signature before an array is read."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fp16fix.errors import SampleError
from fp16fix.inputs import load
from fp16fix.inputs.declared import LARGEST, Declared
from fp16fix.inputs.files import NpyFile, NpzFile, write_npz
from fp16fix.inputs.made import make
from fp16fix.inputs.polygraphy import spans
from fp16fix.inputs.signature import signature
from tests.inputs.models import model, takes
from tests.models import normal

TERABYTES = 10**12
"""Elements of four bytes."""


def header(shape: object, descr: object = "<f4") -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text = text.ljust(-(-(len(text) + 11) // 64) * 64 - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        header((TERABYTES,)),
        header((10**30,)),
        header((-1,)),
        header((2, -3)),
        header((1 << 20, 1 << 20)) + bytes(64),
        header((4,)) + bytes(12),
        header((4,), "<V1000000000") + bytes(16),
        header((4,), "<U500000000") + bytes(16),
        header((4,), "(1000,1000)f4") + bytes(16),
    ],
)
def test_a_header_that_declares_more_than_there_is(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    text = base64.b64encode(data).decode()
    (tmp_path / "a.json").write_text(json.dumps([{"x": {"array": text, "polygraphy_class": "ndarray"}}]))
    for entry in (NpzFile(archive(tmp_path / "a.npz", {"x.npy": data})), NpyFile(tmp_path / "a.npy", "x"), spans(tmp_path / "a.json")[0]):
        with pytest.raises(SampleError, match=r"declares .* and holds") as caught:
            entry.read()
        assert str(tmp_path / "a") in caught.value.where


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"not an array", "neither .npy nor .npz inside"),
        (b"", "cannot be read"),
        (b"\x93NUMPY\x03\x00" + header((4,))[8:], "named fields"),
        (header((4,), "|O") + bytes(16), "pickled objects"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "cannot be read"),
        (b"\x93NUMPY\x01\x00\x40\x1f" + b"(" * 8000, "cannot be read"),
    ],
)
def test_what_is_no_array_is_a_sentence(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(SampleError, match=says) as caught:
        NpzFile(archive(tmp_path / "a.npz", {"x.npy": data})).read()
    assert "a.npz, x.npy" in caught.value.where


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_array_that_does_not_fit_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: int) -> None:
    """A bomb is an array like any other: the signature says how large it may be."""
    bomb = archive(tmp_path / "a.npz", {"x.npy": header((1 << 22,)) + bytes(1 << 24)}, compression)
    assert compression == zipfile.ZIP_STORED or bomb.stat().st_size < 1 << 17

    def read(*_: object, **__: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(np.lib.format, "read_array", read)
    for shape, says in (("float[4] x", r"expected shape \[4\], found \[4194304\]"), ("float[4] z", "'x', which the model does not take")):
        with pytest.raises(SampleError, match=says):
            load.load(str(bomb), takes(shape), {})


def test_a_free_dimension_has_a_bound_until_it_is_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fp16fix.inputs.check.LARGEST", 99)
    np.savez(tmp_path / "a.npz", x=normal(100))
    with pytest.raises(SampleError, match=r"is float32 \[100\], more than 99 elements") as caught:
        load.load(str(tmp_path / "a.npz"), takes("float[N] x"), {})
    assert "--shape x:" in caught.value.hint
    assert len(load.load(str(tmp_path / "a.npz"), takes("float[N] x"), {"x": (100,)})) == 1
    assert len(load.load(str(tmp_path / "a.npz"), takes("float[100] x"), {})) == 1


@pytest.mark.parametrize(
    ("inputs", "shapes"), [("float[10000000000] x", {}), ("float[1,N] x", {"x": (1, 10**10)}), ("int64[3,1000000000] x", {})]
)
def test_inputs_too_large_to_make_up_are_a_sentence(inputs: str, shapes: dict[str, tuple[int, ...]]) -> None:
    taken = model(f"g ({inputs}) => (float[1] y) {{ y = Constant <value = float[1] {{1.0}}> () }}")
    with pytest.raises(SampleError, match="0,000,000 elements, too many to make up") as caught:
        make(taken, signature(taken), shapes)
    assert "--shape x:" in caught.value.hint


def test_what_is_declared_is_counted_exactly() -> None:
    found = Declared((10**10, 10**10), np.dtype(np.float32))
    assert (found.elements, found.size, str(found)) == (10**20, 4 * 10**20, "float32 [10000000000, 10000000000]")
    assert Declared((), np.dtype(np.int64)).size == 8
    assert found.elements > LARGEST


def test_a_member_that_is_no_array_is_named(tmp_path: Path) -> None:
    with pytest.raises(SampleError) as caught:
        NpzFile(archive(tmp_path / "a.npz", {"x.npy": header(()) + bytes(4), "readme.txt": b"hello, I am text"})).read()
    assert caught.value.where.endswith("a.npz, readme.txt")


def test_polygraphys_older_archives_are_read(tmp_path: Path) -> None:
    data = io.BytesIO()
    np.savez(data, normal(3))
    entry = {"array": base64.b64encode(data.getvalue()).decode(), "polygraphy_class": "ndarray"}
    (tmp_path / "a.json").write_text(json.dumps([{"x": entry}]))
    np.testing.assert_array_equal(spans(tmp_path / "a.json")[0].read()["x"], normal(3))


def test_json_nested_past_reading_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"x": ' + "[" * 100_000 + "]" * 100_000 + "}]")
    with pytest.raises(SampleError, match="is not valid JSON"):
        spans(tmp_path / "a.json")[0].read()


@pytest.mark.parametrize("element", ["float", "float16", "bfloat16", "double"])
def test_raw_bfloat16_is_taken_by_any_float_input(tmp_path: Path, element: str) -> None:
    """NumPy's format has no name for it; a model that is held in FP32 takes it all the same."""
    stored = normal(2, 8).astype(ml_dtypes.bfloat16)
    write_npz(tmp_path / "a.npz", {"x": stored})
    (sample,) = load.load(str(tmp_path / "a.npz"), takes(f"{element}[2,8] x"), {})
    np.testing.assert_array_equal(
        sample.arrays["x"].astype(np.float32), stored.astype(np.float32).astype(sample.arrays["x"].dtype).astype(np.float32)
    )
