"""``--inputs`` + the model's signature → ``Samples``, every one read and checked once before anything else is done with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from fp16fix.errors import SampleError
from fp16fix.inputs import function, polygraphy
from fp16fix.inputs.check import Contract, Fed
from fp16fix.inputs.divide import divided
from fp16fix.inputs.files import NpyFile, NpzFile
from fp16fix.inputs.sample import Sample, SampleEntry, Samples, content
from fp16fix.inputs.signature import Input, with_dims

__all__ = ["Sample", "Samples", "load"]

SHOWN = 3
"""Names that a note lists."""
FORMATS = "a folder of .npz, one .npz, .npy for a model of one input, Polygraphy's .json, or file.py:function"


def load(spec: str, signature: tuple[Input, ...], shapes: Mapping[str, tuple[int, ...]]) -> Samples:
    """Samples from a folder of ``.npz`` (or ``.npy``, ``.json``), one such file, or ``file.py:function`` yielding dicts.

    One ``.npz`` or ``.npy`` is one sample, or several along a leading axis where it fits only so (``divide``), which is said.
    ``shapes`` fixes free dimensions by input name.
    Samples that are equal as the model is fed them count once, under the first one's name.

    Raises:
        SampleError: nothing there, a file that cannot be read, or a sample that does not fit, with file, input, expected and found.
        ConfigError: ``shapes`` contradict the signature.
    """
    contract = Contract(with_dims(signature, shapes))
    entries, ignored = _entries(spec, signature)
    if not entries:
        raise SampleError("holds no samples", where=spec, hint=f"give {FORMATS}")
    notes: Counter[str] = Counter()
    first: dict[bytes, SampleEntry] = {}
    copies: list[str] = []
    apart: set[str] = set()
    split: list[str] = []
    for entry, checked in (pair for each in entries for pair in fed(each, contract, split)):
        notes.update(checked.notes)
        apart |= checked.apart
        original = first.setdefault(content(checked.arrays), entry)
        copies += [f"{entry.name} (of {original.name})"] if original is not entry else []
    if len(first) == 1:
        split += whole_batch(contract.inputs, next(iter(first.values())), checked.arrays)
    total = len(first) + len(copies)
    said = (f"{note} ({count} of {total} samples)" for note, count in sorted(notes.items()))
    left = (f"copies left out: {', '.join(copies[:SHOWN])}{', …' if len(copies) > SHOWN else ''}",) if copies else ()
    return Samples(
        tuple(first.values()),
        contract,
        spec,
        notes=(*ignored, *said, *left),
        copies=len(copies),
        apart=tuple(sorted(apart)),
        divided=tuple(split),
    )


def whole_batch(inputs: tuple[Input, ...], entry: SampleEntry, arrays: Mapping[str, np.ndarray]) -> list[str]:
    """How to have the rows of the only sample as samples, where the model leaves their number free."""
    free = [each for each in inputs if each.ranked and each.shape and not isinstance(each.shape[0], int) and len(arrays[each.name]) > 1]
    if not free:
        return []
    flags = " ".join(f"--shape {each.name}:{'x'.join(map(str, (1, *arrays[each.name].shape[1:])))}" for each in free)
    said = f"The {len(arrays[free[0].name])} rows of {entry.name} are one sample, for the model leaves their number free"
    return [f"{said}; if each is a sample, {flags} splits them."]


def fed(entry: SampleEntry, contract: Contract, split: list[str]) -> Iterator[tuple[SampleEntry, Fed]]:
    """An entry with its arrays, or each sample that it holds along a leading axis, which ``split`` is told."""
    try:
        whole = contract.fed(entry)
    except SampleError:
        parts = divided(entry, entry.name, contract)
        if not parts:
            raise
        split.append(f"{entry.where} was split along its first axis into {len(parts)} samples.")
        yield from ((part, contract.fed(part)) for part in parts)
    else:
        yield entry, whole


def _entries(spec: str, signature: tuple[Input, ...]) -> tuple[tuple[SampleEntry, ...], tuple[str, ...]]:
    """Where the samples are, and what was ignored on the way."""
    file, colon, name = spec.rpartition(":")
    if colon and file.endswith(".py"):
        _must_exist(Path(file), spec)
        return function.run(Path(file), name), ()
    path = Path(spec)
    _must_exist(path, spec)
    if path.is_dir():
        return _folder(path, signature)
    if path.suffix == ".py":
        raise SampleError("names a Python file but no function", where=spec, hint=f"{spec}:function")
    return _file(path, signature), ()


def _must_exist(path: Path, spec: str) -> None:
    if not path.exists():
        raise SampleError("does not exist", where=spec, hint=f"give {FORMATS}")


def _folder(path: Path, signature: tuple[Input, ...]) -> tuple[tuple[SampleEntry, ...], tuple[str, ...]]:
    """Every file of the first format found, by name; hidden files (``._x.npz`` of archive tools) are not samples."""
    files = sorted(file for file in path.iterdir() if file.is_file())
    for suffix in (".npz", ".npy", ".json"):
        chosen = [file for file in files if file.suffix == suffix and not file.name.startswith(".")]
        if chosen:
            others = [file.name for file in files if file not in chosen]
            shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
            ignored = (f"{path}: {len(others)} files that are not {suffix} ignored ({shown})",) if others else ()
            return tuple(entry for file in chosen for entry in _file(file, signature)), ignored
    return (), ()


def _file(path: Path, signature: tuple[Input, ...]) -> tuple[SampleEntry, ...]:
    if path.suffix == ".npz":
        return (NpzFile(path),)
    if path.suffix == ".json":
        return polygraphy.spans(path)
    if path.suffix != ".npy":
        raise SampleError(f"is of no known format ({path.suffix or 'no suffix'})", where=str(path), hint=f"give {FORMATS}")
    if len(signature) != 1:
        names = ", ".join(f"{entry.name}=..." for entry in signature)
        hint = f"np.savez('sample.npz', {names})"
        raise SampleError(f"is one array, but the model takes {len(signature)} inputs", where=str(path), hint=hint)
    return (NpyFile(path, signature[0].name),)
