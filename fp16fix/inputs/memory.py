"""Samples in memory (arrays, tensors, dicts, whatever yields them) → a folder of ``.npz``, one a sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fp16fix.errors import SampleError
from fp16fix.inputs.files import write_npz
from fp16fix.inputs.function import LIMIT

WHERE = "inputs"
"""What an error calls them."""


def spool(given: Any, names: Sequence[str], folder: Path, optional: int = 0) -> tuple[Path, ...]:
    """Write every sample down, in order; one that is made on the fly is never asked for twice.

    Args:
        given: one sample, or anything that yields them (a list, a generator, a DataLoader). A sample is an array for a model of one
            input, a mapping of arrays by input name, or a tuple of arrays in the order of ``names``. What yields samples may give
            lists for tuples, as a DataLoader does.
        names: of the model's inputs, in order.
        folder: exists.
        optional: how many names at the end a tuple may leave out.

    Raises:
        SampleError: something else, none at all, or more than ``function.LIMIT``. What the user's own code raises passes.
    """
    files: list[Path] = []
    for sample in samples_of(given):
        where = f"{WHERE}, sample {len(files)}"
        if len(files) == LIMIT:
            hint = "a few dozen are enough: itertools.islice(loader, 32)"
            raise SampleError(f"yield more than {LIMIT} samples", where=WHERE, hint=hint)
        file = folder / f"{len(files):04}.npz"
        write_npz(file, by_name(sample, names, where, optional))
        files.append(file)
    if not files:
        raise SampleError("yield no sample", where=WHERE, hint="a generator gives its samples once: make it anew for each call")
    return tuple(files)


def samples_of(given: Any) -> Iterator[Any]:
    """One sample as such, or what yields them."""
    if isinstance(given, (Mapping, tuple)) or is_array(given):
        return iter((given,))
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        return iter(given)
    hint = "an array, a dict of arrays by input name, a tuple in the order of the inputs, or an iterable of these"
    raise SampleError(f"expected samples, found {type(given).__name__}", where=WHERE, hint=hint)


def by_name(sample: Any, names: Sequence[str], where: str, optional: int) -> dict[str, np.ndarray]:
    """The arrays of one sample; whether they fit the model is asked when they are read."""
    if isinstance(sample, Mapping):
        return {str(name): array_of(value, f"{where}, input {name!r}") for name, value in sample.items()}
    parts = list(sample) if isinstance(sample, (tuple, list)) else [sample]
    if not len(names) - optional <= len(parts) <= len(names):
        many = f"holds {len(parts)} arrays, the model takes {len(names)} ({', '.join(names)})"
        hint = "leave labels out: ((x,) for x, _ in loader)" if len(parts) > len(names) else "give all inputs, or a dict by their names"
        raise SampleError(many, where=where, hint=hint)
    return {name: array_of(part, f"{where}, input {name!r}") for name, part in zip(names, parts, strict=False)}


def is_array(value: Any) -> bool:
    """Whether it is an array, of NumPy or of whoever turns into one."""
    return hasattr(value, "__array__")


def array_of(value: Any, where: str) -> np.ndarray:
    """A tensor is taken off its device and out of its graph."""
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError) as error:  # a type that NumPy lacks, rows of different lengths
        raise SampleError(f"is no array ({error})", where=where, hint="give NumPy arrays") from error
    if array.dtype.kind == "O":
        raise SampleError(f"is no array of numbers ({type(value).__name__})", where=where, hint="give NumPy arrays")
    return array
