"""Samples in NumPy's files: a path in, one sample's arrays out when they are asked for."""

from __future__ import annotations

import io
import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from fp16fix.errors import SampleError
from fp16fix.inputs.declared import Admit, Declared, anything, header

CORRUPT = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    SyntaxError,
    MemoryError,
    OverflowError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""What NumPy and zipfile raise on truncated, encrypted, pickled or otherwise unreadable files; a parser that is nested too deep raises
MemoryError or RecursionError, which is a RuntimeError."""
UNKNOWN = "the magic string is not correct"
"""NumPy's words for what is no array."""
SHOWN = 300
"""Characters of another library's words; some quote the whole header."""
NPY, ZIP = b"\x93NUMPY", b"PK"
"""First bytes of an array and of an archive."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One array that has not been read."""

    declared: Declared
    open: Callable[[], IO[bytes]]
    where: str

    def array(self) -> np.ndarray:
        """Read it."""
        try:
            with self.open() as stream:
                found: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
                return found
        except CORRUPT as error:
            raise unreadable(self.where, error) from error


@dataclass(frozen=True, slots=True)
class NpzFile:
    """One ``.npz``: one sample, arrays by input name."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def where(self) -> str:
        return str(self.path)

    def read(self, admit: Admit = anything) -> dict[str, np.ndarray]:
        return arrays_from_npz(self.path, self.where, admit)


@dataclass(frozen=True, slots=True)
class NpyFile:
    """One ``.npy``: the only input of a single-input model."""

    path: Path
    input: str

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def where(self) -> str:
        return str(self.path)

    def read(self, admit: Admit = anything) -> dict[str, np.ndarray]:
        if _begins(self.path, self.where).startswith(ZIP):
            raise SampleError("holds an archive of arrays, not one array", where=self.where, hint="name it .npz")
        found = stored(lambda: self.path.open("rb"), self.path.stat().st_size, self.where)
        admit({self.input: found.declared})
        return {self.input: found.array()}


def arrays_from_npz(path: Path, where: str, admit: Admit = anything) -> dict[str, np.ndarray]:
    """Every array of an archive by name, if ``admit`` takes what their headers say; SampleError when it cannot be read."""
    first_bytes = _begins(path, where)
    if first_bytes.startswith(NPY):
        raise SampleError("holds one array, not an archive of arrays by input name", where=where, hint="name it .npy, or use np.savez")
    if not first_bytes.startswith(ZIP):
        raise unreadable(where, ValueError(UNKNOWN))
    try:
        with zipfile.ZipFile(path) as archive:
            found = _members(archive, where)
            admit({name: each.declared for name, each in found.items()})
            return {name: each.array() for name, each in found.items()}
    except CORRUPT as error:
        raise unreadable(where, error) from error


def _begins(path: Path, where: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(NPY))
    except OSError as error:
        raise unreadable(where, error) from error


def _members(archive: zipfile.ZipFile, where: str) -> dict[str, Stored]:
    """Arrays of an archive by name; nothing but their headers is read."""
    return {
        info.filename.removesuffix(".npy"): stored(partial(archive.open, info), info.file_size, f"{where}, {info.filename}")
        for info in archive.infolist()
    }


def first(data: bytes, where: str) -> Stored:
    """The first array of an archive in memory."""
    try:
        found = _members(zipfile.ZipFile(io.BytesIO(data)), where)
    except CORRUPT as error:
        raise unreadable(where, error) from error
    if not found:
        raise SampleError("holds no array", where=where)
    return next(iter(found.values()))


def stored(open_: Callable[[], IO[bytes]], size: int, where: str) -> Stored:
    """A ``.npy`` of ``size`` bytes, its header read.

    Raises:
        SampleError: see ``declared.header``, and what is no array.
    """
    try:
        with open_() as stream:
            return Stored(header(stream, size, where), open_, where)
    except CORRUPT as error:
        raise unreadable(where, error) from error


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """What ``np.savez`` writes, for any name: ``savez`` itself takes ``file`` for its own argument."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def unreadable(where: str, error: BaseException) -> SampleError:
    """The error for a file that NumPy refuses, in NumPy's words."""
    if "Object arrays" in str(error):
        return SampleError("holds pickled objects, which are never loaded", where=where, hint="save plain numeric arrays")
    if "magic string" in str(error):  # what NumPy says of any first bytes that it does not know
        return SampleError(
            "cannot be read: neither .npy nor .npz inside, or a pickle", where=where, hint="save it with np.save or np.savez"
        )
    return SampleError(
        f"cannot be read: {str(error)[:SHOWN] or type(error).__name__}", where=where, hint="truncated or another format: save it again"
    )
