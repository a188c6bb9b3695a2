"""``Samples``: inputs that are read one at a time, as often as needed, each checked against the model's signature."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, overload

import numpy as np

from fp16fix.inputs.check import Contract


@dataclass(frozen=True, slots=True)
class Sample:
    """One set of inputs for the model."""

    name: str
    """File stem, or source and index, for messages."""
    arrays: dict[str, np.ndarray]
    """By input name, in the model's order, in the model's types."""


class Entry(Protocol):
    """Where one sample comes from. Holds a path or a seed, never arrays."""

    @property
    def name(self) -> str:
        """Short name of the sample."""

    @property
    def where(self) -> str:
        """What an error calls it."""

    def read(self) -> dict[str, np.ndarray]:
        """The arrays as stored. Raises SampleError if they cannot be read."""


@dataclass(frozen=True, slots=True)
class Samples(Sequence[Sample]):
    """A frozen sequence of samples; each access reads and checks one, and keeps none."""

    entries: tuple[Entry, ...]
    contract: Contract
    source: str
    """Where they come from, for the report."""
    made_up: bool = False
    """Made from the model's signature: a verdict on them is only as good as that."""
    shared: bool = False
    """The same sample serves calibration and verdict, because there is only one."""
    notes: tuple[str, ...] = ()
    """What reading them had to say: types converted, files ignored."""

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Samples: ...
    def __getitem__(self, index: int | slice) -> Sample | Samples:
        if isinstance(index, slice):
            return replace(self, entries=self.entries[index])
        return self._sample(self.entries[index])

    def __iter__(self) -> Iterator[Sample]:
        return (self._sample(entry) for entry in self.entries)

    def pick(self, indices: Sequence[int]) -> Samples:
        """The samples at ``indices``, in that order."""
        return replace(self, entries=tuple(self.entries[index] for index in indices))

    def digest(self) -> str:
        """SHA-256 over the arrays as the model is fed them: names, types, shapes, values; not over file names or formats."""
        total = hashlib.sha256()
        for sample in self:
            for name, array in sample.arrays.items():
                total.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
                total.update(_content(array))
            total.update(b"\1")
        return total.hexdigest()

    def _sample(self, entry: Entry) -> Sample:
        return Sample(entry.name, self.contract.check(entry.where, entry.read()).arrays)


def _content(array: np.ndarray) -> bytes:
    """Strings have no buffer to hash."""
    return repr(array.tolist()).encode() if array.dtype.kind == "O" else np.ascontiguousarray(array).tobytes()
