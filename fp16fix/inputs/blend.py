"""Inputs that nobody gave but that are like those given: two samples blended, some of them quieter.

A few samples that pass say little of the next one: of six inputs a fault in one of ten escapes every other time. Convex combinations of
two inputs (mixup, Zhang et al., ICLR 2018) stay within the range of both and are no copy of either; what a model does to them in FP32 is
known, so strict emulation can be judged on them. Where a fresh sample of a real model was wrong, blends mostly were (notes/verdict.md).
"""

from __future__ import annotations

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
    octaves: float
    """How much louder it is; 0 or less."""
    cut: float
    """Up to here, along the last axis, whole numbers are those of ``one``."""


class Blends(Sequence[Arrays]):
    """Samples of the same shapes blended two by two; read when asked for and kept by nobody.

    Floats are added up with weights, all of a sample as much quieter; integers, booleans and floats that are whole in every sample
    (tokens, masks, counts) are spliced: the beginning of one, the end of the other. A sample with shapes of its own blends with itself.
    """

    def __init__(self, samples: Sequence[Arrays], names: Sequence[str], blends: Sequence[Blend], whole: frozenset[str]) -> None:
        self.samples, self.sample_names, self.blends, self.whole = samples, names, blends, whole

    def __len__(self) -> int:
        return len(self.blends)

    def __getitem__(self, index: int) -> Arrays:  # type: ignore[override]
        blend = self.blends[index]
        one, other = self.samples[blend.one], self.samples[blend.other]
        return {name: self.mixed(blend, name, array, other[name]) for name, array in one.items()}

    def mixed(self, blend: Blend, name: str, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """One input."""
        if one.dtype.kind == "f" and name not in self.whole:
            made = np.float32(2.0**blend.octaves) * (np.float32(blend.weight) * one + np.float32(1.0 - blend.weight) * other)
            return made.astype(one.dtype)
        if not one.ndim or blend.one == blend.other:
            return one
        cut = round(blend.cut * one.shape[-1])
        return np.concatenate([one[..., :cut], other[..., cut:]], axis=-1)

    def pick(self, numbers: Sequence[int]) -> Blends:
        """Some of them."""
        return Blends(self.samples, self.sample_names, [self.blends[number] for number in numbers], self.whole)

    @property
    def names(self) -> tuple[str, ...]:
        """``3 + 5``, ``3 + 5, 1.2 octaves quieter``."""
        return tuple(self.named(each) for each in self.blends)

    def named(self, blend: Blend) -> str:
        """One of them."""
        whom = " + ".join(dict.fromkeys((self.sample_names[blend.one], self.sample_names[blend.other])))
        return f"{whom}, {-blend.octaves:.1f} octaves quieter" if blend.octaves else whom


def blended(samples: Sequence[Arrays], names: Sequence[str], count: int, octaves: float, seed: int) -> Blends:
    """``count`` blends, half of them up to ``octaves`` quieter; none where samples hold nothing that can be blended.

    Args:
        samples: what is blended; read once for shapes and whole numbers.
        names: of these.
        count: how many.
        octaves: see ``Config.headroom_down``.
        seed: another one gives other blends.
    """
    rng = np.random.default_rng(seed)
    alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    whole: set[str] | None = None
    for number, sample in enumerate(samples):
        alike.setdefault(tuple(array.shape for array in sample.values()), []).append(number)
        found = {name for name, array in sample.items() if is_whole(array)}
        whole = found if whole is None else whole & found
    groups = [group for group in alike.values() for _ in group]
    made = [drawn(rng, groups, octaves if number % 2 else 0.0) for number in range(count)]
    kept = frozenset(whole or ())
    lone = [each for each in made if each.one != each.other or (each.octaves and any(name not in kept for name in samples[each.one]))]
    return Blends(samples, names, lone, kept)


def drawn(rng: np.random.Generator, groups: Sequence[Sequence[int]], octaves: float) -> Blend:
    """At random: two samples of one group, different ones where it has two."""
    group = groups[int(rng.integers(len(groups)))]
    one, other = rng.choice(group, 2, replace=len(group) < 2)
    weight, quieter, cut = rng.uniform(0.1, 0.9), rng.uniform(0.0, octaves), rng.uniform()
    return Blend(int(one), int(other), float(weight), -float(quieter), float(cut))


def is_whole(array: np.ndarray) -> bool:
    """No number that could be blended: not a float, or whole."""
    return array.dtype.kind != "f" or bool(np.equal(array, np.round(array)).all())
