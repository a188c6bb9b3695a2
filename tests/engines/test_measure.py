"""``tools/gpu/measure.py``: honest without a GPU; with one played by the strict emulator, the table it writes."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from fp16fix.engines.execute import Latency
from fp16fix.engines.gpu import GpuStatus, gpu_status
from fp16fix.graph.load import load
from fp16fix.graph.lower import lower
from fp16fix.graph.session import Session, proto_of
from fp16fix.strict.emulate import emulate

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")
ILL = """<ir_version: 9, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] y)
<float big = {300}, float small = {0.001}>
{ [up] a = Mul(x, big)  [square] b = Mul(a, a)  [down] y = Mul(b, small) }"""


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure", Path(__file__).parents[2] / "tools" / "gpu" / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "measure", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(gpu_status().present, reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_writes_nothing(measure: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = measure.main(["a.onnx", "b.onnx", "--inputs", "c", "--out", str(tmp_path / "table")])
    assert code == 3
    assert "nothing was measured: no NVIDIA driver" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@needs_rtx
def test_the_table(measure: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_path, repaired_path = tmp_path / "ill.onnx", tmp_path / "ill.repaired.onnx"
    onnx.save(parser.parse_model(ILL), model_path)
    onnx.save(proto_of(lower(load(model_path), {"square": "fp32", "down": "fp32"})), repaired_path)
    np.savez(tmp_path / "sample.npz", x=np.linspace(1, 2, 8, dtype=np.float32).reshape(2, 4))

    def run(plan: Path, samples: Sequence[Any], *, backend: str) -> list[dict[str, np.ndarray]]:
        assert plan.stat().st_size > 1000
        session = Session(emulate(measure.typed(plan.with_suffix(".onnx"))))
        return [dict(session.run(sample)) for sample in samples]

    monkeypatch.setattr(measure, "can_execute", lambda: (True, ""))
    monkeypatch.setattr(measure, "gpu_status", lambda: GpuStatus(True, ("L4",), ("sm89",), "13.0", ""))
    monkeypatch.setattr(measure, "run", run)
    monkeypatch.setattr(measure, "latency", lambda *_, **__: Latency(0.5, 0.4, 0.6, 200))
    out = tmp_path / "table"
    arguments = [str(model_path), str(repaired_path), "--inputs", str(tmp_path / "sample.npz"), "--backend", "rtx", "--out", str(out)]
    assert measure.main(arguments) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    assert (found["gpu"], found["capability"], found["backend"]) == ("L4", "sm89", "rtx")
    rows = {row["engine"]: row for row in found["rows"]}
    assert rows["FP32"]["sqnr_db"] is None
    assert rows["plain FP16"]["lost"] == 8
    assert rows["repaired"]["lost"] == 0
    assert rows["repaired"]["sqnr_db"] == rows["repaired"]["strict_db"] > 50
    table = out.with_suffix(".md").read_text()
    assert table.count("\n| ") == 4
    assert "ill.onnx on L4 (sm89), CUDA 13.0, rtx" in table
