"""Outputs that something else computed (a framework, an engine on another machine) → arrays by output name beside the model's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fp16fix.errors import SampleError
from fp16fix.graph.model import Model
from fp16fix.inputs.files import NpzFile
from fp16fix.verdict.channels import channels_of
from fp16fix.verdict.gates import Tolerance, judge
from fp16fix.verdict.metrics import Comparison
from fp16fix.verdict.verdict import Verdict

HINT = "one .npz of outputs by name for each sample: np.savez('outputs/<name of the sample>.npz', **outputs)"


@dataclass(frozen=True, slots=True)
class Given:
    """Outputs of one sample."""

    where: str
    """What an error calls them."""
    arrays: Mapping[str, np.ndarray]


def read_outputs(place: Path, names: Sequence[str]) -> Iterator[Given]:
    """Outputs of each sample, read one at a time when they are asked for.

    Args:
        place: a folder of ``.npz``, or one such file for one sample.
        names: of the samples, in order. A file is a sample's if it is called like it; where none is, the numbers in both kinds of
            names give the order, and where there are none, the alphabet does.

    Raises:
        SampleError: nothing there, or files that do not fit the samples.
    """
    files = [place] if place.is_file() else sorted(file for file in place.glob("*.npz") if not file.name.startswith("."))
    return (Given(str(file), NpzFile(file).read()) for file in matched(files, names, str(place)))


def matched(files: Sequence[Path], names: Sequence[str], where: str) -> list[Path]:
    """The files in the order of the samples."""
    by_stem = {file.stem: file for file in files}
    lacking = [name for name in names if name not in by_stem]
    if not lacking:
        return [by_stem[name] for name in names]
    if len(lacking) < len(names):
        raise SampleError(f"holds no outputs of sample {lacking[0]!r}, but of others by their names", where=where, hint=HINT)
    if len(files) != len(names):
        raise SampleError(f"holds {len(files)} .npz files for {len(names)} samples", where=where, hint=HINT)
    inner, outer = [number(name) for name in names], [number(file.stem) for file in files]
    if len({*inner} - {-1}) == len({*outer} - {-1}) == len(names):
        place = {value: rank for rank, value in enumerate(sorted(inner))}
        ordered = sorted(files, key=lambda file: number(file.stem))
        return [ordered[place[value]] for value in inner]
    return list(files)


def number(name: str) -> int:
    """The last whole number in a name; −1 without one."""
    found = re.findall(r"\d+", name)
    return int(found[-1]) if found else -1


class Witness:
    """Outputs computed elsewhere, taken sample by sample beside the model's own."""

    def __init__(self, model: Model, given: Iterable[Given], who: str, names: Sequence[str] = ()) -> None:
        """Expect one ``Given`` a sample.

        Args:
            model: whose outputs they claim to be.
            given: in the order of the samples.
            who: computed them; the oracle's name in the verdict.
            names: of the samples.
        """
        self.comparison, self.count = Comparison(channels_of(model), names), 0
        self._given, self._who = iter(given), who
        self._declared = {tensor.name: tensor.shape for tensor in model.graph.outputs}
        self._bound = {dim for tensor in model.graph.inputs for dim in tensor.shape or () if isinstance(dim, str)}
        self._names: frozenset[str] = frozenset()

    def take(self, exact: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The next sample's, held to what the model gives for it.

        Raises:
            SampleError: none is left, or names, types or shapes that the model's outputs cannot have.
        """
        given = next(self._given, None)
        if given is None:
            raise SampleError(f"there are outputs of only {self.count} samples", where=self._who, hint=HINT)
        self.count += 1
        self._refuse_names(given)
        return {name: self._array(given.where, name, value, exact[name]) for name, value in given.arrays.items()}

    def verdict(self, tolerance: Tolerance) -> Verdict:
        """Pass or fail, by what was added to ``comparison``."""
        return judge(self.comparison.figures(), tolerance, self._who, "engine", self.count)

    def _refuse_names(self, given: Given) -> None:
        """Names that are no outputs; outputs that are there for one sample and not for another."""
        for name in given.arrays:
            if name not in self._declared:
                hint = f"the model's outputs are {', '.join(self._declared)}"
                raise SampleError(f"has an array {name!r}, which is no output", where=given.where, hint=hint)
        found = frozenset(given.arrays)
        self._names = self._names or found
        if found != self._names or not found:
            lacking = sorted(self._names - found) or sorted(found - self._names) or list(self._declared)
            raise SampleError(f"differs from the others in {lacking[0]!r}" if found else "holds no outputs", where=given.where, hint=HINT)

    def _array(self, where: str, name: str, value: Any, exact: Any) -> np.ndarray:
        """One output; a shape may differ only where it depends on the data (boxes that survive NMS)."""
        array = np.asarray(value)
        # NumPy's file format has no name for bfloat16 and writes it as two raw bytes.
        array = array.view(ml_dtypes.bfloat16) if array.dtype == np.dtype("V2") else array
        if array.dtype.kind not in "biufUS" and array.dtype != np.dtype(ml_dtypes.bfloat16):
            raise SampleError(f"{name!r} is no array of numbers ({array.dtype})", where=where)
        wanted = np.shape(exact)
        if array.shape != wanted and not self._may_differ(name, array.shape, wanted):
            hint = "outputs belong to the samples by name, else by number or in alphabetical order"
            raise SampleError(f"{name!r} has shape {array.shape}, the model gives {wanted}", where=where, hint=hint)
        return array

    def _may_differ(self, name: str, found: Sequence[int], wanted: Sequence[int]) -> bool:
        """Whether every dimension that differs is one that neither the model nor the sample fixes."""
        declared = self._declared[name] if self._declared[name] is not None else [None] * len(wanted)
        fixed: Callable[[Any], bool] = lambda dim: isinstance(dim, int) or dim in self._bound
        return len(found) == len(wanted) == len(declared) and all(
            mine == theirs or not fixed(dim) for mine, theirs, dim in zip(found, wanted, declared, strict=True)
        )
