"""A deserialised plan and samples → outputs, latencies or intermediate values. Runs in the child process, on a GPU.

Everything TensorRT has no address for until it runs (outputs whose shape depends on data) goes through an ``IOutputAllocator``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fp16fix.engines.api import EXECUTE, missing
from fp16fix.engines.device import Device
from fp16fix.engines.listen import LibraryRefusal, Listener, logger
from fp16fix.engines.options import Dims, OptimizationProfile, covering

NUMPY: dict[str, Any] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
"""TensorRT's data types that graph inputs, outputs and debug tensors may have."""


class Runner:
    """One engine, one context, one stream."""

    def __init__(self, trt: Any, plan: Path, device: Device, listener: Listener) -> None:
        """Deserialise.

        Raises:
            LibraryRefusal: the bindings are too old, or the plan was made for another GPU or version.
        """
        lacking = missing(trt, EXECUTE)
        if lacking:
            raise LibraryRefusal(f"{trt.__name__} {trt.__version__} lacks {', '.join(lacking)}", kind="BackendMissingError")
        self.trt, self.device, self.listener = trt, device, listener
        self.logger = logger(trt, listener)
        self.runtime = trt.Runtime(self.logger)
        self.engine = self.runtime.deserialize_cuda_engine(plan.read_bytes())
        if self.engine is None:
            words = "; ".join(listener.errors[-3:]) or "no reason given"
            raise LibraryRefusal(
                f"TensorRT {trt.__version__} cannot load the plan: {words}", hint="build it here, or for this GPU: --target"
            )
        self.context = self.engine.create_execution_context()
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        self.inputs = [name for name in names if self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.outputs = [name for name in names if name not in self.inputs]
        self.profiles = self.engine_profiles()
        self.kept: list[Any] = []
        """Host memory and callbacks TensorRT holds addresses of."""

    def engine_profiles(self) -> tuple[OptimizationProfile, ...]:
        """The profiles the plan was built with."""
        return tuple(
            {name: self.bounds(name, index) for name in self.inputs if not self.on_host(name)}
            for index in range(self.engine.num_optimization_profiles)
        )

    def bounds(self, name: str, index: int) -> tuple[Dims, Dims, Dims]:
        """Smallest, likeliest, largest dimensions of an input in one profile."""
        low, likely, high = (tuple(shape) for shape in self.engine.get_tensor_profile_shape(name, index))
        return low, likely, high

    def on_host(self, name: str) -> bool:
        """Inputs whose values decide shapes are read by the CPU."""
        return bool(self.engine.get_tensor_location(name) == self.trt.TensorLocation.HOST)

    def dtype(self, name: str) -> np.dtype[Any]:
        """Numpy's type of an input or output."""
        dtype: np.dtype[Any] = np.dtype(NUMPY[self.engine.get_tensor_dtype(name).name])
        return dtype

    def bind(self, sample: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Choose the profile, upload inputs, and give every output memory: an address, or an allocator where the shape is open."""
        shapes = {name: tuple(sample[name].shape) for name in self.inputs if not self.on_host(name)}
        profile = covering(self.profiles, shapes)
        if profile is None:
            raise LibraryRefusal(
                f"no optimisation profile of the plan covers {shapes}", kind="ConfigError", hint="widen --profile and build again"
            )
        self.context.set_optimization_profile_async(profile, self.device.stream)
        for name in self.inputs:
            values = np.asarray(sample[name], dtype=self.dtype(name), order="C")
            self.kept.append(values)
            if not self.on_host(name):
                self.context.set_input_shape(name, values.shape)
            self.context.set_tensor_address(name, values.ctypes.data if self.on_host(name) else self.device.upload(values))
        unsettled = list(self.context.infer_shapes())
        if unsettled:
            raise LibraryRefusal(f"the shapes of {', '.join(unsettled)} do not follow from the inputs {shapes}")
        return {name: self.bind_output(name) for name in self.outputs}

    def bind_output(self, name: str) -> Any:
        """An address, or an allocator."""
        shape = tuple(self.context.get_tensor_shape(name))
        if min(shape, default=0) < 0:
            allocator = output_allocator(self.trt, self.device)
            self.context.set_output_allocator(name, allocator)
            self.kept.append(allocator)
            return allocator
        address = self.device.allocate(int(np.prod(shape)) * self.dtype(name).itemsize)
        self.context.set_tensor_address(name, address)
        return address

    def enqueue(self) -> None:
        """Queue one inference."""
        if not self.context.execute_async_v3(self.device.stream):
            raise LibraryRefusal(f"the engine does not run: {'; '.join(self.listener.errors[-3:]) or 'no reason given'}")

    def run(self, sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, in the engine's types."""
        held = self.bind(sample)
        self.enqueue()
        outputs = {name: self.fetch(name, each) for name, each in held.items()}
        self.device.free()
        self.kept.clear()
        return outputs

    def fetch(self, name: str, held: Any) -> np.ndarray:
        """An output as an array."""
        allocated = not isinstance(held, int)
        if allocated:
            # The shape is told while the work is done; downloading nothing waits for it.
            self.device.download(held.address, 0)
        shape = tuple(held.shape if allocated else self.context.get_tensor_shape(name))
        dtype = self.dtype(name)
        raw = self.device.download(held.address if allocated else held, int(np.prod(shape)) * dtype.itemsize)
        return np.frombuffer(raw, dtype).reshape(shape)

    def latencies(self, sample: Mapping[str, np.ndarray], *, warm_up: int, repeats: int) -> list[float]:
        """Milliseconds of each of ``repeats`` inferences on the GPU, inputs and outputs already in its memory."""
        self.bind(sample)
        for _ in range(warm_up):
            self.enqueue()
        times = []
        for _ in range(repeats):
            start = self.device.mark()
            self.enqueue()
            times.append(self.device.elapsed_ms(start, self.device.mark()))
        return times

    def intermediates(self, sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values of the tensors marked for debugging at build time, by network tensor name; fusion is that of the plan."""
        found: dict[str, np.ndarray] = {}
        listener = self.listening = debug_listener(self.trt, self.device, found)
        if not self.context.set_debug_listener(listener):
            raise LibraryRefusal("TensorRT refuses a debug listener", hint="build with debug_tensors")
        self.context.set_all_tensors_debug_state(True)
        if hasattr(self.context, "unfused_tensors_debug_state"):
            self.context.unfused_tensors_debug_state = True
        self.run(sample)
        return found


def output_allocator(trt: Any, device: Device) -> Any:
    """An ``IOutputAllocator`` with the address it gave out and the shape it was told."""

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.address = 0
            self.size = 0
            self.shape: Sequence[int] = ()

        def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:  # noqa: ARG002 - TensorRT's signature
            if size > self.size:
                self.address, self.size = device.allocate(size), size
            return self.address or device.allocate(1)

        def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:  # noqa: ARG002
            return self.reallocate_output(tensor_name, memory, size, alignment)

        def notify_shape(self, tensor_name: str, shape: Sequence[int]) -> None:  # noqa: ARG002
            self.shape = tuple(shape)

    return Allocator()


def debug_listener(trt: Any, device: Device, found: dict[str, np.ndarray]) -> Any:
    """An ``IDebugListener`` that copies each tensor into ``found``; addresses are valid only during the call."""

    class Debug(trt.IDebugListener):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IDebugListener.__init__(self)

        def process_debug_tensor(self, addr: Any, location: Any, type: Any, shape: Any, name: str, stream: int) -> bool:  # noqa: A002, ARG002
            if type.name not in NUMPY:
                return True
            dtype = np.dtype(NUMPY[type.name])
            count = int(np.prod(tuple(shape))) * dtype.itemsize
            address = pointer(addr)
            raw = ctypes.string_at(address, count) if location == trt.TensorLocation.HOST else device.download(address, count)
            found[name] = np.frombuffer(raw, dtype).reshape(tuple(shape))
            return True

    return Debug()


def pointer(address: Any) -> int:
    """An address, which the bindings give as an int or as a nameless capsule."""
    if isinstance(address, int):
        return address
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(get(address, None) or 0)
