"""``scan``: picks the reader by the file's suffix; readers yield one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx.external_data_helper

from fp16fix.errors import BackendMissingError, InputError, absent, first_line
from fp16fix.weights.cast import TensorCast, WeightReport, cast_of, pieces_of

Reader = Callable[[Path, "Notes"], Iterator[TensorCast]]
FLOATS: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
}
SAFE = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(slots=True)
class Notes:
    """What a reader passed over."""

    said: list[str] = field(default_factory=list)


def scan(path: Path | str) -> WeightReport:
    """What FP16 does to every float tensor of a ``.pth``, ``.pt``, ``.bin``, ``.ckpt``, ``.safetensors`` or ``.onnx`` file.

    Checkpoints are loaded as weights only: no code in them is ever run.

    Raises:
        InputError: no such file, an unknown suffix, a damaged file, or a checkpoint that holds more than weights.
        BackendMissingError: torch or safetensors is needed and not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(absent(path), where=str(path), hint=f"give a file ending in {', '.join(sorted(READERS))}")
    if path.suffix not in READERS:
        raise InputError(
            f"is of no known kind ({path.suffix or 'no suffix'})", where=str(path), hint=f"known are {', '.join(sorted(READERS))}"
        )
    kind, reader = READERS[path.suffix]
    notes = Notes()
    return WeightReport(str(path), kind, tuple(reader(path, notes)), tuple(notes.said))


def from_checkpoint(path: Path, notes: Notes) -> Iterator[TensorCast]:
    """Tensors of a PyTorch checkpoint, under the names of its nested dictionaries."""
    from fp16fix.weights.pytorch import checkpoint_tensors

    for name, shape, dtype, pieces in checkpoint_tensors(path, notes.said):
        yield cast_of(name, shape, dtype, pieces)


def from_safetensors(path: Path, notes: Notes) -> Iterator[TensorCast]:
    """Tensors of a safetensors file; its format holds no code."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise BackendMissingError("safetensors is not installed", where=str(path), hint="pip install 'fp16fix[safetensors]'") from error
    try:
        with safe_open(str(path), framework="np") as file:
            for name in sorted(file.keys()):
                stored = str(file.get_slice(name).get_dtype())
                if stored in SAFE:
                    array = file.get_tensor(name)
                    yield cast_of(name, tuple(array.shape), SAFE[stored], pieces_of(array))
                elif stored.startswith("F"):
                    notes.said.append(f"{name} is {stored}: not looked at")
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"not a readable safetensors file ({first_line(error)})", where=str(path), hint="download or save it again"
        ) from error


def from_onnx(path: Path, notes: Notes) -> Iterator[TensorCast]:
    """Initializers and dense constants of an ONNX file, those of bodies and functions included; external data tensor by tensor."""
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf and OS errors share no base class
        raise InputError(f"not a readable ONNX file ({first_line(error)})", where=str(path), hint="export the model again") from error
    for name, tensor in (*onnx_tensors(model.graph), *(pair for body in model.functions for pair in node_tensors(body.node))):
        if tensor.data_type in FLOATS:
            array = onnx_values(tensor, path)
            yield cast_of(name, tuple(tensor.dims), FLOATS[tensor.data_type], pieces_of(array))
    if model.graph.sparse_initializer:
        notes.said.append(f"{len(model.graph.sparse_initializer)} sparse initializers: not looked at")


def onnx_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """(name, tensor) of a graph and the bodies in it."""
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    yield from node_tensors(graph.node)


def node_tensors(nodes: onnx.NodeProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Tensors held by attributes; a Constant is called after its output."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield (node.output[0] if node.op_type == "Constant" else f"{node.name or node.op_type}.{attribute.name}"), attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from onnx_tensors(attribute.g)


def onnx_values(tensor: onnx.TensorProto, path: Path) -> np.ndarray:
    """The values; a copy reads external data, so that the model itself stays small."""
    try:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            filled = onnx.TensorProto()
            filled.CopyFrom(tensor)
            onnx.external_data_helper.load_external_data_for_tensor(filled, str(path.parent))
            return onnx.numpy_helper.to_array(filled)
        return onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # onnx's own checks, OS errors and short files share no base class
        raise InputError(
            f"the data of {tensor.name!r} cannot be read ({first_line(error)})", where=str(path), hint="keep external data beside the model"
        ) from error


READERS: dict[str, tuple[str, Reader]] = {
    ".pth": ("checkpoint", from_checkpoint),
    ".pt": ("checkpoint", from_checkpoint),
    ".bin": ("checkpoint", from_checkpoint),
    ".ckpt": ("checkpoint", from_checkpoint),
    ".safetensors": ("safetensors", from_safetensors),
    ".onnx": ("onnx", from_onnx),
}
