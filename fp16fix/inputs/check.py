"""Arrays as stored + the model's signature → arrays the model can be fed, or a SampleError that says what does not fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import onnx

from fp16fix import half
from fp16fix.errors import SampleError
from fp16fix.graph.model import numpy_type
from fp16fix.inputs.declared import LARGEST, Admit, Declared
from fp16fix.inputs.signature import Input, nearest, show

_DIGITS = {onnx.TensorProto.DOUBLE: 53} | {fmt.onnx: fmt.digits for fmt in half.FORMATS.values()}
"""Significand bits by float element type: integers up to 2 to that power convert without loss."""
RECORD = "record it beside the inputs, or give the operator's kernel (--ort-library) or Python that computes it (--stand-in)"
"""What to do about an operator that nothing here computes."""


@dataclass(frozen=True, slots=True)
class Fed:
    """Arrays that fit, and what had to be done to them."""

    arrays: dict[str, np.ndarray]
    notes: tuple[str, ...]
    apart: frozenset[str] = frozenset()
    """Names of dimensions that have two sizes here."""


class Entry(Protocol):
    """Where one sample comes from (``sample.SampleEntry``)."""

    @property
    def where(self) -> str:
        """What an error calls it."""

    def read(self, admit: Admit) -> dict[str, np.ndarray]:
        """The arrays as stored."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What every sample must satisfy."""

    inputs: tuple[Input, ...]

    def fed(self, entry: Entry) -> Fed:
        """One sample, read and checked: what its headers declare first, so that nothing is read that does not fit. Raises as ``check``."""
        return self.check(entry.where, entry.read(partial(self.admit, entry.where)))

    def admit(self, where: str, sample: Mapping[str, Declared]) -> None:
        """Refuse what need not be read.

        Raises:
            SampleError: names and shapes, as ``check``; an input of free dimensions that is larger than any input.
        """
        self._names(where, sample)
        for entry in self.inputs:
            declared, place = sample[entry.name], f"{where}, input {entry.name!r}"
            if entry.ranked:
                _shape(entry, declared.shape, place)
            if declared.elements > LARGEST and not (entry.ranked and all(isinstance(dim, int) for dim in entry.shape)):
                raise SampleError(
                    f"is {declared}, more than {LARGEST:,} elements", where=place, hint=f"if that is meant: --shape {entry.name}:…"
                )

    def check(self, where: str, arrays: Mapping[str, np.ndarray]) -> Fed:
        """The arrays in the model's order and types. ``where`` names the sample in errors.

        Raises:
            SampleError: a name unknown or missing, another rank or dimension, a type that cannot be converted without loss, or NaN.
                An infinity is a number: masks are made of it. Exporters give one name to dimensions that differ, and a model runs all
                the same; where that is a mistake, it says so itself.
        """
        self._names(where, arrays)
        symbols: dict[str, set[int]] = {}
        fed: dict[str, np.ndarray] = {}
        notes: list[str] = []
        for entry in self.inputs:
            place = f"{where}, input {entry.name!r}"
            if entry.ranked:
                _shape(entry, arrays[entry.name].shape, place)
                for name, size in zip(entry.shape, arrays[entry.name].shape, strict=True):
                    if isinstance(name, str):
                        symbols.setdefault(name, set()).add(size)
            fed[entry.name], note = convert(arrays[entry.name], entry.element, place)
            _numbers(fed[entry.name], place)
            notes += [f"input {entry.name!r}: {note}"] if note else []
        apart = frozenset(name for name, seen in symbols.items() if len(seen) > 1)
        notes += [
            f"dimension {name!r} has sizes {', '.join(map(str, sorted(symbols[name])))} at once: told apart" for name in sorted(apart)
        ]
        return Fed(fed, tuple(notes), apart)

    def _names(self, where: str, arrays: Collection[str]) -> None:
        legal = [entry.name for entry in self.inputs]
        unknown = sorted(set(arrays) - set(legal))
        missing = [name for name in legal if name not in arrays]
        opaque = [entry for entry in self.inputs if entry.name in missing and entry.given_by]
        if unknown:
            hint = nearest(unknown[0], missing or legal)
            lacks = f" and lacks {', '.join(map(repr, missing))}" if missing else ""
            raise SampleError(f"holds {', '.join(map(repr, unknown))}, which the model does not take{lacks}", where=where, hint=hint)
        if opaque:
            said = f"lacks {opaque[0].name!r}, which {opaque[0].given_by} gives, and nothing here computes that"
            raise SampleError(said, where=where, hint=RECORD)
        if missing:
            found = ", ".join(map(repr, arrays)) or "nothing"
            raise SampleError(f"lacks input {', '.join(map(repr, missing))}; found {found}", where=where, hint="save all by name")


def _shape(entry: Input, found: tuple[int, ...], place: str) -> None:
    fits = len(found) == len(entry.shape) and all(
        want == got for want, got in zip(entry.shape, found, strict=True) if isinstance(want, int)
    )
    if not fits:
        raise SampleError(f"expected shape {show(entry.shape)}, found {show(found)}", where=place, hint=_shape_hint(entry.shape, found))


def _shape_hint(want: tuple[int | str | None, ...], found: tuple[int, ...]) -> str:
    def matches(dims: tuple[int, ...]) -> bool:
        return len(dims) == len(want) and all(a == b for a, b in zip(want, dims, strict=True) if isinstance(a, int))

    if matches((1, *found)):
        return "add the batch axis: array[None]"
    if matches(found[1:]):
        return "one file is one sample: save one file for each index of the first axis"
    if len(found) == 4 and matches((found[0], found[3], found[1], found[2])):
        return "the array looks channel-last: array.transpose(0, 3, 1, 2)"
    if len(found) == 4 and matches((found[0], found[2], found[3], found[1])):
        return "the array looks channel-first: array.transpose(0, 2, 3, 1)"
    return "save the array as the model takes it"


def convert(array: np.ndarray, element: int, place: str) -> tuple[np.ndarray, str]:
    """``array`` in the model's element type and a note on what was done (empty if nothing).

    Every value must survive: integers and booleans exactly, floats up to rounding, finite ones staying finite.

    Raises:
        SampleError: floats for an integer input, or values the target does not hold.
    """
    if element == onnx.TensorProto.STRING:
        return _strings(array, place), ""
    target = np.dtype(numpy_type(element))
    # NumPy's file format has no name for bfloat16 and writes it as two raw bytes.
    raw = element in _DIGITS and array.dtype == np.dtype("V2")
    stored = array.view(numpy_type(half.BF16.onnx)) if raw else array
    if stored.dtype == target:
        return stored, ""
    found = f"expected {target}, found {stored.dtype}"
    if _is_float(stored.dtype) and element in _DIGITS:
        with np.errstate(over="ignore"):
            converted = stored.astype(target)
        lost = np.isfinite(stored) & ~np.isfinite(converted)
        if lost.any():
            raise SampleError(f"{found} {float(stored[lost].flat[0]):.6g}, past what it holds", where=place)
        return converted, f"{stored.dtype} converted to {target}"
    if stored.dtype.kind not in "biu" or (element not in _DIGITS and target.kind not in "biu"):
        raise SampleError(found, where=place, hint="save the array in the model's type; cast it yourself if that is meant")
    low, high = (int(stored.min()), int(stored.max())) if stored.size else (0, 0)
    least, most = _exact(element, target)
    if low < least or high > most:
        raise SampleError(f"{found} with values {low} to {high}, which it does not hold", where=place)
    span = f", values {low} to {high} as they are" if element in _DIGITS else ""
    return stored.astype(target), f"{stored.dtype} converted to {target}{span}"


def _is_float(dtype: np.dtype) -> bool:
    """bfloat16 is a float too, though NumPy files it under void."""
    return dtype.kind == "f" or dtype == np.dtype(numpy_type(half.BF16.onnx))


def _exact(element: int, target: np.dtype) -> tuple[int, int]:
    """The span of integers that all convert without loss."""
    if element in _DIGITS:
        return -(2 ** _DIGITS[element]), 2 ** _DIGITS[element]
    return (0, 1) if target.kind == "b" else (int(np.iinfo(target).min), int(np.iinfo(target).max))


def _strings(array: np.ndarray, place: str) -> np.ndarray:
    if array.dtype.kind not in "US":
        raise SampleError(f"expected strings, found {array.dtype}", where=place)
    return np.char.decode(array, "utf-8").astype(object) if array.dtype.kind == "S" else array.astype(object)


def _numbers(array: np.ndarray, place: str) -> None:
    if array.dtype.kind in "biuOUS" or array.size == 0:
        return
    bad = np.isnan(array)
    if bad.any():
        index = [int(axis) for axis in np.argwhere(bad)[0]]
        raise SampleError(f"expected numbers, found NaN at {index} ({int(bad.sum())} of {array.size})", where=place)
