from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp16fix.errors import BackendMissingError, InputError
from fp16fix.weights import TensorCast, WeightReport, scan
from fp16fix.weights.cast import cast_of, pieces_of

ILL = np.asarray([1.0, -70000.0, 65519.0, 65520.0, 1e-8, -2e-8, 3e-6, 0.0, np.nan, -np.inf, 1.0 / 3.0], np.float32)
"""By hand: 2 past, 2 flushed, 1 subnormal, 2 not finite."""


def checked(tensor: TensorCast) -> None:
    assert (tensor.count, tensor.past, tensor.flushed, tensor.subnormal, tensor.nonfinite) == (11, 2, 2, 1, 2)
    assert tensor.absmax == 70000.0
    assert tensor.smallest == np.float32(1e-8)
    assert tensor.max_abs == 15.0
    assert tensor.max_rel == 1.0
    assert tensor.hurt


def only(report: WeightReport, name: str) -> TensorCast:
    return next(tensor for tensor in report.tensors if tensor.name == name)


@given(st.lists(st.floats(width=32), min_size=1, max_size=40), st.integers(1, 5))
def test_figures_do_not_depend_on_the_pieces(values: list[float], size: int) -> None:
    array = np.asarray(values, np.float32)
    pieces = [array[start : start + size] for start in range(0, len(array), size)]
    assert cast_of("w", array.shape, "float32", pieces) == cast_of("w", array.shape, "float32", [array])


@given(st.lists(st.floats(min_value=2.0**-14, max_value=65504.0, width=32), min_size=1))
def test_normal_values_lose_at_most_half_a_unit(values: list[float]) -> None:
    figures = cast_of("w", (len(values),), "float32", pieces_of(np.asarray(values, np.float32)))
    assert not figures.hurt
    assert figures.subnormal == 0
    assert figures.max_rel <= 2.0**-11
    assert figures.absmax == max(values)


def onnx_file(path: Path, *, external: bool = False) -> Path:
    inner = onnx.parser.parse_graph("g () => (float[1] b) { b = Constant <value = float[1] {1e-9}> () }")
    node = onnx.helper.make_node("If", ["c"], ["y"], name="if", then_branch=inner, else_branch=inner)
    literal = onnx.helper.make_node("Constant", [], ["mask"], value=onnx.numpy_helper.from_array(np.asarray([-1e9], np.float32)))
    weights = [
        onnx.numpy_helper.from_array(ILL, "ill"),
        onnx.numpy_helper.from_array(np.arange(3), "ids"),
        onnx.numpy_helper.from_array(np.ones((20, 100), np.float32), "large"),
    ]
    inputs = [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])]
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])]
    graph = onnx.helper.make_graph([literal, node], "g", inputs, outputs, initializer=weights)
    onnx.save(onnx.helper.make_model(graph), path, save_as_external_data=external, location="data.bin", size_threshold=0)
    return path


@pytest.mark.parametrize("external", [False, True])
def test_onnx(tmp_path: Path, external: bool) -> None:
    report = scan(onnx_file(tmp_path / "m.onnx", external=external))
    assert [tensor.name for tensor in report.tensors] == ["ill", "large", "mask", "b", "b"]
    checked(report.tensors[0])
    assert report.worst[0].name == "ill"
    assert report.worst[1].name == "mask"
    assert not only(report, "large").hurt
    assert "3 values leave FP16's range in 2 tensors" in report.verdict
    if external:
        (tmp_path / "data.bin").write_bytes(b"")
        with pytest.raises(InputError, match="'ill' cannot be read"):
            scan(tmp_path / "m.onnx")


def test_safetensors(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    wide = np.asarray([1e30, 1e-30, 1.0], ml_dtypes.bfloat16)
    numpy.save_file({"ill": ILL, "wide": wide, "ids": np.arange(3), "low": np.ones(2, np.float16)}, tmp_path / "m.safetensors")
    report = scan(tmp_path / "m.safetensors")
    assert sorted((tensor.name, tensor.dtype) for tensor in report.tensors) == [
        ("ill", "float32"),
        ("low", "float16"),
        ("wide", "bfloat16"),
    ]
    checked(only(report, "ill"))
    assert (only(report, "wide").past, only(report, "wide").flushed) == (1, 1)
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0garbage!")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        scan(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoint(tmp_path: Path, legacy: bool) -> None:
    torch = pytest.importorskip("torch")
    content = {"model": {"ill": torch.from_numpy(ILL.copy()), "wide": torch.tensor([1e30, 1.0], dtype=torch.bfloat16)}, "step": 3}
    content["list"] = [torch.ones(2, 3).t(), torch.arange(4)]
    torch.save(content, tmp_path / "m.pth", _use_new_zipfile_serialization=not legacy)
    report = scan(tmp_path / "m.pth")
    assert [(t.name, t.dtype, t.shape) for t in report.tensors] == [
        ("model.ill", "float32", (11,)),
        ("model.wide", "bfloat16", (2,)),
        ("list.0", "float32", (3, 2)),
    ]
    checked(report.tensors[0])
    assert report.tensors[1].past == 1


class Bomb:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    mark = tmp_path / "mark"
    torch.save({"w": torch.ones(1), "x": Bomb(f"touch {mark}")}, tmp_path / "m.pth")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Bomb(f"touch {mark}"), protocol=2))
    for name, words in (("m.pth", "more than weights"), ("raw.pt", "more than weights")):
        with pytest.raises(InputError, match=words):
            scan(tmp_path / name)
    assert not mark.exists()


def test_damaged_and_unknown_files_are_errors(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for name, content, words in (
        ("m.pth", b"PK\x03\x04nothing", "not a readable checkpoint"),
        ("m.onnx", b"\xff\xff\xff", "not a readable ONNX file"),
        ("m.h5", b"", "no known kind"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words):
            scan(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        scan(tmp_path / "missing.pth")


@pytest.mark.parametrize(("suffix", "module"), [(".pth", "torch"), (".safetensors", "safetensors")])
def test_missing_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, module: str) -> None:
    (tmp_path / f"m{suffix}").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendMissingError, match="not installed"):
        scan(tmp_path / f"m{suffix}")


def test_nothing_hurt() -> None:
    report = WeightReport("p", "onnx", (cast_of("w", (2,), "float32", [np.ones(2, np.float32)]), cast_of("e", (0,), "float32", [])))
    assert report.worst == ()
    assert "nothing leaves" in report.verdict
    assert report.tensors[1].smallest == math.inf


def test_onnx_scan_imports_no_torch(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "m.onnx")
    code = f"import sys; from fp16fix.weights import scan; scan({str(path)!r}); import fp16fix.weights.pytorch; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
