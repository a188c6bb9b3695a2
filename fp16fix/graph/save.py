"""Files appear whole or not at all: a temporary file in the same folder, fsync, rename, fsync of the folder."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx

from fp16fix.errors import InputError
from fp16fix.graph.model import Model
from fp16fix.graph.opaque import put_back
from fp16fix.graph.session import parted, proto_of
from fp16fix.graph.stream import stream
from fp16fix.process.interrupts import placed, undisturbed

LIMIT = 2**31 - 2**26
"""Protobuf messages end at 2 GiB, of which the nodes take a few; weights of larger models go into a file beside."""
STREAMED = 32 << 20
"""Bytes of weights that no proto holds: it would have them twice more, in itself and in its bytes."""
DATA = ".data"
"""Ending of such a file."""
DIGITS = 16
"""Hexadecimal digits of its digest that its name bears."""
PAGE = 4096
"""Bytes to which weights are aligned in it, so that readers may map them (ONNX, ExternalData.md)."""


def write_atomically(path: Path, data: bytes | Callable[[Path], object]) -> None:
    """Write ``data`` to ``path``, or let it write a file whose path it is given.

    Raises:
        InputError: the folder cannot be made, is not writable, or is full; whatever stood at ``path`` is untouched.
    """
    with replacing(path) as temporary:
        if isinstance(data, bytes):
            temporary.write_bytes(data)
        else:
            data(temporary)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder that becomes ``path`` when the block ends well, and vanishes when it does not.

    Raises:
        InputError: see ``write_atomically``; also for an ``OSError`` that leaves the block.
    """
    path = Path(path)
    with claimed_file(path) as temporary:
        yield temporary
        put(temporary, path)


@contextmanager
def claimed_file(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of ``path`` that has vanished after the block unless it was moved. Raises as ``replacing``."""
    temporary = claimed(path)
    try:
        yield temporary
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> InputError:
    """The error for a file that cannot be written."""
    return InputError(f"cannot write: {error.strerror or error}", where=str(path), hint="is the disk full, or the path a folder?")


def put(temporary: Path, path: Path) -> None:
    """Make a whole file the one at ``path``; nothing interrupts that."""
    sync(temporary)
    with undisturbed():
        temporary.replace(path)
        placed(path)
    sync(path.parent)


def claimed(path: Path) -> Path:
    """A new empty file beside ``path``; the system applies the umask, as to any new file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".fp16fix-{secrets.token_hex(8)}"
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise InputError(f"cannot write here: {error.strerror or error}", where=str(path), hint="choose another output folder") from error
    return temporary


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_model(model: Model, path: Path) -> None:
    """Write a model; past 2 GiB its weights go into a file beside it, and are in place before the graph that names them.

    Raises:
        InputError: see ``write_atomically``.
    """
    held = model.weight()
    if held > LIMIT:
        save_apart(model, path)
    elif held > STREAMED:
        proto, weights = parted(model)
        whole(proto, model)
        write_atomically(path, lambda file: stream(proto, weights, file))
    else:
        write_atomically(path, whole(proto_of(model), model).SerializeToString())


def whole(proto: onnx.ModelProto, model: Model) -> onnx.ModelProto:
    """The proto of a model, with what was cut out of that."""
    put_back(proto, model.opaque)
    return proto


def save_apart(model: Model, path: Path) -> None:
    """Write a graph and its weights beside it, in a file named by what is in it, so that no crash can pair one with another's.

    Weights of the graph that stood there are removed last.
    """
    former = weights_beside(path)
    proto, weights = parted(model)
    whole(proto, model)
    with replacing(path) as graph, claimed_file(path) as data:
        places, digest = lay_out(weights, data)
        name = f"{path.name}.{digest[:DIGITS]}{DATA}"
        for tensor in proto.graph.initializer:
            if tensor.name in places:
                refer(tensor, name, places[tensor.name])
        graph.write_bytes(proto.SerializeToString())
        put(data, path.with_name(name))
    for each in former - {path.with_name(name)}:
        each.unlink(missing_ok=True)


def lay_out(weights: Mapping[str, np.ndarray], file: Path) -> tuple[dict[str, tuple[int, int]], str]:
    """Write arrays one after the other; where each begins and how long it is, and SHA-256 of it all."""
    places: dict[str, tuple[int, int]] = {}
    total = hashlib.sha256()
    with file.open("wb") as out:
        for name, values in weights.items():
            padding, data = bytes(-out.tell() % PAGE), values.reshape(-1).view(np.uint8).data
            places[name] = out.tell() + len(padding), len(data)
            for piece in (padding, data):
                total.update(piece)
                out.write(piece)
    return places, total.hexdigest()


def refer(tensor: onnx.TensorProto, name: str, place: tuple[int, int]) -> None:
    """Say where the bytes of a tensor are."""
    del tensor.external_data[:]
    for key, value in (("location", name), ("offset", place[0]), ("length", place[1])):
        tensor.external_data.add(key=key, value=str(value))


def weights_beside(path: Path) -> set[Path]:
    """Files that ``save_apart`` wrote for the graph at ``path``, where no graph that was moved or kept beside it may need them still."""
    pattern = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{{DIGITS}}}{re.escape(DATA)}")
    kept = (f"{glob.escape(path.stem)}.{how}*{path.suffix}" for how in ("former", "unverified"))
    if any(other for each in kept for other in path.parent.glob(each)):
        return set()
    return {each for each in path.parent.glob(f"*{DATA}") if pattern.fullmatch(each.name)}


def save_proto(proto: onnx.ModelProto, path: Path) -> None:
    """Write a proto, which stays as it is; weights past what protobuf holds go into a file beside it."""
    if proto.ByteSize() < LIMIT:
        onnx.save(proto, path)
        return
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    onnx.save(copy, path, save_as_external_data=True, location=f"{path.name}{DATA}")
