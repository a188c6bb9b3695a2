"""Every format in, the same samples out; errors that say which file, which input, expected and found."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp16fix.errors import ConfigError, SampleError
from fp16fix.inputs import sample as sample_module
from fp16fix.inputs.check import Contract
from fp16fix.inputs.load import Samples, load
from fp16fix.inputs.sample import Sample, frozen

from .models import takes

PAIR = takes("float[N,2] x, int64[N] ids")
ALONE = takes("float[?,3] x")
SAMPLES: list[dict[str, Any]] = [{"x": np.full((index + 1, 2), index, np.float32), "ids": np.arange(index + 1)} for index in range(3)]


def folder(tmp_path: Path, count: int = 3) -> Path:
    path = tmp_path / "samples"
    path.mkdir()
    for index in reversed(range(count)):
        np.savez(path / f"s{index}.npz", **SAMPLES[index % 3])
    return path


def fails(spec: object, inputs: str = "float[N,2] x, int64[N] ids") -> str:
    with pytest.raises(SampleError) as caught:
        load(str(spec), takes(inputs), {})
    return str(caught.value)


def test_a_folder_is_read_in_the_order_of_names_again_and_again(tmp_path: Path) -> None:
    samples = load(str(folder(tmp_path)), PAIR, {})
    for _ in range(2):
        assert [sample.name for sample in samples] == ["s0", "s1", "s2"]
    assert np.array_equal(samples[1].arrays["x"], SAMPLES[1]["x"])
    assert np.array_equal(samples[-1].arrays["ids"], SAMPLES[2]["ids"])
    assert [sample.name for sample in samples[1:]] == ["s1", "s2"]
    assert (len(samples), samples.made_up, samples.source, samples.notes) == (3, False, str(tmp_path / "samples"), ())


def test_every_format_gives_the_same_digest(tmp_path: Path) -> None:
    digests = {load(str(folder(tmp_path)), PAIR, {}).digest()}
    writer = pytest.importorskip("polygraphy.json")
    writer.save_json(SAMPLES, str(tmp_path / "a.json"))
    digests.add(load(str(tmp_path / "a.json"), PAIR, {}).digest())
    text = "import numpy as np\ndef f():\n    for i in range(3):\n      yield {'ids': np.arange(i + 1), 'x': np.full((i + 1, 2), i * 1.)}\n"
    (tmp_path / "f.py").write_text(text)
    digests.add(load(f"{tmp_path / 'f.py'}:f", PAIR, {}).digest())
    many = tmp_path / "many"
    many.mkdir()
    for index, sample in enumerate(SAMPLES):
        writer.save_json(sample, str(many / f"{index:010d}.json"))
    digests.add(load(str(many), PAIR, {}).digest())
    assert len(digests) == 1


def test_the_digest_sees_every_value(tmp_path: Path) -> None:
    path = folder(tmp_path)
    before = load(str(path), PAIR, {}).digest()
    assert load(str(path), PAIR, {}).digest() == before
    np.savez(path / "s2.npz", x=SAMPLES[2]["x"] + np.float32(1e-6), ids=SAMPLES[2]["ids"])
    assert load(str(path), PAIR, {}).digest() != before


def test_single_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **SAMPLES[0])
    assert len(load(str(tmp_path / "a.npz"), PAIR, {})) == 1
    np.save(tmp_path / "b.npy", np.ones((5, 3), np.float32))
    samples = load(str(tmp_path / "b.npy"), ALONE, {})
    assert [list(sample.arrays) for sample in samples] == [["x"]]


def test_a_folder_of_npy_for_one_input(tmp_path: Path) -> None:
    for value, name in enumerate(("b", "a")):
        np.save(tmp_path / f"{name}.npy", np.full((5, 3), value, np.float32))
    assert [sample.name for sample in load(str(tmp_path), ALONE, {})] == ["a", "b"]
    assert "np.savez('sample.npz', x=..., ids=...)" in fails(tmp_path)


def test_copies_count_once_by_content(tmp_path: Path) -> None:
    """Another name, another format of the same numbers: as the model is fed them they are one sample."""
    for name, array in (("a", np.ones(3, np.float32)), ("b", np.zeros(3, np.float32)), ("c", np.ones(3, np.float64)), ("d", np.ones(3))):
        np.save(tmp_path / f"{name}.npy", array[None])
    samples = load(str(tmp_path), ALONE, {})
    assert [sample.name for sample in samples] == ["a", "b"]
    assert samples.copies == 2
    assert samples.notes[-1] == "copies left out: c (of a), d (of a)"
    assert samples.caveats[0] == "2 samples are copies of others and count once."
    assert "Only two samples" in samples.caveats[1]


def test_the_same_values_in_another_shape_are_no_copy(tmp_path: Path) -> None:
    for name, shape in (("a", (2, 3)), ("b", (6, 3))):
        np.save(tmp_path / f"{name}.npy", np.ones(shape, np.float32))
    samples = load(str(tmp_path), ALONE, {})
    assert (len(samples), samples.copies) == (2, 0)


def test_other_files_are_ignored_and_noted(tmp_path: Path) -> None:
    path = folder(tmp_path)
    for name in ("readme.txt", "._s0.npz", "old.npy"):
        (path / name).write_text("no sample")
    samples = load(str(path), PAIR, {})
    assert len(samples) == 3
    assert samples.notes == (f"{path}: 3 files that are not .npz ignored (._s0.npz, old.npy, readme.txt)",)


def test_conversions_are_noted_once_with_their_count(tmp_path: Path) -> None:
    path = folder(tmp_path)
    np.savez(path / "s1.npz", x=np.ones((1, 2)), ids=np.ones(1, np.int32))
    assert load(str(path), PAIR, {}).notes == (
        "input 'ids': int32 converted to int64 (1 of 3 samples)",
        "input 'x': float64 converted to float32 (1 of 3 samples)",
    )


def test_the_last_file_is_checked_before_anything_runs(tmp_path: Path) -> None:
    path = folder(tmp_path)
    np.savez(path / "s2.npz", x=np.full((1, 2), np.nan, np.float32), ids=np.ones(1, np.int64))
    assert fails(path).startswith(f"{path / 's2.npz'}, input 'x': expected numbers, found NaN at [0, 0]")
    np.savez(path / "s2.npz", x=np.ones((1, 2), np.float32), ids=np.ones(1, np.float32))
    assert f"{path / 's2.npz'}, input 'ids': expected int64, found float32" in fails(path)


def test_copies_along_a_leading_axis_count_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((4, 1, 2), np.float32), ids=np.ones((4, 1), np.int64))
    found = load(str(tmp_path / "a.npz"), PAIR, {})
    assert (len(found), found.copies) == (1, 3)


def test_shapes_hold_samples_to_what_they_say(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **SAMPLES[1])
    assert len(load(str(tmp_path / "a.npz"), PAIR, {"ids": (2,)})) == 1
    with pytest.raises(SampleError, match=r"expected shape \[3, 2\], found \[2, 2\]|holds 2 rows, no multiple"):
        load(str(tmp_path / "a.npz"), PAIR, {"ids": (3,)})
    with pytest.raises(ConfigError, match="no input 'z'"):
        load(str(tmp_path / "a.npz"), PAIR, {"z": (1,)})


def test_nothing_there(tmp_path: Path) -> None:
    assert "does not exist" in fails(tmp_path / "none")
    assert "does not exist" in fails(f"{tmp_path / 'none.py'}:f")
    assert "holds no samples" in fails(tmp_path)
    (tmp_path / "a.json").write_text("[]")
    assert "holds no samples" in fails(tmp_path / "a.json")
    (tmp_path / "f.py").write_text("def f():\n    return []\n")
    assert "holds no samples" in fails(f"{tmp_path / 'f.py'}:f")
    assert "names a Python file but no function" in fails(tmp_path / "f.py")
    (tmp_path / "a.bin").write_text("?")
    assert "is of no known format (.bin)" in fails(tmp_path / "a.bin")
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04")
    assert "b.npz: cannot be read" in fails(tmp_path / "b.npz")


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "HELD", 20_000)

    def peak(count: int) -> int:
        for index in range(count):
            np.save(tmp_path / f"{index}.npy", np.ones((1000, 3), np.float32) * index)
        tracemalloc.start()
        samples = load(str(tmp_path), ALONE, {})
        total = sum(float(sample.arrays["x"].sum()) for sample in samples)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert total == 3000.0 * sum(range(count))
        return most

    peak(2)  # what NumPy imports on first use does not count
    few, many = peak(4), peak(40)
    assert many < few + 36 * 12_000 / 4, "a quarter of the arrays' bytes would mean that they are kept"


def test_what_is_read_is_held_as_long_as_it_is_little_and_nobody_s_to_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    plain = Contract.fed
    monkeypatch.setattr(Contract, "fed", lambda self, entry: read.append(entry.name) or plain(self, entry))  # type: ignore[func-returns-value]
    for index in range(4):
        np.save(tmp_path / f"{index}.npy", np.full((1000, 3), index, np.float32))
    samples = load(str(tmp_path), ALONE, {})
    read.clear()
    monkeypatch.setattr(sample_module, "HELD", 2 * 12_000)
    for index in (0, 1, 0, 1, 2, 1, 0):
        assert samples.pick([index])[0].arrays["x"][0, 0] == index, "held by the sample, not by its place"
    assert read == ["0", "1", "2", "0"], "the one that was not asked for longest goes"
    with pytest.raises(ValueError, match="read-only"):
        samples[1].arrays["x"][0, 0] = 7


def test_arrays_stay_their_owner_s() -> None:
    own = np.ones(3, np.float32)
    seen = frozen(Sample("s", {"x": own})).arrays["x"]
    own[0] = 2.0
    assert (seen[0], seen.flags.writeable) == (2.0, False)


def test_samples_are_frozen(tmp_path: Path) -> None:
    samples = load(str(folder(tmp_path)), PAIR, {})
    assert isinstance(samples, Samples)
    with pytest.raises(AttributeError):
        samples.source = "x"  # type: ignore[misc]
