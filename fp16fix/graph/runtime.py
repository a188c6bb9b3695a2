"""How ONNX Runtime runs in this process: on which device, with whose kernels, and what Python computes in the place of an operator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from fp16fix.errors import BackendMissingError, ConfigError, ModelError, first_line
from fp16fix.graph.protos import graphs_of

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
PYTHON_DOMAIN = "ai.onnx.contrib"
"""Where onnxruntime-extensions puts operators that Python computes."""
WITHOUT_TF32 = {"use_tf32": "0"}
"""ONNX Runtime's CUDA provider rounds FP32 products to TF32 otherwise: that is no FP32 to compare with."""
Provider = str | tuple[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class StandIn:
    """Python that computes an operator."""

    name: str
    """Where it is from, ``file.py:function``."""
    function: Callable[..., Any]
    """Arrays in the order of the node's inputs, attributes by keyword → an array, or a tuple of them."""
    blaming: Callable[[], AbstractContextManager[None]] = nullcontext
    """Turns what it raised into an error at its line."""


@dataclass(frozen=True)
class Runtime:
    """What a config asks of ONNX Runtime."""

    device: str = "cpu"
    libraries: tuple[Path, ...] = ()
    """With kernels of custom operators."""
    stand_ins: Mapping[str, StandIn] = field(default_factory=dict)
    """By ``domain::Op``, or by ``Op`` of whatever domain."""


_current = Runtime()


def use(runtime: Runtime) -> None:
    """From now on, in this process.

    Raises:
        BackendMissingError: ONNX Runtime has no CUDA provider here; onnxruntime-extensions is not installed, and Python is to compute.
        ConfigError: a library that is not there, or that ONNX Runtime cannot load.
    """
    global _current  # noqa: PLW0603 - sessions are opened everywhere, and one process runs one config
    if runtime.device == "cuda" and CUDA not in ort.get_available_providers():
        has = ", ".join(ort.get_available_providers())
        hint = "pip install onnxruntime-gpu in the place of onnxruntime, or leave --device out"
        raise BackendMissingError(f"ONNX Runtime {ort.__version__} here has no CUDA provider (it has {has})", where="device", hint=hint)
    for library in runtime.libraries:
        refuse_unloadable(library)
    if runtime.stand_ins:
        extensions()
    _current = runtime


def refuse_unloadable(library: Path) -> None:
    """Say at once, and once, that a library cannot be used."""
    if not library.is_file():
        raise ConfigError("no such library", where=f"ort_libraries: {library}", hint="give the path of a .so built for ONNX Runtime")
    try:
        ort.SessionOptions().register_custom_ops_library(str(library.resolve()))
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise ConfigError(f"ONNX Runtime cannot load it ({first_line(error)})", where=f"ort_libraries: {library}") from error


def providers() -> list[Provider]:
    """Of every session, the first that can run a node runs it."""
    return [(CUDA, WITHOUT_TF32), CPU] if _current.device == "cuda" else [CPU]


def equip(options: ort.SessionOptions) -> None:
    """Give a session the kernels that were asked for."""
    for library in _current.libraries:
        options.register_custom_ops_library(str(library.resolve()))
    if _current.stand_ins:
        options.register_custom_ops_library(extensions().get_library_path())


def stands_in() -> bool:
    """Whether Python computes some operator."""
    return bool(_current.stand_ins)


def has_libraries() -> bool:
    """Whether kernels were given; of what, only ONNX Runtime knows."""
    return bool(_current.libraries)


def stand_in_of(node: onnx.NodeProto) -> StandIn | None:
    """What computes a node in the place of ONNX Runtime."""
    return _current.stand_ins.get(f"{node.domain}::{node.op_type}") or _current.stand_ins.get(node.op_type)


def extensions() -> ModuleType:
    """onnxruntime-extensions, which lets Python compute an operator."""
    try:
        import onnxruntime_extensions
    except ImportError as error:
        hint = "pip install 'fp16fix[stand-ins]', or build the operator's kernel and give it with --ort-library"
        raise BackendMissingError("onnxruntime-extensions is not installed, and Python is to compute an operator", hint=hint) from error
    found: ModuleType = onnxruntime_extensions
    return found


def stood_in(proto: onnx.ModelProto, typed: Callable[[], Mapping[str, int]]) -> onnx.ModelProto:
    """A session's proto, edited in place: operators that have a stand-in are computed by Python.

    Args:
        proto: of a session, and of nothing that is delivered.
        typed: element types by tensor, asked for where there are stand-ins; one that is not known is FP32.
    """
    if not _current.stand_ins:
        return proto
    types, found = typed(), False
    for graph in graphs_of(proto.graph):
        for node in graph.node:
            stand_in = stand_in_of(node)
            if stand_in is not None:
                node.op_type = registered(stand_in, node, types)
                node.domain, found = PYTHON_DOMAIN, True
                del node.attribute[:]
    if found and PYTHON_DOMAIN not in {each.domain for each in proto.opset_import}:
        proto.opset_import.add(domain=PYTHON_DOMAIN, version=1)
    return proto


def registered(stand_in: StandIn, node: onnx.NodeProto, types: Mapping[str, int]) -> str:
    """The operator that computes one node: the function with the node's attributes, for operands of its types."""
    tools = extensions()
    kinds = [tuple(types.get(name) or onnx.TensorProto.FLOAT for name in names) for names in (node.input, node.output)]
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    attributes = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    name = (
        "fp16fix_"
        + hashlib.sha256(repr((stand_in.name, id(stand_in.function), kinds, sorted(attributes.items()))).encode()).hexdigest()[:24]
    )
    if name not in _known:
        inputs, outputs = ([element(tools, kind) for kind in some] for some in kinds)
        tools.onnx_op(op_type=name, inputs=inputs, outputs=outputs)(computing(stand_in, attributes, kinds[1]))
        _known.add(name)
    return name


_known: set[str] = set()
"""Operators that are registered: the registry is the process's, and takes each once."""


def element(tools: ModuleType, kind: int) -> int:
    """An element type in the words of onnxruntime-extensions, which are ONNX's."""
    names = {int(getattr(tools.PyCustomOpDef, name)) for name in dir(tools.PyCustomOpDef) if name.startswith("dt_")}
    if kind not in names:
        raise ModelError(f"a stand-in cannot take or give {onnx.TensorProto.DataType.Name(kind)}", where="stand_ins")
    return kind


def computing(stand_in: StandIn, attributes: Mapping[str, Any], outputs: Iterable[int]) -> Callable[..., Any]:
    """The function as onnxruntime-extensions calls it: arrays in, arrays of the declared types out."""
    wanted = [onnx.helper.tensor_dtype_to_np_dtype(kind) for kind in outputs]

    def compute(*arrays: np.ndarray) -> Any:
        try:
            with np.errstate(all="ignore"):  # plain FP16 hands it infinities
                given = stand_in.function(*arrays, **attributes)
            made = given if isinstance(given, tuple) else (given,)
            if len(made) != len(wanted):
                raise ValueError(f"{stand_in.name} gives {len(made)} outputs, the node has {len(wanted)}")  # noqa: TRY301
            found = [np.ascontiguousarray(array, dtype) for array, dtype in zip(made, wanted, strict=True)]
        except BaseException as error:  # noqa: BLE001 - what leaves a callback ends the process, without a word
            _failures.append((stand_in, error))
            found = [np.zeros((), dtype) for dtype in wanted]
        return found[0] if len(found) == 1 else tuple(found)

    return compute


_failures: list[tuple[StandIn, BaseException]] = []
"""What stand-ins raised in the run that goes on."""


def raise_failures() -> None:
    """After a run: say what a stand-in raised in it.

    Raises:
        SampleError: at the line of the user's file.
    """
    if _failures:
        stand_in, error = _failures[0]
        _failures.clear()
        with stand_in.blaming():
            raise error
