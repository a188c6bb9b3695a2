# ruff: noqa: N802 - the driver's names
from __future__ import annotations

from typing import Any

from fp16fix.engines.gpu import gpu_status, query


class Driver:
    """libcuda's entry points for two GPUs; pointers arrive as ``byref`` objects."""

    def __init__(self, code: int = 0, count: int = 2) -> None:
        self.code, self.count = code, count

    def cuInit(self, flags: int) -> int:
        return self.code

    def cuDriverGetVersion(self, out: Any) -> int:
        out._obj.value = 13020
        return 0

    def cuDeviceGetCount(self, out: Any) -> int:
        out._obj.value = self.count
        return 0

    def cuDeviceGet(self, out: Any, index: int) -> int:
        out._obj.value = 10 + index
        return 0

    def cuDeviceGetName(self, out: Any, size: int, device: Any) -> int:
        out.value = f"GPU {device.value}".encode()
        return 0

    def cuDeviceGetAttribute(self, out: Any, which: int, device: Any) -> int:
        out._obj.value = {75: 8, 76: 9}[which]
        return 0


def test_devices_by_name_and_capability() -> None:
    found = query(Driver())
    assert (found.present, found.devices, found.capabilities, found.cuda) == (True, ("GPU 10", "GPU 11"), ("sm89", "sm89"), "13.2")


def test_a_driver_that_does_not_start() -> None:
    found = query(Driver(code=100))
    assert found.present is False
    assert "cuInit returned 100" in found.why


def test_a_driver_without_a_gpu() -> None:
    assert query(Driver(count=0)).why == "an NVIDIA driver without a GPU"


def test_here_it_is_consistent() -> None:
    found = gpu_status()
    assert found.present is not bool(found.why)
    assert found.present is bool(found.devices)
