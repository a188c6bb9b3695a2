"""The NVIDIA driver → ``GpuStatus``: asked through libcuda itself, so that no CUDA package is needed to know that there is none."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True, slots=True)
class GpuStatus:
    """Whether this machine can run an engine."""

    present: bool
    devices: tuple[str, ...]
    """Names of the GPUs, in CUDA order."""
    capabilities: tuple[str, ...]
    """``sm89`` and the like, one a device."""
    cuda: str
    """Newest CUDA version the driver serves; empty without one."""
    why: str
    """Why not, in words; empty if present."""


@cache
def gpu_status() -> GpuStatus:
    """Ask the driver once per process."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return GpuStatus(False, (), (), "", f"no NVIDIA driver: {library} is not there")
    return query(cuda)


def query(cuda: Any) -> GpuStatus:
    """Devices as the driver API lists them (cuInit, cuDeviceGet, cuDeviceGetName, attributes 75 and 76)."""
    code = cuda.cuInit(0)
    if code != 0:
        return GpuStatus(False, (), (), "", f"the NVIDIA driver does not start: cuInit returned {code}")
    count, version = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetCount(ctypes.byref(count))
    if count.value == 0:
        return GpuStatus(False, (), (), "", "an NVIDIA driver without a GPU")
    names, capabilities = [], []
    for index in range(count.value):
        device, major, minor, name = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
        cuda.cuDeviceGet(ctypes.byref(device), index)
        cuda.cuDeviceGetName(name, 256, device)
        cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        names.append(name.value.decode())
        capabilities.append(f"sm{major.value}{minor.value}")
    return GpuStatus(True, tuple(names), tuple(capabilities), f"{version.value // 1000}.{version.value % 1000 // 10}", "")
