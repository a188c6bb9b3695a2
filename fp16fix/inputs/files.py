"""Samples in NumPy's files: a path in, one sample's arrays out when they are asked for."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fp16fix.errors import SampleError

CORRUPT = (OSError, ValueError, EOFError, KeyError, RuntimeError, NotImplementedError, SyntaxError, zipfile.BadZipFile, zlib.error)
"""What NumPy and zipfile raise on truncated, encrypted, pickled or otherwise unreadable files."""


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

    def read(self) -> dict[str, np.ndarray]:
        return arrays_from_npz(self.path, self.where)


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

    def read(self) -> dict[str, np.ndarray]:
        try:
            loaded = np.load(self.path, allow_pickle=False)
        except CORRUPT as error:
            raise unreadable(self.where, error) from error
        if not isinstance(loaded, np.ndarray):
            loaded.close()
            raise SampleError("holds an archive of arrays, not one array", where=self.where, hint="name it .npz")
        return {self.input: loaded}


def arrays_from_npz(source: Path | io.BytesIO, where: str) -> dict[str, np.ndarray]:
    """Every array of an archive by name; SampleError when it cannot be read."""
    try:
        loaded = np.load(source, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except CORRUPT as error:
        raise unreadable(where, error) from error
    raise SampleError("holds one array, not an archive of arrays by input name", where=where, hint="name it .npy, or use np.savez")


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
    if "allow_pickle" in str(error):  # what NumPy says of any first bytes that it does not know
        return SampleError(
            "cannot be read: neither .npy nor .npz inside, or a pickle", where=where, hint="save it with np.save or np.savez"
        )
    return SampleError(f"cannot be read: {error or type(error).__name__}", where=where, hint="truncated or another format: save it again")
