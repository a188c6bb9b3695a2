"""Files appear whole or not at all: a temporary file in the same folder, fsync, rename, fsync of the folder."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from fp16fix.errors import InputError
from fp16fix.graph.model import Model
from fp16fix.graph.session import proto_of

LIMIT = 2**31 - 2**20
"""Protobuf messages end at 2 GiB; weights of larger models go into a file beside."""


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
    temporary = claimed(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise InputError(
            f"cannot write: {error.strerror or error}", where=str(path), hint="is the disk full, or the path a folder?"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


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
    """Write a model; past 2 GiB its weights go to ``<name>.data`` beside it, and are in place before the graph that names them.

    Raises:
        InputError: see ``write_atomically``.
    """
    proto = proto_of(model)
    if proto.ByteSize() <= LIMIT:
        write_atomically(path, proto.SerializeToString())
        return
    data = path.with_suffix(path.suffix + ".data")
    with (
        replacing(path) as graph_file,
        replacing(data) as data_file,
        tempfile.TemporaryDirectory(prefix=".fp16fix-", dir=path.parent) as folder,
    ):
        scratch = Path(folder)
        onnx.save(proto, scratch / path.name, save_as_external_data=True, location=data.name, size_threshold=1024)
        (scratch / data.name).replace(data_file)
        (scratch / path.name).replace(graph_file)
