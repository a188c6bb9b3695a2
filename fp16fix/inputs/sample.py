"""``Samples``: inputs that are read one at a time, as often as needed, each checked against the model's signature."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, overload

import numpy as np

from fp16fix.inputs.check import Contract
from fp16fix.inputs.declared import Admit


@dataclass(frozen=True, slots=True)
class Sample:
    """One set of inputs for the model."""

    name: str
    """File stem, or source and index, for messages."""
    arrays: dict[str, np.ndarray]
    """By input name, in the model's order, in the model's types."""


class SampleEntry(Protocol):
    """Where one sample comes from. Holds a path or a seed, never arrays."""

    @property
    def name(self) -> str:
        """Short name of the sample."""

    @property
    def where(self) -> str:
        """What an error calls it."""

    def read(self, admit: Admit) -> dict[str, np.ndarray]:
        """The arrays as stored, after ``admit`` took what they say they are. Raises SampleError if they cannot be read."""


HELD = 1 << 26
"""Bytes of samples that are held from one access to the next: they are read for every graph that runs, and three times for every blend."""


class Held:
    """The samples read last, as many as take little memory; nobody's to write to."""

    def __init__(self) -> None:
        self._samples: OrderedDict[int, tuple[SampleEntry, Sample]] = OrderedDict()
        """By ``id`` of the entry, which is held, too."""
        self._bytes = 0

    def get(self, entry: SampleEntry, read: Callable[[], Sample]) -> Sample:
        """The sample of an entry, read if it is not there."""
        if id(entry) in self._samples:
            self._samples.move_to_end(id(entry))
            return self._samples[id(entry)][1]
        sample = frozen(read())
        self._samples[id(entry)] = entry, sample
        self._bytes += size(sample)
        while self._bytes > HELD:
            self._bytes -= size(self._samples.popitem(last=False)[1][1])
        return sample


def frozen(sample: Sample) -> Sample:
    """The same, of arrays that look at those: these may be somebody's own."""
    views = {name: array.view() for name, array in sample.arrays.items()}
    for view in views.values():
        view.flags.writeable = False
    return Sample(sample.name, views)


def size(sample: Sample) -> int:
    """Bytes."""
    return sum(array.nbytes for array in sample.arrays.values())


@dataclass(frozen=True, slots=True)
class Samples(Sequence[Sample]):
    """A frozen sequence of samples; each is read and checked when it is asked for, and few are held."""

    entries: tuple[SampleEntry, ...]
    contract: Contract
    source: str
    """Where they come from, for the report."""
    made_up: bool = False
    """Made from the model's signature: a verdict on them is only as good as that."""
    shared: bool = False
    """The same sample serves calibration and verdict, because there is only one."""
    notes: tuple[str, ...] = ()
    """What reading them had to say: types converted, files ignored."""

    guessed: tuple[str, ...] = ()
    """What was guessed of made-up inputs though nothing tells it, a sentence each."""
    apart: tuple[str, ...] = ()
    """Names of dimensions that the model's inputs share and the samples give different sizes."""
    divided: tuple[str, ...] = ()
    """Files that held several samples along a leading axis, a sentence each."""
    copies: int = 0
    """Samples left out because another one has the same content: a verdict counts each once."""
    held: Held = field(default_factory=Held, repr=False, compare=False)

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
            total.update(content(sample.arrays))
        return total.hexdigest()

    @property
    def caveats(self) -> tuple[str, ...]:
        """What is weak about them, in sentences for whoever trusts a verdict that rests on them."""
        said = []
        if self.made_up:
            said.append("No real inputs were given: ranges and verdict rest on made-up data and are only as good as that.")
            said += self.guessed
        said += self.divided[:SHOWN]
        if len(self.divided) > SHOWN:
            said.append(f"So were {len(self.divided) - SHOWN} more files.")
        if self.copies:
            many = (
                "1 sample is a copy of another and counts"
                if self.copies == 1
                else f"{self.copies:,} samples are copies of others and count"
            )
            said.append(f"{many} once.")
        if len(self) in FEW:
            said.append(FEW[len(self)])
        return tuple(said)

    def _sample(self, entry: SampleEntry) -> Sample:
        return self.held.get(entry, lambda: Sample(entry.name, self.contract.fed(entry).arrays))


SHOWN = 3
"""Files that are named."""
FEW = {
    1: "Only one sample was given: a verdict that rests on it alone says next to nothing of others.",
    2: "Only two samples were given: a verdict that rests on them says little of others.",
}
"""By number of samples, how little a verdict rests on."""


def content(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A digest of one sample: names, types, shapes, values."""
    total = hashlib.sha256()
    for name, array in arrays.items():
        total.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
        total.update(_content(array))
    return total.digest()


def _content(array: np.ndarray) -> bytes:
    """Strings have no buffer to hash."""
    return repr(array.tolist()).encode() if array.dtype.kind == "O" else np.ascontiguousarray(array).tobytes()
