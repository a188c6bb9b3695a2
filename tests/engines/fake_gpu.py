"""A TensorRT whose "GPU" is host memory: enough of the real API (no name outside our table) to run ``Runner`` on."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np


class HostDevice:
    """A ``Device`` on the CPU; counts what is alive."""

    stream = 7

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}
        self.clock = 0.0

    def allocate(self, count: int) -> int:
        buffer = ctypes.create_string_buffer(max(1, count))
        self.held[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def upload(self, values: np.ndarray) -> int:
        address = self.allocate(values.nbytes)
        ctypes.memmove(address, values.tobytes(), values.nbytes)
        return address

    def download(self, address: int, count: int) -> bytes:
        return ctypes.string_at(address, count)

    def free(self) -> None:
        self.held.clear()

    def mark(self) -> float:
        self.clock += 1.0
        return self.clock

    def elapsed_ms(self, start: float, end: float) -> float:
        return end - start


class TensorIOMode(Enum):
    INPUT = 1
    OUTPUT = 2


class TensorLocation(Enum):
    DEVICE = 1
    HOST = 2


class DataType(Enum):
    FLOAT = 1
    HALF = 2
    INT64 = 3


class ILogger:
    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


class IOutputAllocator:
    pass


class IDebugListener:
    pass


Tensors = dict[str, tuple[TensorIOMode, DataType, tuple[int, ...]]]


class ICudaEngine:
    """Inputs and outputs as given; ``compute`` maps input arrays to output arrays."""

    def __init__(self, tensors: Tensors, profiles: list[dict[str, Any]], compute: Callable[..., dict[str, np.ndarray]]) -> None:
        self.tensors, self.profiles, self.compute = tensors, profiles, compute
        self.on_host: set[str] = set()

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self.tensors[name][0]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.tensors[name][1]

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.HOST if name in self.on_host else TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return list(self.profiles[profile_index][name])

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)


class IExecutionContext:
    """Reads inputs at the addresses it was given, writes outputs at theirs."""

    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self.profile = -1
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}
        self.listener: Any = None
        self.debugging = False
        self.runs = 0
        self.fails = False
        self.unfused_tensors_debug_state = False

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert stream_handle == HostDevice.stream
        self.profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name, (mode, _, _) in self.engine.tensors.items() if mode is TensorIOMode.INPUT and name not in self.addresses]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = next(iter(self.shapes.values()))[0] if self.shapes else 1
        return tuple(batch if dim == 0 else dim for dim in self.engine.tensors[name][2])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self.allocators[name] = output_allocator
        return True

    def set_debug_listener(self, listener: Any) -> bool:
        self.listener = listener
        return True

    def set_all_tensors_debug_state(self, flag: bool) -> bool:
        self.debugging = flag
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self.runs += 1
        if self.fails:
            return False
        outputs = self.engine.compute(
            **{name.replace(":", "_"): self.read(name) for name, each in self.engine.tensors.items() if each[0] is TensorIOMode.INPUT}
        )
        for name, values in outputs.items():
            if name in self.engine.tensors:
                self.write(name, values, stream_handle)
            elif self.debugging:
                raw = values.tobytes()
                buffer = ctypes.create_string_buffer(raw, len(raw))
                kind = {"float32": DataType.FLOAT, "float16": DataType.HALF}[values.dtype.name]
                assert self.listener.process_debug_tensor(
                    ctypes.addressof(buffer), TensorLocation.DEVICE, kind, values.shape, name, stream_handle
                )
        return True

    def read(self, name: str) -> np.ndarray:
        dtype = {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT64: np.int64}[self.engine.tensors[name][1]]
        shape = self.shapes.get(name, self.engine.tensors[name][2])
        raw = ctypes.string_at(self.addresses[name], int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return np.frombuffer(raw, dtype).reshape(shape)

    def write(self, name: str, values: np.ndarray, stream_handle: int) -> None:
        raw = values.tobytes()
        if name in self.allocators:
            allocator = self.allocators[name]
            address = allocator.reallocate_output_async(name, 0, len(raw), 256, stream_handle)
            allocator.notify_shape(name, values.shape)
        else:
            address = self.addresses[name]
        ctypes.memmove(address, raw, len(raw))


def library(engine: ICudaEngine | None) -> Any:
    """A module-like object whose runtime deserialises anything into ``engine``."""

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            assert serialized_engine == b"plan"
            return engine

    class Library:
        __version__ = "10.13"

    parts = (Runtime, ICudaEngine, IExecutionContext, ILogger, IOutputAllocator, IDebugListener, TensorIOMode, TensorLocation)
    for part in parts:
        setattr(Library, part.__name__, part)
    return Library
