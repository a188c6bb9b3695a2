from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp16fix.engines import BuildOptions, child, device
from fp16fix.engines.child import serve
from fp16fix.engines.execute import read_arrays, write_arrays
from fp16fix.engines.supervise import Request
from tests.engines import fake_gpu, tiny
from tests.engines.fake_gpu import DataType, HostDevice, ICudaEngine, TensorIOMode
from tests.engines.test_listen import Heard

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")


def talk(line: str) -> tuple[int, list[dict[str, Any]], str]:
    """One request, then the end of input at once: what a child sees whose parent has died."""
    done = subprocess.run([sys.executable, "-m", "fp16fix.engines.child"], input=line, capture_output=True, text=True, check=False)
    return done.returncode, [json.loads(each) for each in done.stdout.splitlines()], done.stderr


@needs_rtx
def test_a_child_whose_parent_died_leaves_nothing(tmp_path: Path) -> None:
    path = tiny.convolutions(tmp_path)
    code, events, _ = talk(Request("build", "rtx", BuildOptions(), path, tmp_path / "x.plan").line(tmp_path / ".x.tmp"))
    assert code in {1, 130}
    assert not any("result" in event for event in events)
    assert [each.name for each in tmp_path.iterdir()] == ["convolutions.onnx"]


@needs_rtx
def test_only_events_reach_standard_output(tmp_path: Path) -> None:
    """The compiler prints its internal errors to standard output by itself."""
    path = tiny.write(tmp_path, tiny.WIDE_ATTENTION)
    with subprocess.Popen(
        [sys.executable, "-m", "fp16fix.engines.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(Request("build", "rtx", BuildOptions(), path, tmp_path / "x.plan").line(tmp_path / ".x.tmp"))
        child.stdin.flush()
        events = [json.loads(line) for line in child.stdout]
        assert "MyelinCheckException" in child.stderr.read()
    assert events[-1]["failure"]["nodes"] == ["attn"]


def test_a_bug_of_ours_is_a_traceback_and_an_exit_code() -> None:
    code, events, said = talk('{"task": "build"}\n')
    assert code == 70
    assert events == []
    assert "KeyError" in said


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose GPU is host memory and whose engine doubles."""
    engine = ICudaEngine(
        {"x": (TensorIOMode.INPUT, DataType.FLOAT, (0, 2)), "y": (TensorIOMode.OUTPUT, DataType.FLOAT, (0, 2))},
        [{"x": ((1, 2), (1, 2), (8, 2))}],
        lambda x: {"y": x * 2, "hidden": x + 1},
    )
    monkeypatch.setattr(child, "load", lambda module: fake_gpu.library(engine))
    monkeypatch.setattr(device, "open_device", HostDevice)


@pytest.mark.usefixtures("gpu")
class TestExecution:
    def serve(self, tmp_path: Path, task: str, batches: tuple[int, ...], **numbers: int) -> tuple[dict[str, Any], Heard]:
        (tmp_path / "x.plan").write_bytes(b"plan")
        for index, batch in enumerate(batches):
            write_arrays(tmp_path / f"in_{index}.npz", {"x": np.full((batch, 2), index + 1, np.float32)})
        extra = {"folder": str(tmp_path), "count": len(batches), **numbers}
        heard = Heard()
        return serve(json.loads(Request(task, "rtx", BuildOptions(), tmp_path / "x.plan", extra=extra).line(None)), None, heard), heard

    def test_run(self, tmp_path: Path) -> None:
        _, heard = self.serve(tmp_path, "run", (1, 3))
        for index, batch in enumerate((1, 3)):
            found = read_arrays(tmp_path / f"out_{index}.npz")
            np.testing.assert_array_equal(found["y"], np.full((batch, 2), 2 * (index + 1)))
        assert [event["done"] for event in heard.events if event["stage"] == "run"] == [0.0, 0.5, 1.0]

    def test_latency(self, tmp_path: Path) -> None:
        found, _ = self.serve(tmp_path, "latency", (1,), warm_up=2, repeats=4)
        assert found == {"times_ms": [1.0] * 4}

    def test_intermediates(self, tmp_path: Path) -> None:
        self.serve(tmp_path, "intermediates", (1,))
        np.testing.assert_array_equal(read_arrays(tmp_path / "out_0.npz")["hidden"], [[2, 2]])
