"""Inputs that nobody gave but that are like those given: two samples blended.

A few samples that pass say little of the next one: of six inputs a fault in one of ten escapes every other time. Convex combinations of
two inputs (mixup, Zhang et al., ICLR 2018) stay within the range of both and are no copy of either; what a model does to them in FP32 is
known, so strict emulation can be judged on them. Where a fresh sample of a real model was wrong, blends mostly were (notes/verdict.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Blend:
    """How two samples become one."""

    one: int
    other: int
    weight: float
    """Of ``one``; the other has the rest."""
    cut: float
    """Up to here, along the last axis, whole numbers are those of ``one``."""
    loud: int
    """The sample that it is as loud as."""


class Blends(Sequence[Arrays]):
    """Samples of the same shapes blended two by two; made when asked for and kept by nobody.

    Floats are added up with weights and scaled to the RMS of a sample, which may be a third: nothing is louder or quieter than the samples
    are, for how far that may go, head-room says. Integers, booleans and floats that are whole in every sample (tokens, masks, counts) are
    spliced: the beginning of one, the end of the other.
    """

    def __init__(self, samples: Sequence[Arrays], names: Sequence[str], blends: Sequence[Blend], whole: frozenset[str]) -> None:
        self.samples, self.sample_names, self.blends, self.whole = samples, names, blends, whole

    def __len__(self) -> int:
        return len(self.blends)

    def __getitem__(self, index: int) -> Arrays:  # type: ignore[override]
        blend = self.blends[index]
        one, other, loud = (self.samples[number] for number in (blend.one, blend.other, blend.loud))
        return {name: self.mixed(blend, name, array, other[name], loud[name]) for name, array in one.items()}

    def mixed(self, blend: Blend, name: str, one: np.ndarray, other: np.ndarray, loud: np.ndarray) -> np.ndarray:
        """One input."""
        if one.dtype.kind == "f" and name not in self.whole:
            made = blend.weight * one.astype(np.float64) + (1.0 - blend.weight) * other.astype(np.float64)
            now, wanted = rms(made), rms(loud)
            return np.asarray(made * (wanted / now) if now > 0.0 and math.isfinite(wanted / now) else made, one.dtype)
        if not one.ndim:
            return one
        cut = round(blend.cut * one.shape[-1])
        return np.concatenate([one[..., :cut], other[..., cut:]], axis=-1)

    def pick(self, numbers: Sequence[int]) -> Blends:
        """Some of them."""
        return Blends(self.samples, self.sample_names, [self.blends[number] for number in numbers], self.whole)

    @property
    def names(self) -> tuple[str, ...]:
        """``3 + 5``."""
        return tuple(f"{self.sample_names[each.one]} + {self.sample_names[each.other]}" for each in self.blends)


def blended(samples: Sequence[Arrays], names: Sequence[str], count: int, seed: int) -> Blends:
    """``count`` blends, of samples whose shapes another one shares; none where no two are alike.

    Args:
        samples: what is blended; read once for shapes and whole numbers.
        names: of these.
        count: how many.
        seed: another one gives other blends.
    """
    rng = np.random.default_rng(seed)
    alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    whole: set[str] | None = None
    for number, sample in enumerate(samples):
        alike.setdefault(tuple(array.shape for array in sample.values()), []).append(number)
        found = {name for name, array in sample.items() if is_whole(array)}
        whole = found if whole is None else whole & found
    groups = [group for group in alike.values() if len(group) > 1 for _ in group]
    return Blends(samples, names, [drawn(rng, groups) for _ in range(count)] if groups else [], frozenset(whole or ()))


def drawn(rng: np.random.Generator, groups: Sequence[Sequence[int]]) -> Blend:
    """At random: samples of one group."""
    group = groups[int(rng.integers(len(groups)))]
    one, other = rng.choice(group, 2, replace=False)
    return Blend(int(one), int(other), float(rng.uniform(0.1, 0.9)), float(rng.uniform()), int(rng.choice(group)))


def rms(array: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.square(array, dtype=np.float64).mean())) if array.size else 0.0


def is_whole(array: np.ndarray) -> bool:
    """No number that could be blended: not a float, or whole."""
    return array.dtype.kind != "f" or bool(np.equal(array, np.round(array)).all())
