"""Weights in files beside a model, of whatever refers to them: initializers, Constant attributes, bodies, functions.

They are taken from the model's own folder and from nowhere else, and what a tensor says of its bytes is checked against the file first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from fp16fix.errors import ModelError
from fp16fix.graph.protos import bodies_of

ALIGNED = 16
"""Bytes to which weights must be aligned to be used where they lie; others are copied."""
PACKED: dict[int, int] = {
    onnx.TensorProto.INT4: 2,
    onnx.TensorProto.UINT4: 2,
    onnx.TensorProto.FLOAT4E2M1: 2,
    onnx.TensorProto.INT2: 4,
    onnx.TensorProto.UINT2: 4,
}
"""Elements a byte, where it is more than one."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Where the bytes of one tensor lie."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        """The bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)

    def mapped(self, tensor: onnx.TensorProto) -> np.ndarray:
        """The values, read only and left on disk until they are looked at."""
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        if not self.length:
            return np.zeros(tuple(tensor.dims), dtype)
        raw = np.asarray(np.memmap(self.path, np.uint8, "r", self.offset, (self.length,)))
        values: np.ndarray = raw.view(dtype).reshape(tuple(tensor.dims))
        return values if self.offset % ALIGNED == 0 else values.copy()


def tensors_of(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that a model holds."""
    yield from _of_graph(proto.graph)
    for function in proto.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _of_sparse(graph.sparse_initializer)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            yield from _of_sparse([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else [])
            yield from _of_sparse(attribute.sparse_tensors)
        for body in bodies_of([node]):
            yield from _of_graph(body)


def _of_sparse(tensors: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for tensor in tensors:
        yield from (tensor.values, tensor.indices)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the bytes lie in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def slice_of(tensor: onnx.TensorProto, model: Path) -> Slice:
    """Where the bytes of an external tensor lie.

    Raises:
        ModelError: outside the model's folder, not there, or not as many as the tensor's shape takes.
    """
    said = {entry.key: entry.value for entry in tensor.external_data}
    where = f"{model}, tensor {tensor.name!r}"
    path = _file(said.get("location", ""), model, where)
    wanted = _bytes_of(tensor, where)
    offset, length = _number(said.get("offset", "0"), where), _number(said.get("length", str(wanted)), where)
    held = path.stat().st_size
    if length != wanted:
        raise ModelError(f"takes {wanted:,} bytes and is said to have {length:,}", where=where, hint="export the model again")
    if offset + length > held:
        what = f"its bytes {offset:,} to {offset + length:,} are not in {path.name}, which has {held:,}"
        raise ModelError(what, where=where, hint="is the file cut off, or of another export?")
    return Slice(path, offset, length)


def _file(location: str, model: Path, where: str) -> Path:
    """The file of a location, links resolved: below the model's folder, or below that of what the model links to, as in caches."""
    path = model.parent / location
    homes = {model.resolve().parent, model.parent.resolve()}
    try:
        inside = bool(location) and not Path(location).is_absolute() and any(path.resolve().is_relative_to(home) for home in homes)
        if inside and path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):  # a name too long, a NUL, links in a circle
        inside = True
    if not inside:
        raise ModelError(
            f"its weights are said to be at {location!r}, outside the model's folder", where=where, hint="they must lie beside it"
        )
    raise ModelError(f"its weights are said to be in {location!r}, and there is no such file", where=where, hint="copy it beside the model")


def _bytes_of(tensor: onnx.TensorProto, where: str) -> int:
    try:
        dtype: np.dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError) as error:
        raise ModelError(f"has element type {tensor.data_type}, which is none", where=where) from error
    if dtype.hasobject or min(tensor.dims, default=0) < 0:
        raise ModelError(f"{dtype} {list(tensor.dims)} cannot lie in another file", where=where, hint="export the model again")
    elements: int = math.prod(tensor.dims)
    return -(-elements // PACKED[tensor.data_type]) if tensor.data_type in PACKED else elements * int(dtype.itemsize)


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(f"its place in its file is said to be {text[:40]!r}", where=where, hint="export the model again")
    return int(text)


def bring_in(tensor: onnx.TensorProto, place: Slice) -> None:
    """Put the bytes into the proto, so that they lie nowhere else."""
    tensor.raw_data = place.read()
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]
