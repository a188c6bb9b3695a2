"""Free dimensions of the inputs → numbers, where names and positions tell what they are."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fp16fix.inputs.draw import Filling
from fp16fix.inputs.shapes import text_from_dims
from fp16fix.inputs.signature import Input, show

SEQUENCE = 16
"""Tokens, frames, time steps: long enough for padding to show, short enough to be quick."""
SIDE = 224
"""Pixels a side of an image."""
LATENT = 32
"""Cells a side of a latent image."""
COLOURS = 3
"""Channels of an image of which only the sides are known."""
IMAGE_RANK = 4
_BATCH = re.compile(r"batch|^(n|b|bs)$", re.IGNORECASE)
_SEQUENCE = re.compile(r"seq|len|token|time|frame|past|context|ctx|^[tsl]$", re.IGNORECASE)
_SPACE = re.compile(r"height|width|^[hw]$", re.IGNORECASE)

Plan = Mapping[str, tuple[Input, Filling]]
"""Inputs by name, and what each is taken for."""


def is_latent(name: str) -> bool:
    """Diffusion models call their noisy four-channel image so; it is no picture."""
    return re.search(r"latent|noise|^sample$", name, re.IGNORECASE) is not None


def dims(plan: Plan, batch: int) -> dict[str, tuple[int, ...]]:
    """Concrete shapes by input name with ``batch`` for batch-like dimensions; one name has one value everywhere.

    What nothing tells is taken for a sequence, or for the channels of an image; ``guessed`` says so.
    """
    found = told(plan, batch)
    return {
        name: tuple(_unknown(sizes, axis) if size is None else size for axis, size in enumerate(sizes)) for name, sizes in found.items()
    }


def guessed(plan: Plan) -> tuple[str, ...]:
    """A sentence for every input with a dimension that nothing tells, with the flag that settles it."""
    found, shapes = told(plan, 1), dims(plan, 1)
    unknown = [entry for entry, _ in plan.values() if None in found[entry.name]]
    return tuple(
        f"Nothing says how large {entry.name!r} {show(entry.shape)} is: it was taken as {text_from_dims(shapes[entry.name])}; give "
        f"--shape {entry.name}:{text_from_dims(shapes[entry.name])} with your own numbers, or --inputs."
        for entry in unknown
    )


def told(plan: Plan, batch: int) -> dict[str, tuple[int | None, ...]]:
    """Shapes as far as names and places tell them."""
    symbols: dict[str, int] = {}
    past = any("past" in dim for entry, _ in plan.values() for dim in entry.shape if isinstance(dim, str))
    found: dict[str, tuple[int | None, ...]] = {}
    for name, (entry, kind) in plan.items():
        found[name] = tuple(_size(entry, kind, axis, batch, symbols, past=past) for axis in range(len(entry.shape)))
    return found


def _unknown(sizes: tuple[int | None, ...], axis: int) -> int:
    """What stands for a dimension that nothing tells."""
    return COLOURS if len(sizes) == IMAGE_RANK and axis == 1 and None not in sizes[2:] else SEQUENCE


def _size(entry: Input, kind: Filling, axis: int, batch: int, symbols: dict[str, int], *, past: bool) -> int | None:
    dim = entry.shape[axis]
    if isinstance(dim, int):
        return dim
    if dim is None:
        return _by_position(entry, kind, axis, batch)
    if dim not in symbols:
        size = _by_name(dim, batch, past=past, latent=is_latent(entry.name))
        size = _by_position(entry, kind, axis, batch) if size is None else size
        if size is not None:
            symbols[dim] = size
    return symbols.get(dim)


def _by_name(dim: str, batch: int, *, past: bool, latent: bool) -> int | None:
    if "+" in dim:
        parts = [part.strip() for part in dim.split("+")]
        sizes = [int(part) if part.isdigit() else _by_name(part, batch, past=past, latent=latent) for part in parts]
        return None if None in sizes else sum(size for size in sizes if size is not None)
    if _BATCH.search(dim):
        return batch
    if _SEQUENCE.search(dim):
        # what a decoder has seen so far and what it sees now
        return 2 * SEQUENCE if past and "total" in dim else SEQUENCE
    return LATENT if _SPACE.search(dim) and latent else None


def _by_position(entry: Input, kind: Filling, axis: int, batch: int) -> int | None:
    rank, dim = len(entry.shape), entry.shape[axis]
    if axis == 0 and not (isinstance(dim, str) and _SPACE.search(dim)):
        return batch
    if kind in {Filling.IMAGE, Filling.IMAGE_LAST}:
        return SIDE
    if rank == 4 and axis > 1 and is_latent(entry.name):
        return LATENT
    tokens = kind not in {Filling.NORMAL, Filling.STEPS} or (rank == 3 and _free(entry) == 1)
    return SEQUENCE if tokens and not (isinstance(dim, str) and _SPACE.search(dim)) else None


def _free(entry: Input) -> int:
    """Free dimensions besides the first."""
    return sum(not isinstance(dim, int) for dim in entry.shape[1:])
