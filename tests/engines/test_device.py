"""``CudaDevice`` against a CUDA runtime of plain functions that answer like cuda-python's: (error, value)."""

# ruff: noqa: N802, N815 - CUDA's names
from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Any

import numpy as np
import pytest

from fp16fix.engines.device import CudaDevice, open_device
from fp16fix.engines.gpu import gpu_status
from fp16fix.engines.listen import LibraryRefusal


class Error(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2


class Runtime:
    """Host memory under CUDA's names."""

    cudaStreamNonBlocking = 1

    class cudaMemcpyKind:  # noqa: N801 - CUDA's name
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    def __init__(self, room: int = 1 << 20) -> None:
        self.room = room
        self.held: dict[int, Any] = {}
        self.clock = 0.0

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Error, int]:
        assert flags == self.cudaStreamNonBlocking
        return Error.cudaSuccess, 99

    def cudaMalloc(self, size: int) -> tuple[Error, int]:
        if size > self.room:
            return Error.cudaErrorMemoryAllocation, 0
        buffer = ctypes.create_string_buffer(size)
        self.held[ctypes.addressof(buffer)] = buffer
        return Error.cudaSuccess, ctypes.addressof(buffer)

    def cudaFree(self, address: int) -> tuple[Error]:
        del self.held[address]
        return (Error.cudaSuccess,)

    def cudaMemcpy(self, target: int, source: int, count: int, kind: int) -> tuple[Error]:
        assert kind in {1, 2}
        ctypes.memmove(target, source, count)
        return (Error.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Error]:
        assert stream == 99
        return (Error.cudaSuccess,)

    def cudaEventCreate(self) -> tuple[Error, dict[str, float]]:
        return Error.cudaSuccess, {}

    def cudaEventRecord(self, event: dict[str, float], stream: int) -> tuple[Error]:
        self.clock += 2.5
        event["at"] = self.clock
        return (Error.cudaSuccess,)

    def cudaEventSynchronize(self, event: dict[str, float]) -> tuple[Error]:
        return (Error.cudaSuccess,)

    def cudaEventElapsedTime(self, start: dict[str, float], end: dict[str, float]) -> tuple[Error, float]:
        return Error.cudaSuccess, end["at"] - start["at"]


def test_bytes_go_there_and_back() -> None:
    device = CudaDevice(Runtime())
    values = np.arange(6, dtype=np.float16).reshape(2, 3).T
    assert device.stream == 99
    raw = device.download(device.upload(values), values.nbytes)
    np.testing.assert_array_equal(np.frombuffer(raw, np.float16).reshape(3, 2), values)


def test_free_gives_everything_back() -> None:
    runtime = Runtime()
    device = CudaDevice(runtime)
    device.allocate(0)
    device.upload(np.ones(3))
    assert len(runtime.held) == 2
    device.free()
    assert runtime.held == {}


def test_marks_measure() -> None:
    device = CudaDevice(Runtime())
    assert device.elapsed_ms(device.mark(), device.mark()) == 2.5


def test_a_cuda_error_is_named() -> None:
    with pytest.raises(LibraryRefusal, match="cudaMalloc failed: "):
        CudaDevice(Runtime(room=8)).allocate(9)


@pytest.mark.skipif(gpu_status().present, reason="there is a GPU here")
def test_no_library_is_an_error_with_a_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LibraryRefusal, match="no library to reach GPU memory") as caught:
        open_device()
    assert "pip install cuda-python" in caught.value.hint
