from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.errors import InputError
from fp16fix.graph import save
from fp16fix.graph.load import load
from fp16fix.graph.save import replacing, save_model, write_atomically
from tests import models


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_bytes_and_writers_arrive_in_folders_that_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "x.bin", b"one")
    write_atomically(tmp_path / "a" / "b" / "y.bin", lambda path: path.write_bytes(b"two"))
    assert (tmp_path / "a/b/x.bin").read_bytes() == b"one"
    assert (tmp_path / "a/b/y.bin").read_bytes() == b"two"
    assert names(tmp_path / "a" / "b") == ["x.bin", "y.bin"]


def test_a_failing_writer_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def torn(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, torn)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.bin"]


def test_nothing_appears_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == path.parent, "a rename across file systems is no rename"
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_a_full_disk_is_an_error_with_the_path(tmp_path: Path) -> None:
    def full(temporary: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))

    path = tmp_path / "x.bin"
    with pytest.raises(InputError, match="No space left") as caught:
        write_atomically(path, full)
    assert caught.value.where == str(path)
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_really_full_device_is_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left"):
        write_atomically(tmp_path / "x.bin", lambda _: Path("/dev/full").write_bytes(b"x"))


def test_a_folder_that_cannot_be_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot write here") as caught:
        write_atomically(tmp_path / "file" / "x.bin", b"")
    assert caught.value.where == str(tmp_path / "file" / "x.bin")


def test_a_folder_at_the_path_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "x.bin" / "inside").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot write"):
        write_atomically(tmp_path / "x.bin", b"")
    assert names(tmp_path) == ["x.bin"]


def test_the_umask_decides_the_mode_as_for_any_file(tmp_path: Path) -> None:
    script = "import os, sys; from pathlib import Path; from fp16fix.graph.save import write_atomically as write\n"
    script += "os.umask(0o027); write(Path(sys.argv[1]), b'')"
    path = tmp_path / "x.bin"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert path.stat().st_mode & 0o777 == 0o640


def test_the_longest_name_a_folder_takes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".bin")
    write_atomically(path, b"")
    assert path.exists()


@pytest.mark.parametrize("limit", [save.LIMIT, 0])
def test_models_come_back_equal_with_weights_inside_or_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(save, "LIMIT", limit)
    weights = models.normal(32, 32)
    model = models.model("g (float[1,32] x, float[32,32] w) => (float[1,32] y) { y = MatMul(x, w) }")
    model.graph.inputs[1].to_constant(weights)
    del model.graph.inputs[1]
    save_model(model, tmp_path / "out" / "m.onnx")
    beside = [f"m.onnx.{hashlib.sha256(weights.tobytes()).hexdigest()[: save.DIGITS]}.data"]
    assert names(tmp_path / "out") == (["m.onnx"] if limit else ["m.onnx", *beside])
    onnx.checker.check_model(str(tmp_path / "out" / "m.onnx"))
    again = load(tmp_path / "out" / "m.onnx", simplified=False)
    np.testing.assert_array_equal(again.tensors()["w"].values, weights)


def test_a_proto_past_the_limit_is_saved_beside_and_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "LIMIT", 1000)
    weight = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    given = models.proto("g (float[4,64] x, float[64,64] w) => (float[4,64] y) { y = MatMul (x, w) }")
    given.graph.initializer.append(weight)
    before = given.SerializeToString()
    save.save_proto(given, tmp_path / "m.onnx")
    assert given.SerializeToString() == before
    assert (tmp_path / "m.onnx").stat().st_size < 1000
    assert onnx.load(tmp_path / "m.onnx").graph.initializer[0].raw_data == weight.raw_data
