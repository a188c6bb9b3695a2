"""A plan on disk and samples → outputs, latency or intermediate values, from a child process on the GPU of this machine."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fp16fix.engines.backend import RTX, STRONG
from fp16fix.engines.gpu import gpu_status
from fp16fix.engines.options import BuildOptions
from fp16fix.engines.supervise import Request, supervise
from fp16fix.errors import BackendMissingError, SampleError, absent

Sample = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one inference on the GPU, copies excluded; milliseconds."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    repeats: int


def can_execute() -> tuple[bool, str]:
    """Whether a plan can run here, and why not: no driver, no GPU, no TensorRT flavour."""
    gpu = gpu_status()
    if not gpu.present:
        return False, gpu.why
    if not (RTX.importable() or STRONG.importable()):
        return False, "no TensorRT flavour is installed"
    return True, ""


def run(
    plan: Path, samples: Sequence[Sample], *, backend: str = "auto", timeout_s: float = 600.0, memory_mib: int = 0
) -> tuple[dict[str, np.ndarray], ...]:
    """Outputs of each sample, by name; BF16 outputs as ``ml_dtypes.bfloat16``.

    Args:
        plan: an engine file made for this GPU by ``backend``.
        samples: arrays by input name; converted to the engine's types.
        backend: ``rtx``, ``strong`` or ``weak``: which library made the plan; ``auto`` takes TensorRT-RTX if installed.
        timeout_s: wall time of the child process.
        memory_mib: its resident memory; 0 for no limit.

    Raises:
        BackendMissingError: nothing here can run an engine.
        BuildError: the plan does not load or run, or its process dies.
        ConfigError: no profile of the plan covers a sample.
    """
    with tempfile.TemporaryDirectory() as folder:
        request("run", plan, samples, Path(folder), backend, timeout_s, memory_mib, {})
        return tuple(read_arrays(Path(folder) / f"out_{index}.npz") for index in range(len(samples)))


def latency(
    plan: Path, sample: Sample, *, backend: str = "auto", warm_up: int = 20, repeats: int = 200, timeout_s: float = 600.0
) -> Latency:
    """Median of ``repeats`` inferences after ``warm_up`` others. Raises as ``run`` does."""
    with tempfile.TemporaryDirectory() as folder:
        found = request("latency", plan, [sample], Path(folder), backend, timeout_s, 0, {"warm_up": warm_up, "repeats": repeats})
    return summarise(found["times_ms"])


def intermediates(plan: Path, sample: Sample, *, backend: str = "auto", timeout_s: float = 600.0) -> dict[str, np.ndarray]:
    """Tensors of a plan built with ``debug_tensors``, by network name, in the plan's own fusion. Raises as ``run`` does."""
    with tempfile.TemporaryDirectory() as folder:
        request("intermediates", plan, [sample], Path(folder), backend, timeout_s, 0, {})
        return read_arrays(Path(folder) / "out_0.npz")


def summarise(times_ms: Sequence[float]) -> Latency:
    """Median and the deciles at both ends."""
    if len(times_ms) == 1:
        return Latency(times_ms[0], times_ms[0], times_ms[0], 1)
    deciles = statistics.quantiles(times_ms, n=10, method="inclusive")
    return Latency(statistics.median(times_ms), deciles[0], deciles[-1], len(times_ms))


def request(
    task: str, plan: Path, samples: Sequence[Sample], folder: Path, backend: str, timeout_s: float, memory_mib: int, numbers: dict[str, Any]
) -> dict[str, Any]:
    """Write the samples where the child finds them, and have it work."""
    able, why = can_execute()
    if not able:
        raise BackendMissingError(f"no engine can run here: {why}", where=str(plan), hint="copy the plan to a machine with an NVIDIA GPU")
    if not plan.is_file():
        raise SampleError(absent(plan, "plan"), where=str(plan))
    for index, sample in enumerate(samples):
        write_arrays(folder / f"in_{index}.npz", sample)
    flavour = ("rtx" if RTX.importable() else "strong") if backend == "auto" else backend
    options = BuildOptions(backend=flavour, timeout_s=timeout_s, memory_mib=memory_mib)
    return supervise(Request(task, flavour, options, plan.resolve(), extra={"folder": str(folder), "count": len(samples), **numbers}), None)


def write_arrays(path: Path, arrays: Sample) -> None:
    """An ``.npz`` by position, names apart: tensor names hold slashes, and numpy does not know bfloat16."""
    raw: dict[str, Any] = {
        f"values_{index}": np.asarray(array, order="C").view(storage(array.dtype)) for index, array in enumerate(arrays.values())
    }
    np.savez(
        path,
        names=np.array(list(arrays), dtype=np.str_),
        types=np.array([array.dtype.name for array in arrays.values()], dtype=np.str_),
        **raw,
    )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The inverse of ``write_arrays``."""
    with np.load(path) as held:
        names, types = held["names"].tolist(), held["types"].tolist()
        return {name: held[f"values_{index}"].view(named(dtype)) for index, (name, dtype) in enumerate(zip(names, types, strict=True))}


def storage(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type an array is stored as."""
    return np.dtype(np.uint16) if dtype == np.dtype(ml_dtypes.bfloat16) else dtype


def named(dtype: str) -> np.dtype[Any]:
    """A numpy type by name, bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
