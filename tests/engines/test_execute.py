from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fp16fix.engines import BuildOptions, build
from fp16fix.engines.backend import RTX, STRONG, Flavour
from fp16fix.engines.execute import can_execute, intermediates, latency, read_arrays, run, summarise, write_arrays
from fp16fix.engines.gpu import GpuStatus, gpu_status
from fp16fix.errors import BackendMissingError
from tests.engines import tiny


def test_arrays_cross_the_border_unchanged(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {
        "/model/out:0": np.array([[1.5, np.inf]], np.float16),
        "brain": np.arange(3).astype(ml_dtypes.bfloat16),
        "scalar": np.array(3, np.int64),
        "values_0": np.array([True, False]),
        "strided": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    write_arrays(tmp_path / "x.npz", arrays)
    found = read_arrays(tmp_path / "x.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_the_median_does_not_mind_an_outlier() -> None:
    found = summarise([1.0] * 9 + [100.0])
    assert (found.median_ms, found.p10_ms, found.repeats) == (1.0, 1.0, 10)
    assert 1.0 < found.p90_ms < 100.0
    assert summarise([2.0]).median_ms == 2.0


@pytest.mark.skipif(gpu_status().present, reason="there is a GPU here")
class TestWithoutGpu:
    def test_it_says_so(self) -> None:
        able, why = can_execute()
        assert able is False
        assert "NVIDIA driver" in why

    def test_running_is_an_error_before_anything_is_tried(self, tmp_path: Path) -> None:
        with pytest.raises(BackendMissingError, match="no engine can run here: no NVIDIA driver"):
            run(tmp_path / "absent.plan", [])


def test_a_gpu_without_tensorrt_cannot_execute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fp16fix.engines.execute.gpu_status", lambda: GpuStatus(True, ("L4",), ("sm89",), "13.0", ""))
    monkeypatch.setattr(Flavour, "importable", lambda self: False)
    assert can_execute() == (False, "no TensorRT flavour is installed")


@pytest.mark.gpu
@pytest.mark.skipif(not can_execute()[0], reason="no GPU, or no TensorRT")
class TestOnGpu:
    """What only an NVIDIA GPU can show; the plan is built for it by whichever flavour serves it."""

    def plan(self, tmp_path: Path) -> tuple[Path, str]:
        backend = "strong" if STRONG.importable() else RTX.name
        options = BuildOptions(backend=backend, debug_tensors=True, targets=() if backend == "strong" else gpu_status().capabilities[:1])
        return build(tiny.write(tmp_path, tiny.GOOD), tmp_path / "x.plan", options).plan, backend

    def test_outputs_and_latency_and_insides(self, tmp_path: Path) -> None:
        plan, backend = self.plan(tmp_path)
        x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float16)
        (found,) = run(plan, [{"x": x}], backend=backend)
        wide = x.astype(np.float64)
        normal = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(found["y"], np.exp(np.maximum(normal, 0)), rtol=5e-3)
        assert latency(plan, {"x": x}, backend=backend, repeats=20).median_ms > 0
        assert isinstance(intermediates(plan, {"x": x}, backend=backend), dict)
