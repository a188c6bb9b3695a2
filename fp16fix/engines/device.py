"""GPU memory as plain bytes, through torch or cuda-python, whichever is installed; knows nothing of TensorRT."""

from __future__ import annotations

import importlib.util
from typing import Any, Protocol

import numpy as np

from fp16fix.engines.listen import LibraryRefusal


class Device(Protocol):
    """One GPU and one stream. Buffers are addresses; they live until ``free``."""

    @property
    def stream(self) -> int:
        """Handle of a CUDA stream that is not the default one: engines run slower on that."""

    def allocate(self, count: int) -> int:
        """Address of ``count`` fresh bytes."""

    def upload(self, values: np.ndarray) -> int:
        """Address of a copy of a contiguous array."""

    def download(self, address: int, count: int) -> bytes:
        """``count`` bytes from an address, once all work queued on the stream is done."""

    def free(self) -> None:
        """Give back every buffer."""

    def mark(self) -> Any:
        """A time-stamp queued on the stream."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two marks; waits for the second."""


def open_device() -> Device:
    """The first of torch with CUDA, cuda-python.

    Raises:
        LibraryRefusal: neither is installed.
    """
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            return TorchDevice(torch)
    if importlib.util.find_spec("cuda") is not None:
        return CudaDevice(cuda_runtime())
    raise LibraryRefusal(
        "no library to reach GPU memory with", kind="BackendMissingError", hint="pip install cuda-python, or a torch built for CUDA"
    )


def cuda_runtime() -> Any:
    """cuda-python's runtime module, under its name since 12.8 or before."""
    import importlib

    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError:
        return importlib.import_module("cuda.cudart")


class Foreign:
    """Memory that torch did not allocate (a debug tensor of the engine), in the form torch reads it: the CUDA array interface, v3."""

    def __init__(self, address: int, count: int) -> None:
        self.__cuda_array_interface__ = {"data": (address, False), "shape": (count,), "typestr": "|u1", "version": 3}


class TorchDevice:
    """Byte tensors of torch."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._stream = torch.cuda.Stream()
        self._held: dict[int, Any] = {}
        self.stream = int(self._stream.cuda_stream)

    def allocate(self, count: int) -> int:
        buffer = self._torch.empty(max(1, count), dtype=self._torch.uint8, device="cuda")
        self._held[int(buffer.data_ptr())] = buffer
        return int(buffer.data_ptr())

    def upload(self, values: np.ndarray) -> int:
        raw = np.asarray(values, order="C").reshape(-1).view(np.uint8)
        address = self.allocate(raw.nbytes)
        self._held[address][: raw.nbytes].copy_(self._torch.from_numpy(raw.copy()))
        # The copy was queued on torch's stream, the engine reads on ours.
        self._torch.cuda.synchronize()
        return address

    def download(self, address: int, count: int) -> bytes:
        self._stream.synchronize()
        if address in self._held:
            return bytes(self._held[address][:count].cpu().numpy().tobytes())
        return bytes(self._torch.as_tensor(Foreign(address, count), device="cuda").cpu().numpy().tobytes())

    def free(self) -> None:
        self._held.clear()

    def mark(self) -> Any:
        event = self._torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event

    def elapsed_ms(self, start: Any, end: Any) -> float:
        end.synchronize()
        return float(start.elapsed_time(end))


class CudaDevice:
    """cuda-python, whose every call answers (error, values…)."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._held: list[int] = []
        self.stream = int(self._ask("cudaStreamCreateWithFlags", cuda.cudaStreamNonBlocking))

    def _ask(self, name: str, *values: Any) -> Any:
        """Call, check, and return the one value there is."""
        error, *found = getattr(self._cuda, name)(*values)
        if int(error) != 0:
            raise LibraryRefusal(f"{name} failed: {error}")
        return found[0] if found else None

    def allocate(self, count: int) -> int:
        self._held.append(int(self._ask("cudaMalloc", max(1, count))))
        return self._held[-1]

    def upload(self, values: np.ndarray) -> int:
        raw = np.asarray(values, order="C")
        address = self.allocate(raw.nbytes)
        self._ask("cudaMemcpy", address, raw.ctypes.data, raw.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice)
        return address

    def download(self, address: int, count: int) -> bytes:
        self._ask("cudaStreamSynchronize", self.stream)
        host = np.empty(count, np.uint8)
        self._ask("cudaMemcpy", host.ctypes.data, address, count, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost)
        return host.tobytes()

    def free(self) -> None:
        while self._held:
            self._ask("cudaFree", self._held.pop())

    def mark(self) -> Any:
        event = self._ask("cudaEventCreate")
        self._ask("cudaEventRecord", event, self.stream)
        return event

    def elapsed_ms(self, start: Any, end: Any) -> float:
        self._ask("cudaEventSynchronize", end)
        return float(self._ask("cudaEventElapsedTime", start, end))
