"""In: the subpackages of this folder. Out: every ill model they define, as `Case` objects in sorted order."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

Array = npt.NDArray[Any]
Feeds = dict[str, Array]
"""One sample: an array for every graph input, by name; float32 or int64."""


@dataclass(frozen=True, slots=True)
class Case:
    """One ill model, what is known of it, and the inputs that show it."""

    name: str
    classes: tuple[int, ...]
    """Failure classes, 1 to 22: 1 decomposed LayerNorm, 2 channel-first LayerNorm, 3 RMSNorm, 4 residual stream, 5 VAE decoder,
    6 mask literals, 7 QKᵀ, 8 written-out softmax family, 9 harmless overflow, 10 InstanceNorm and raw images, 11 L2-normalise,
    12 vanishing eps, 13 long sums, 14 coordinates, 15 angles, 16 weights, 17 literals, 18 log of probabilities,
    19 cancellation, 20 subgraphs, 21 already mixed graphs, 22 CNN and Transformer detector."""
    build: Callable[[], onnx.ModelProto]
    """Makes the ill model; the same bytes every time."""
    samples: Callable[[], list[Feeds]]
    """4 to 8 real-looking inputs; the same every time."""
    held_out: Callable[[], list[Feeds]] | None = None
    """Inputs that lie outside the samples on purpose: a fully masked row, a longer sequence, values four times larger."""
    harmless: bool = False
    """Something overflows in FP16 and nothing comes of it: the model must be left alone."""
    free: bool = False
    """Can be repaired without one FP32 node, by rescaling, fusing or other literals; `witness` proves it."""
    note: str = ""
    """What is ill, and where it was seen."""
    witness: Callable[[], onnx.ModelProto] | None = None
    """For free cases: the same FP32 function, strictly right in FP16 throughout."""
    needs: tuple[str, ...] = ()
    """Modules that `build` imports and that may be missing."""
    wide_inputs: tuple[str, ...] = ()
    """Inputs that the witness reads in FP32, to multiply them by a power of two before anything else."""


@cache
def cases() -> tuple[Case, ...]:
    """Every case of every subpackage, sorted by subpackage and then in the order written there."""
    here = importlib.import_module(__package__ or "")
    kinds = sorted(info.name for info in pkgutil.iter_modules(here.__path__) if info.ispkg)
    found = [case for kind in kinds for case in importlib.import_module(f"{__package__}.{kind}").CASES]
    return tuple(found)


def case(name: str) -> Case:
    """The case of that name; KeyError with the names there are when there is none."""
    by_name = {each.name: each for each in cases()}
    if name not in by_name:
        raise KeyError(f"no ill model {name!r}; there are {sorted(by_name)}")
    return by_name[name]


def normal(name: str, shape: tuple[int, ...], *, seed: int, count: int = 4, scale: float = 1.0, shift: float = 0.0) -> list[Feeds]:
    """`count` samples of one float32 input, normally distributed."""
    rng = np.random.default_rng(seed)
    return [{name: (shift + scale * rng.standard_normal(shape)).astype(np.float32)} for _ in range(count)]


def images(name: str, shape: tuple[int, int, int, int], *, seed: int, count: int = 4) -> list[Feeds]:
    """`count` samples of one float32 NCHW input in [0, 1]: soft gradients, a bright rectangle, sensor noise; quantised to 8 bits."""
    rng = np.random.default_rng(seed)
    batch, channels, height, width = shape
    rows, columns = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    found = []
    for _ in range(count):
        slope = rng.uniform(-0.4, 0.4, (2, batch, channels, 1, 1))
        picture = 0.5 + slope[0] * (rows - 0.5) + slope[1] * (columns - 0.5) + 0.02 * rng.standard_normal(shape)
        top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
        picture[:, :, top : top + height // 3, left : left + width // 3] += rng.uniform(-0.3, 0.3, (batch, channels, 1, 1))
        found.append({name: (np.round(255 * np.clip(picture, 0, 1)) / 255).astype(np.float32)})
    return found


def tokens(name: str, shape: tuple[int, int], vocabulary: int, *, seed: int, count: int = 4) -> list[Feeds]:
    """`count` samples of one int64 input of token ids below `vocabulary`; ids 0 to 2 are kept for padding, start and end."""
    rng = np.random.default_rng(seed)
    return [{name: rng.integers(3, vocabulary, shape, dtype=np.int64)} for _ in range(count)]


def scaled(samples: list[Feeds], factor: float) -> list[Feeds]:
    """The same samples with every floating-point input multiplied by `factor`."""
    return [
        {name: (array * factor).astype(array.dtype) if array.dtype.kind == "f" else array for name, array in feeds.items()}
        for feeds in samples
    ]
