"""A model → the commented YAML to repair it by: its profile, the samples beside it, bounds in its own units."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fp16fix.config import Config, published
from fp16fix.config.file import value_of
from fp16fix.config.load import validated
from fp16fix.errors import ConfigError, SampleError
from fp16fix.graph.load import load
from fp16fix.graph.model import Model
from fp16fix.graph.save import write_atomically
from fp16fix.graph.session import Session
from fp16fix.inputs.load import load as load_samples
from fp16fix.inputs.made import make
from fp16fix.inputs.sample import Samples
from fp16fix.inputs.shapes import InputShapes
from fp16fix.inputs.signature import Input, signature
from fp16fix.inputs.span import spans
from fp16fix.report.scaffold import Coordinates, Scaffold, written

FOLDERS = ("samples", "inputs", "calib*")
"""Where samples are looked for, beside the model."""
CORNERS = 4
COORDINATES = re.compile(r"box|keypoint|landmark|coord|corner", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Kit:
    """What ``init`` wrote."""

    config: Path
    schema: Path
    inputs: str
    """The samples that it found, relative to the YAML; empty where they will be made up."""


@dataclass(frozen=True, slots=True)
class Found:
    """Samples that fit the model, and why others do not."""

    path: Path | None
    samples: Samples | None
    misfits: tuple[str, ...]


def init(model: Path, output: Path) -> Kit:
    """Write ``output`` and, beside it, the JSON Schema that it names; nothing that exists is overwritten.

    Raises:
        InputError: ``output`` exists, or the model cannot be read or its inputs be guessed.
    """
    if output.exists():
        raise ConfigError("exists already, and stays as it is", where=str(output), hint="name another file with -o, or move that one")
    loaded = load(model, simplified=False)
    inputs = signature(loaded)
    found = samples_beside(model, inputs)
    samples = found.samples or make(loaded, inputs, {}, count=2)
    folder = output.absolute().parent
    text = written(
        Scaffold(
            model=beside(model, folder),
            product=f"{model.stem}.fp16.onnx",
            inputs="" if found.path is None else beside(found.path, folder),
            count=0 if found.samples is None else len(found.samples),
            misfits=found.misfits,
            signature=tuple(f"{entry.name} {entry}" for entry in inputs),
            spans=profile(loaded, inputs, found.samples),
            coordinates=coordinates(loaded, samples),
        )
    )
    validated(Config, value_of(text, str(output)), str(output), folder)
    schema = output.parent / published.FILE
    write_atomically(output, text.encode())
    if not schema.exists():
        write_atomically(schema, published.shipped(zoo=False).encode())
    return Kit(output, schema, "" if found.path is None else beside(found.path, folder))


def beside(path: Path, folder: Path) -> str:
    """As it is written in a YAML in ``folder``."""
    return os.path.relpath(path.absolute(), folder)


def profile(model: Model, inputs: tuple[Input, ...], samples: Samples | None) -> tuple[InputShapes, ...]:
    """The proposed range of shapes; none where an input's rank is not known, for then no profile is whole."""
    return spans(model, inputs, samples) if all(entry.ranked for entry in inputs) else ()


def samples_beside(model: Path, inputs: tuple[Input, ...]) -> Found:
    """The first of the usual folders, or the files, beside a model that hold samples for it."""
    misfits: list[str] = []
    for path in places(model.absolute().parent):
        try:
            return Found(path, load_samples(str(path), inputs, {}), tuple(misfits))
        except SampleError as error:
            misfits.append(f"{path.name}: {error.what}")
    return Found(None, None, tuple(misfits))


def places(home: Path) -> Iterator[Path]:
    """Folders of samples, then one ``.npz`` alone, or the folder of several."""
    for pattern in FOLDERS:
        yield from (path for path in sorted(home.glob(pattern)) if path.is_dir())
    files = sorted(home.glob("*.npz"))
    if files:
        yield files[0] if len(files) == 1 else home


def coordinates(model: Model, samples: Samples) -> tuple[Coordinates, ...]:
    """Outputs that look like coordinates, by name or as boxes in pixels, with the values of one sample.

    Raises:
        ModelError: ONNX Runtime refuses the model or fails on the sample.
    """
    sample = samples[0].arrays
    side = picture(list(sample.values()))
    found = []
    for name, value in Session(model).run(sample).items():
        array = np.asarray(value)
        if array.dtype.kind != "f" or not array.size:
            continue
        low, high = float(np.nanmin(array)), float(np.nanmax(array))
        largest = max(abs(low), abs(high))
        if np.isfinite(largest) and largest > 0 and looks_like_coordinates(name, array.shape, largest):
            found.append(Coordinates(name, low, high, largest > 2.0, side))
    return tuple(found)


def looks_like_coordinates(name: str, shape: Sequence[int], largest: float) -> bool:
    """By name; or four numbers at a place, more than shares and scores are."""
    return COORDINATES.search(name) is not None or (bool(shape) and shape[-1] == CORNERS and largest > 1.0)


def picture(arrays: Sequence[np.ndarray]) -> int:
    """The longest side of the first picture that goes in; 0 without one."""
    return next((max(array.shape[1:]) for array in arrays if array.ndim == CORNERS), 0)
