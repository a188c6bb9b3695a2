"""What a stored array says it is, before any of it is read: a header of a hundred bytes may declare terabytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO

import numpy as np

from fp16fix.errors import SampleError

LARGEST = 1 << 29
"""Elements of an input whose size no model fixes: 2 GiB in FP32, a hundred times what real inputs have."""


@dataclass(frozen=True, slots=True)
class Declared:
    """Shape and type of an array, as its header has them."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def elements(self) -> int:
        """Exactly, however many."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.elements * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


Admit = Callable[[Mapping[str, Declared]], None]
"""Raises SampleError for a sample that need not be read."""


def anything(_sample: Mapping[str, Declared]) -> None:
    """Admit every sample."""


def header(stream: IO[bytes], stored: int, where: str) -> Declared:
    """The header of a ``.npy`` of ``stored`` bytes, the stream being left behind it.

    Raises:
        SampleError: it declares something other than the bytes that follow.
        ValueError: no header (NumPy's words).
    """
    version = np.lib.format.read_magic(stream)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"version {version[0]}.{version[1]} holds named fields, not an array of numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    found = Declared(tuple(int(size) for size in shape), dtype)
    left = stored - stream.tell()
    if min(shape, default=0) < 0 or (not dtype.hasobject and found.size > left):
        said = f"declares {found}, {found.size:,} bytes, and holds {max(left, 0):,}"
        raise SampleError(said, where=where, hint="cut off, or forged: save it again")
    return found
