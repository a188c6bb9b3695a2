"""Axes whose entries live on different scales (mixed units, boxes beside scores): each entry is compared on its own scale.

The scale of an entry is the root of its mean ref² over all samples, or an eighth of its largest |ref| if that is more: an entry mostly at
rest is as large as when it moves. Where two scales of an axis differ by more than 2⁵, every entry k counts, in every sample s, with

    SQNR = 10·log₁₀(max(S, n·E·10⁻⁴, n·p²/64) / N)

(S, N: Σ ref² and Σ (ref − x)² of the entry in the sample, n its elements, p its largest |ref| there, E its mean ref² over all samples).
Entries of fewer than 16 elements a sample are compared over all samples together, since few numbers may all be near zero by chance. An
entry with fewer than 8 values other than zero has no scale: it takes the smallest of the others, and errors below ``NOTHING`` pass.
Entries of one unit are compared as one: those of one operand of a Concat, and, of an output that Softmax or Sigmoid feed, all that stay
within [0, 1]: probabilities, whose unit is one. ``channels`` says which axes count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fp16fix import half
from fp16fix.verdict.channels import APART, LONGEST
from fp16fix.verdict.verdict import Entry

SILENCE = 1e-4
"""−40 dB: energy below this part of the mean asks for nothing more."""
REST = 2.0**-6
"""The square of an eighth: Gaussian data peaks at four to five times its rms, so only what is mostly at rest is lifted by it."""
PER_SAMPLE = 16
"""Elements an entry must have in each sample to be compared in each: fewer may all be near zero by chance."""
ENOUGH = 8
"""Elements other than zero that an entry must have in all samples to have a scale: 8 Gaussian ones are 32 times too small once in 10¹¹."""
CHUNK = 1 << 18
"""Elements widened to float64 at a time."""
NOTHING = half.SMALLEST_NORMAL
"""Where the reference is all zeros there is no signal to compare noise with: errors below FP16's smallest normal value, 2⁻¹⁴, pass."""

Found = tuple[float, Entry | None]
"""dB, and the entry whose they are."""


@dataclass(slots=True)
class AxisSums:
    """Sums of one sample along one axis; every array has one element an entry."""

    axis: int
    """From the first one as 0."""
    count: np.ndarray
    """Elements finite in both."""
    moving: np.ndarray
    """Of those, with a ref that is not zero."""
    signal: np.ndarray
    noise: np.ndarray
    low: np.ndarray
    """Smallest ref."""
    high: np.ndarray
    """Largest ref."""
    off: np.ndarray
    """Largest |ref − x|."""

    @property
    def peak(self) -> np.ndarray:
        """Largest |ref|."""
        found: np.ndarray = np.maximum(np.abs(self.low), np.abs(self.high))
        return found

    def only(self, kept: np.ndarray) -> AxisSums:
        """Of these entries."""
        return AxisSums(self.axis, *(getattr(self, name)[kept] for name, _ in PARTS))

    def merged(self, labels: np.ndarray) -> AxisSums:
        """Entries of one label as one, in the order of labels."""
        order = np.argsort(labels, kind="stable")
        starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
        return AxisSums(self.axis, *(how.reduceat(getattr(self, name)[order], starts) for name, how in PARTS))


PARTS = (
    ("count", np.add), ("moving", np.add), ("signal", np.add), ("noise", np.add),
    ("low", np.minimum), ("high", np.maximum), ("off", np.maximum),
)  # fmt: skip
"""The arrays of ``AxisSums`` in order, and how those of two entries or samples make one."""


def sums_along(reference: np.ndarray, candidate: np.ndarray, axis: int) -> AxisSums | None:
    """Sums by entry of an axis (negative, from the last); None where the arrays have none such, or one too short or too long."""
    rank = reference.ndim
    if not -rank <= axis < 0 or not 2 <= reference.shape[axis] <= LONGEST or not reference.size:
        return None
    length = reference.shape[axis]
    zeros = np.zeros(length)
    found = AxisSums(rank + axis, zeros, zeros.copy(), zeros.copy(), zeros.copy(), zeros + math.inf, zeros - math.inf, zeros.copy())
    before, behind = math.prod(reference.shape[:axis]), math.prod(reference.shape[rank + axis + 1 :])
    ref, x = (array.reshape(before, length, behind) for array in (reference, candidate))
    for part in slabs(before, length, behind):
        add_slab(found, ref[part].astype(np.float64), x[part].astype(np.float64))
    return found


def slabs(before: int, length: int, behind: int) -> Iterator[tuple[slice, slice, slice]]:
    """Parts of (before, length, behind), whole in the middle, of few elements."""
    wide = max(1, min(behind, CHUNK // length))
    tall = max(1, CHUNK // (length * wide))
    for row in range(0, before, tall):
        for column in range(0, behind, wide):
            yield slice(row, row + tall), slice(None), slice(column, column + wide)


def add_slab(found: AxisSums, ref: np.ndarray, x: np.ndarray) -> None:
    """Add (before, length, behind) of both; what is not finite in both is left out."""
    both = np.isfinite(ref) & np.isfinite(x)
    zero = np.where(both, ref, 0.0)
    difference = np.where(both, ref, 0.0) - np.where(both, x, 0.0)
    found.count += both.sum(axis=(0, 2))
    found.moving += np.count_nonzero(zero, axis=(0, 2))
    found.signal += np.square(zero).sum(axis=(0, 2))
    found.noise += np.square(difference).sum(axis=(0, 2))
    found.low = np.minimum(found.low, np.where(both, ref, math.inf).min(axis=(0, 2)))
    found.high = np.maximum(found.high, np.where(both, ref, -math.inf).max(axis=(0, 2)))
    found.off = np.maximum(found.off, np.abs(difference).max(axis=(0, 2)))


def judged(samples: Sequence[AxisSums], parts: Sequence[int] = (), *, probabilities: bool) -> tuple[list[Found], Found | None]:
    """The worst entry of each sample, or of all together where entries are small; neither where the axis has one scale.

    Args:
        samples: sums along one axis, one a sample.
        parts: lengths of what is joined along it, each of one unit; none where every entry may have its own.
        probabilities: Softmax or Sigmoid feed the output.
    """
    if len({len(each.count) for each in samples}) != 1:
        return [], None
    whole = totals(samples)
    kept = np.flatnonzero(whole.count > 0)
    labels = labelled(whole, parts, probabilities=probabilities)[kept]
    if not kept.size:
        return [], None
    *samples, whole = (each.only(kept).merged(labels) for each in (*samples, whole))
    scales = scales_of(whole)
    alive = scales > 0.0
    if np.count_nonzero(alive) < 2 or scales[alive].max() <= APART * scales[alive].min():
        return [], None
    names = [Entry(whole.axis, int(kept[labels == each][0]), int((labels == each).sum())) for each in np.unique(labels)]
    if min(each.count.min() for each in samples) >= PER_SAMPLE:
        return [least(each, scales, SILENCE * whole.signal / whole.count, names) for each in samples], None
    return [], least(whole, scales, np.zeros_like(scales), names)


def labelled(whole: AxisSums, parts: Sequence[int], *, probabilities: bool) -> np.ndarray:
    """By entry, a number that those share which are compared as one."""
    length = len(whole.count)
    labels = np.repeat(np.arange(len(parts)), parts) if sum(parts) == length else np.arange(length)
    one: np.ndarray = (whole.low >= 0.0) & (whole.high <= 1.0) & probabilities
    return np.where(one, length, labels)


def totals(samples: Sequence[AxisSums]) -> AxisSums:
    """All samples together."""
    return AxisSums(samples[0].axis, *(how.reduce([getattr(each, name) for each in samples]) for name, how in PARTS))


def scales_of(whole: AxisSums) -> np.ndarray:
    """The scale of each entry; 0 for one that hardly ever moves from zero."""
    found: np.ndarray = np.sqrt(np.maximum(whole.signal / np.maximum(whole.count, 1.0), REST * np.square(whole.peak)))
    return np.where(whole.moving < ENOUGH, 0.0, found)


def least(sums: AxisSums, scales: np.ndarray, floor: np.ndarray, names: Sequence[Entry]) -> Found:
    """The entry with the least SQNR; ``floor`` is the mean square that each counts as having at least."""
    dead = scales == 0.0
    floor = np.where(dead, scales[~dead].min() ** 2, np.maximum(floor, REST * np.square(sums.peak)))
    signal = np.maximum(sums.signal, floor * sums.count)
    noise = np.where(dead & (sums.off < NOTHING), 0.0, sums.noise)
    with np.errstate(divide="ignore"):
        decibels = np.where(noise > 0.0, 10.0 * (np.log10(signal) - np.log10(noise)), math.inf)
    worst = int(np.argmin(decibels))
    return float(decibels[worst]), names[worst]
