"""Model → made-up ``Samples`` for when the user gives none; they exercise the graph, they do not stand for real data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from fp16fix.errors import SampleError
from fp16fix.graph.model import FLOATS, Model, numpy_type
from fp16fix.inputs.check import RECORD, Contract
from fp16fix.inputs.declared import LARGEST, Admit, Declared, anything
from fp16fix.inputs.draw import Filling, draw
from fp16fix.inputs.guess import Plan, dims, guessed, is_latent
from fp16fix.inputs.sample import Samples
from fp16fix.inputs.signature import Input, show, with_dims
from fp16fix.inputs.uses import Uses, uses

_INTEGERS = tuple(getattr(onnx.TensorProto, f"{sign}INT{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64))
_SMALL = 8
_STEPS = 1000
_SIDE = 8
"""Pixels; less is no picture."""
UNRANKED = (None, None)
"""What an input of an unknown rank is taken for: a batch of rows."""
_CHANNELS = (1, 3, 4)
"""Of an image: grey, colour, colour and alpha."""


@dataclass(frozen=True, slots=True)
class Field:
    """How one input is made."""

    name: str
    kind: Filling
    element: int
    limit: int
    """First integer out of bounds; 0 where none applies."""


@dataclass(frozen=True, slots=True)
class Made:
    """One made-up sample: drawn anew, and the same, each time it is read."""

    fields: tuple[Field, ...]
    shapes: Mapping[str, tuple[int, ...]]
    seed: int
    index: int

    @property
    def name(self) -> str:
        return f"made[{self.index}]"

    @property
    def where(self) -> str:
        return f"made-up sample {self.index}"

    def read(self, admit: Admit = anything) -> dict[str, np.ndarray]:
        # Padding falls on even and odd samples alike, since every other one is held out.
        padded = self.index % 4 in {1, 2}
        admit({field.name: Declared(self.shapes[field.name], np.dtype(numpy_type(field.element))) for field in self.fields})
        arrays = {}
        for position, field in enumerate(self.fields):
            rng = np.random.default_rng([self.seed, self.index, position])
            values = draw(field.kind, self.shapes[field.name], field.limit, rng, padded=padded)
            if field.kind in {Filling.IMAGE, Filling.IMAGE_LAST} and field.element in _INTEGERS:
                values = np.rint(values * 255.0)
            # NumPy makes a number of a shape without dimensions; a session wants an array.
            arrays[field.name] = np.asarray(values).astype(numpy_type(field.element)).reshape(self.shapes[field.name])
        return arrays


def make(model: Model, signature: tuple[Input, ...], shapes: Mapping[str, tuple[int, ...]], count: int = 8, seed: int = 0) -> Samples:
    """``count`` samples that suit the model's inputs: ids within their table, masks with and without padding, images in [0, 1].

    Free dimensions: ``shapes`` first; then batch-like ones are 1 in the first half of the samples and 2 in the rest, sequences 16,
    sides of images 224; what nothing tells is guessed, and that is said. What decides a shape is 1 everywhere (scales of a Resize
    too): the shape stays as it is.

    Raises:
        SampleError: a value that cannot be guessed.
        ConfigError: ``shapes`` contradict the signature.
    """
    for entry in signature:
        if entry.given_by:
            said = f"{entry.name!r} cannot be made up: {entry.given_by} gives it, and nothing here computes that"
            raise SampleError(said, where="made-up inputs", hint=f"give --inputs; {RECORD}")
    inputs = tuple(entry if entry.ranked else Input(entry.name, entry.element, UNRANKED) for entry in with_dims(signature, shapes))
    facts = _facts(model, inputs)
    kinds = {entry.name: _kind(entry, facts[entry.name]) for entry in inputs}
    plan = {entry.name: (entry, kinds[entry.name]) for entry in inputs}
    by_batch = {batch: _bounded(dims(plan, batch)) for batch in (1, 2)}
    entries = []
    for index in range(count):
        sizes = by_batch[1 if index < (count + 1) // 2 else 2]
        fields = tuple(_field(entry, kinds[entry.name], facts[entry.name], sizes) for entry in inputs)
        entries.append(Made(fields, sizes, seed, index))
    notes = tuple(f"input {entry.name!r}: made up as {kinds[entry.name].value}" for entry in inputs)
    source = f"made from the signature (seed {seed})"
    return Samples(tuple(entries), Contract(inputs), source, made_up=True, notes=notes, guessed=guessed(plan))


def plan_for(model: Model, inputs: tuple[Input, ...]) -> Plan:
    """What each input is taken for. Raises SampleError: a value that cannot be guessed."""
    facts = _facts(model, inputs)
    return {entry.name: (entry, _kind(entry, facts[entry.name])) for entry in inputs}


def _facts(model: Model, inputs: tuple[Input, ...]) -> dict[str, Uses]:
    tensors = {tensor.name: tensor for tensor in model.graph.inputs}
    return {entry.name: uses(tensors[entry.name]) for entry in inputs}


def _bounded(sizes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Sizes that can be made up."""
    for name, shape in sizes.items():
        if math.prod(shape) > LARGEST:
            raise SampleError(
                f"input {name!r} {show(shape)} has {math.prod(shape):,} elements, too many to make up",
                where="made-up inputs",
                hint=f"settle smaller dimensions with --shape {name}:…, or give --inputs",
            )
    return sizes


def _field(entry: Input, kind: Filling, facts: Uses, sizes: Mapping[str, tuple[int, ...]]) -> Field:
    others = [shape[1] for name, shape in sizes.items() if name != entry.name and len(shape) > 1]
    own = sizes[entry.name]
    limit = {
        Filling.STEPS: facts.rows or _STEPS,
        Filling.LENGTHS: min(others, default=1),
        Filling.SEGMENTS: facts.rows or 2,
        Filling.POSITIONS: facts.rows or max(own[-1] if own else 1, 1),
        Filling.IDS: facts.rows or 1,
        Filling.SMALL: _SMALL,
    }.get(kind, 0)
    return Field(entry.name, kind, entry.element, limit)


def _kind(entry: Input, facts: Uses) -> Filling:
    """What the input is, by its type, then its name, then its use."""
    if entry.element in FLOATS:
        if facts.scales:
            return Filling.ONES
        return _float_kind(entry, facts)
    if entry.element == onnx.TensorProto.BOOL:
        return Filling.MASK if _says(entry, "mask") or facts.masks else Filling.FLAGS
    if entry.element not in _INTEGERS:
        raise SampleError("holds neither numbers nor booleans, and cannot be made up", where=f"input {entry.name!r}", hint="give --inputs")
    if facts.shapes:
        return Filling.WHOLE if facts.reshapes else Filling.ONES
    named = _named_integers(entry)
    if named is not None:
        return named
    if facts.indexes:
        return Filling.IDS
    if facts.masks:
        return Filling.MASK
    image = _image(entry) if entry.element == onnx.TensorProto.UINT8 else None
    return image or Filling.SMALL


def _named_integers(entry: Input) -> Filling | None:
    if _says(entry, "mask"):
        return Filling.MASK
    if _says(entry, r"position|pos_id"):
        return Filling.POSITIONS
    if _says(entry, r"token_type|segment"):
        return Filling.SEGMENTS
    if _says(entry, r"time_?step"):
        return Filling.STEPS
    return Filling.LENGTHS if _says(entry, r"len(gth)?s?$|_lens?_") else None


def _float_kind(entry: Input, facts: Uses) -> Filling:
    if _says(entry, "mask"):
        return Filling.ADDITIVE if facts.adds and not facts.masks else Filling.MASK
    if _says(entry, r"time_?step"):
        return Filling.STEPS
    return _image(entry) or Filling.NORMAL


def _image(entry: Input) -> Filling | None:
    if len(entry.shape) != 4 or is_latent(entry.name):
        return None
    _, first, middle, last = entry.shape
    if first in _CHANNELS and _sides(middle, last):
        return Filling.IMAGE
    return Filling.IMAGE_LAST if last in _CHANNELS and _sides(first, middle) else None


def _sides(*sizes: int | str | None) -> bool:
    """Free, or long enough for a picture: coordinates have such shapes too."""
    return all(not isinstance(size, int) or size >= _SIDE for size in sizes)


def _says(entry: Input, pattern: str) -> bool:
    return re.search(pattern, entry.name, re.IGNORECASE) is not None
