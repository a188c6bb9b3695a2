"""A file that holds many samples along a leading axis → one sample for each, where the model's own batch says how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fp16fix.errors import SampleError
from fp16fix.inputs.check import Contract, Entry
from fp16fix.inputs.declared import LARGEST, Declared
from fp16fix.inputs.files import write_npz
from fp16fix.inputs.function import LIMIT
from fp16fix.inputs.signature import Input
from fp16fix.inputs.spool import Spool, Spooled


@dataclass(frozen=True, slots=True)
class Cut:
    """How one input is divided."""

    rows: int
    """Of the leading axis that make one sample."""
    count: int
    added: bool
    """The leading axis is none of the model's."""

    def part(self, array: np.ndarray, index: int) -> np.ndarray:
        """One sample's rows."""
        piece: np.ndarray = array[index * self.rows : (index + 1) * self.rows]
        return piece[0] if self.added else piece


def divided(entry: Entry, name: str, contract: Contract) -> tuple[Spooled, ...]:
    """The samples of a file that does not fit as it is; none where its leading axes do not say how either.

    Inputs that fit as they are go with every sample.

    Raises:
        SampleError: it cannot be read, or its leading axis does not come out even; says how to cut it.
    """
    declared: dict[str, Declared] = {}

    def look(sample: Mapping[str, Declared]) -> None:
        declared.update(sample)
        if not cuts_of(declared, contract.inputs, entry.where):
            contract.admit(entry.where, sample)

    arrays = entry.read(look)
    cuts = cuts_of(declared, contract.inputs, entry.where)
    if not cuts:
        return ()
    spool, count = Spool(), next(iter(cuts.values())).count
    parts = tuple(Spooled(spool, name, entry.where, index) for index in range(count))
    for part in parts:
        write_npz(part.path, {key: cuts[key].part(array, part.index) if key in cuts else array for key, array in arrays.items()})
    return parts


def cuts_of(declared: Mapping[str, Declared], inputs: Sequence[Input], where: str) -> dict[str, Cut]:
    """How inputs are divided, all into the same number of samples; empty where some input fits neither way, or all fit as they are."""
    found: dict[str, Cut] = {}
    for each in inputs:
        if each.name not in declared or not each.ranked:
            return {}
        shape = declared[each.name].shape
        if fits(each.shape, shape):
            continue
        cut = cut_of(each, shape, where)
        if cut is None:
            return {}
        if cut.count > LIMIT or declared[each.name].elements > LARGEST:
            return {}  # a bomb is no batch
        found[each.name] = cut
    if len({each.count for each in found.values()}) > 1:
        said = ", ".join(f"{name} {cut.count}" for name, cut in found.items())
        raise SampleError(
            f"its inputs hold different numbers of samples along their first axes ({said})", where=where, hint="save one file a sample"
        )
    return found


def cut_of(entry: Input, shape: tuple[int, ...], where: str) -> Cut | None:
    """The model's fixed batch a whole number of times, or an axis before all of the model's."""
    if shape and fits(entry.shape, shape[1:]):
        return Cut(1, shape[0], added=True) if shape[0] else None
    if not (shape and entry.shape and isinstance(entry.shape[0], int) and entry.shape[0] and fits(entry.shape[1:], shape[1:])):
        return None
    rows = entry.shape[0]
    if shape[0] % rows:
        hint = f"the model takes {rows} at a time: leave out {shape[0] % rows}, or export it with a free batch"
        raise SampleError(f"input {entry.name!r} holds {shape[0]} rows, no multiple of the model's batch of {rows}", where=where, hint=hint)
    return Cut(rows, shape[0] // rows, added=False) if shape[0] else None


def fits(want: Sequence[int | str | None], found: Sequence[int]) -> bool:
    """Whether an array of this shape can be fed."""
    return len(want) == len(found) and all(a == b for a, b in zip(want, found, strict=True) if isinstance(a, int))
