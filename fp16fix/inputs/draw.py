"""A kind of input, its shape and a random generator → made-up values of that kind."""

from __future__ import annotations

from enum import Enum

import numpy as np

Shape = tuple[int, ...]


class Filling(str, Enum):
    """What an input is taken for."""

    IDS = "ids"
    """Rows of a table, uniformly."""
    POSITIONS = "positions"
    """0, 1, 2, … along the last axis."""
    SEGMENTS = "segments"
    """0 in the first half, 1 in the second."""
    MASK = "mask"
    """1 for what counts; padding (0) at the end of some samples."""
    ADDITIVE = "additive mask"
    """0 for what counts; −10⁴ at the end of some samples: exp(−10⁴) is 0 in any format, and −10⁴ fits FP16."""
    LENGTHS = "lengths"
    """How much of a sequence counts."""
    STEPS = "time steps"
    """Whole numbers below 1000, as diffusion models take."""
    IMAGE = "image"
    """Smooth fields and blocks in [0, 1], channels first."""
    IMAGE_LAST = "image, channels last"
    """The same, channels last."""
    ONES = "ones"
    """1 everywhere: repeats, counts, sizes, factors."""
    WHOLE = "the whole"
    """−1, then 1: whatever there is, along the first axis."""
    FLAGS = "flags"
    """True and false alike."""
    SMALL = "small integers"
    """0 to 7."""
    NORMAL = "normal"
    """Standard normal."""


def draw(kind: Filling, shape: Shape, limit: int, rng: np.random.Generator, *, padded: bool) -> np.ndarray:
    """Values of ``kind``; ``limit`` is the first integer out of bounds; ``padded`` asks for padding where the kind knows it."""
    match kind:
        case Filling.IDS | Filling.SMALL | Filling.STEPS:
            return rng.integers(0, limit, shape)
        case Filling.POSITIONS:
            return np.broadcast_to(_places(shape) % limit, shape)
        case Filling.SEGMENTS:
            return np.broadcast_to(np.minimum(_places(shape) * 2 // max(_last(shape), 1), limit - 1), shape)
        case Filling.MASK:
            return _mask(shape, rng, padded=padded)
        case Filling.ADDITIVE:
            return (_mask(shape, rng, padded=padded) - 1.0) * 1e4
        case Filling.LENGTHS:
            return rng.integers(max(limit // 4, 1), limit, shape) if padded and limit > 1 else np.full(shape, limit)
        case Filling.IMAGE:
            return np.stack([image(rng, *shape[1:]) for _ in range(shape[0])]) if 0 not in shape else np.zeros(shape)
        case Filling.IMAGE_LAST:
            return np.moveaxis(draw(Filling.IMAGE, (shape[0], shape[3], shape[1], shape[2]), limit, rng, padded=padded), 1, 3)
        case Filling.ONES:
            return np.ones(shape)
        case Filling.WHOLE:
            return np.where(_places(shape) == 0, -1, 1)
        case Filling.FLAGS:
            return np.asarray(rng.random(shape) < 0.5)
        case Filling.NORMAL:
            return rng.standard_normal(shape)


def image(rng: np.random.Generator, channels: int, height: int, width: int) -> np.ndarray:
    """``[channels, height, width]`` in [0, 1]: low frequencies as in photographs, and hard edges.

    White noise would average out in the first pooling and calibrate nothing.
    """
    down, across = _ramp(height), _ramp(width)
    field: np.ndarray = np.einsum("ha,cab,wb->chw", down, rng.random((channels, _COARSE, _COARSE)), across)
    field = (field - field.min()) / max(float(np.ptp(field)), 1e-9)
    for _ in range(4):
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        tall, wide = int(rng.integers(1, height // 3 + 2)), int(rng.integers(1, width // 3 + 2))
        field[:, top : top + tall, left : left + wide] = rng.random((channels, 1, 1))
    return field


_COARSE = 6
"""Grid points a side of the random field before it is stretched over the image."""


def _ramp(size: int) -> np.ndarray:
    """``[size, _COARSE]``: weights of linear interpolation from the coarse grid."""
    at = np.linspace(0.0, _COARSE - 1.0, max(size, 1))
    return np.maximum(0.0, 1.0 - np.abs(at[:size, None] - np.arange(_COARSE)))


def _mask(shape: Shape, rng: np.random.Generator, *, padded: bool) -> np.ndarray:
    """Ones; when padded, each row (first axis) ends in zeros along the last axis, a quarter at least being left."""
    size = _last(shape)
    if not padded or size < 2:
        return np.ones(shape)
    rows = shape[0] if len(shape) > 1 else 1
    lengths = rng.integers(max(size // 4, 1), size, rows)
    kept = np.arange(size) < lengths[:, None]
    return np.broadcast_to(kept.reshape((rows,) + (1,) * (len(shape) - 2) + (size,)) if len(shape) > 1 else kept[0], shape).astype(float)


def _places(shape: Shape) -> np.ndarray:
    """0, 1, 2, … along the last axis; a scalar is at 0."""
    return np.arange(shape[-1]) if shape else np.array(0)


def _last(shape: Shape) -> int:
    return shape[-1] if shape else 1
