"""Reference and candidate outputs, sample by sample → ``Figures``; sums of each sample are kept, arrays are not.

The figures of an output are those of its worst sample. A sample that is nearly silent demands nothing impossible: with S its Σ ref² over
n elements, N its Σ (ref − x)², and E the output's mean of ref² over all elements of all samples,

    SQNR = 10·log₁₀(max(S, n·E·10⁻⁴) / N)

and what S lacks to that floor counts in the cosine as a part that is equal; the largest |ref| of a sample counts for ``max_rel`` as at
least a hundredth of the largest of all. ``entries`` has the rule for axes whose entries live on different scales.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fp16fix.errors import ModelError
from fp16fix.verdict.channels import PLAIN, Channels
from fp16fix.verdict.entries import SILENCE, AxisSums, judged, sums_along
from fp16fix.verdict.verdict import Figures, SampleFigures, badness

CHUNK = 1 << 18
"""Elements widened to float64 at a time: 2 MiB an array, whatever the size of the output."""


@dataclass(slots=True)
class Sums:
    """One output in one sample, in float64; values up to 1e150 square without overflow there."""

    sample: str
    signal: float = 0.0
    """Σ ref²."""
    noise: float = 0.0
    """Σ (ref − x)²."""
    cross: float = 0.0
    """Σ ref·x."""
    energy: float = 0.0
    """Σ x²."""
    largest: float = 0.0
    """max |ref|."""
    max_abs: float = 0.0
    compared: int = 0
    """Elements finite in both, or compared for equality."""
    excluded: int = 0
    """Elements not finite in the reference, and the same in the candidate."""
    lost: int = 0
    mismatches: int = 0
    near_ties: int = 0
    axes: dict[int, AxisSums] = field(default_factory=dict)
    """By axis, counted from the last one as −1."""

    def add(self, reference: np.ndarray, candidate: np.ndarray) -> None:
        """Floats of one shape, compared in float64."""
        ref, x = reference.reshape(-1), candidate.reshape(-1)
        for start in range(0, ref.size, CHUNK):
            self._chunk(ref[start : start + CHUNK].astype(np.float64), x[start : start + CHUNK].astype(np.float64))

    def equal(self, reference: np.ndarray, candidate: np.ndarray, tied: np.ndarray | None) -> None:
        """Integers, booleans or strings of one shape, compared for equality; those that differ in a tie are counted apart."""
        self.compared += reference.size
        differ = reference != candidate
        ties = 0 if tied is None else int(np.count_nonzero(differ & tied))
        self.near_ties += ties
        self.mismatches += int(np.count_nonzero(differ)) - ties

    def _chunk(self, ref: np.ndarray, x: np.ndarray) -> None:
        both = np.isfinite(ref) & np.isfinite(x)
        if not both.all():
            same = alike(ref[~both], x[~both])
            self.excluded += same
            self.lost += int(np.count_nonzero(~both)) - same
            ref, x = ref[both], x[both]
        if not ref.size:
            return
        difference = ref - x
        self.compared += ref.size
        self.signal += float(ref @ ref)
        self.noise += float(difference @ difference)
        self.cross += float(ref @ x)
        self.energy += float(x @ x)
        self.largest = max(self.largest, float(np.abs(ref).max()))
        self.max_abs = max(self.max_abs, float(np.abs(difference).max()))

    def figures(self, mean: float, loudest: float) -> SampleFigures:
        """What the sums say; ``sqnr_db`` is NaN where there were values and none of them finite.

        Args:
            mean: of ref², over all samples.
            loudest: the largest |ref| of all samples.
        """
        lacking = max(0.0, SILENCE * mean * self.compared - self.signal)
        sqnr_db = decibels(self.signal + lacking, self.noise)
        if not self.compared and (self.lost or self.excluded):
            sqnr_db = -math.inf if self.lost else math.nan
        largest = max(self.largest, math.sqrt(SILENCE) * loudest)
        return SampleFigures(
            sample=self.sample,
            sqnr_db=sqnr_db,
            max_abs=self.max_abs,
            max_rel=self.max_abs / largest if largest else (0.0 if self.max_abs == 0.0 else math.inf),
            cosine=self._cosine(lacking),
            lost=self.lost,
            mismatches=self.mismatches,
            excluded=self.excluded,
            near_ties=self.near_ties,
        )

    def _cosine(self, lacking: float) -> float:
        """1 for equal zeros, 0 where only one side is zero; rounding never takes it out of [−1, 1]."""
        scale = math.sqrt(self.signal + lacking) * math.sqrt(self.energy + lacking)
        if scale == 0.0:
            return 1.0 if self.noise == 0.0 else 0.0
        return max(-1.0, min(1.0, (self.cross + lacking) / scale))


class Accumulator:
    """One output over all samples."""

    def __init__(self, channels: Channels = PLAIN, names: Sequence[str] = ()) -> None:
        """Nothing yet; ``names`` are those of the samples in order."""
        self.channels = channels
        self.names = names
        self.samples: list[Sums] = []

    def add(self, reference: Any, candidate: Any, tied: np.ndarray | None = None) -> None:
        """One sample: arrays of one shape. Integers and booleans are compared for equality, floats in float64.

        Raises:
            ModelError: shapes differ, so the two do not compute the same thing.
        """
        reference, candidate = np.asarray(reference), np.asarray(candidate)
        if reference.shape != candidate.shape:
            raise ModelError(
                f"an output has shape {candidate.shape} where the reference has {reference.shape}", hint="compare two versions of one model"
            )
        sums = self._begin()
        if not is_float(reference):
            sums.equal(reference, candidate, tied)
            return
        sums.add(reference, candidate)
        for each in self.channels.axes:
            along = sums_along(reference, candidate, each.axis)
            if along is not None:
                sums.axes[each.axis] = along

    def lose(self, reference: Any, candidate: Any) -> None:
        """One sample whose shapes differ because they depend on the data (boxes that survive NMS): all of it counts as wrong."""
        reference = np.asarray(reference)
        sums = self._begin()
        if is_float(reference):
            sums.add(reference, np.zeros_like(reference))
        sums.mismatches += max(reference.size, np.asarray(candidate).size)

    def figures(self, output: str) -> Figures:
        """What the sums say so far."""
        total = sum(each.compared for each in self.samples)
        mean = sum(each.signal for each in self.samples) / total if total else 0.0
        loudest = max((each.largest for each in self.samples), default=0.0)
        found = [each.figures(mean, loudest) for each in self.samples]
        together: list[SampleFigures] = []
        for along in self.channels.axes:
            rows = [each.axes[along.axis] for each in self.samples if along.axis in each.axes]
            if rows and len(rows) == len(self.samples):
                single, pooled = judged(rows, along.parts, probabilities=self.channels.probabilities)
                found = [lower(each, *worse) for each, worse in zip(found, single, strict=True)] if single else found
                together += [lower(silent(""), *pooled)] if pooled else []
        return collected(output, found, together)

    def _begin(self) -> Sums:
        number = len(self.samples)
        self.samples.append(Sums(self.names[number] if number < len(self.names) else str(number)))
        return self.samples[-1]


def lower(figures: SampleFigures, sqnr_db: float, entry: Any) -> SampleFigures:
    """The figures of a sample in which an entry may be worse than the whole."""
    return replace(figures, sqnr_db=sqnr_db, entry=entry) if sqnr_db < figures.sqnr_db else figures


def silent(sample: str) -> SampleFigures:
    """No error at all."""
    return SampleFigures(sample, math.inf, 0.0, 0.0, 1.0)


def collected(output: str, samples: list[SampleFigures], together: list[SampleFigures]) -> Figures:
    """The worst of every figure.

    Args:
        output: its name.
        samples: one each.
        together: of entries that take all samples together.
    """
    known = [each for each in (*samples, *together) if not math.isnan(each.sqnr_db)]
    least = min(known, key=lambda each: each.sqnr_db, default=None)
    return Figures(
        output=output,
        sqnr_db=least.sqnr_db if least is not None else math.nan if samples else math.inf,
        max_abs=max((each.max_abs for each in samples), default=0.0),
        max_rel=max((each.max_rel for each in samples), default=0.0),
        cosine=min((each.cosine for each in samples), default=1.0),
        lost=sum(each.lost for each in samples),
        mismatches=sum(each.mismatches for each in samples),
        excluded=sum(each.excluded for each in samples),
        near_ties=sum(each.near_ties for each in samples),
        sample=min(samples, key=badness).sample if samples else "",
        entry=least.entry if least is not None else None,
        samples=tuple(samples),
    )


def alike(ref: np.ndarray, x: np.ndarray) -> int:
    """Elements, not finite in one of them at least, that are NaN in both or the same infinity."""
    return int(np.count_nonzero((ref == x) | (np.isnan(ref) & np.isnan(x))))


def is_float(array: np.ndarray) -> bool:
    """Whether an array holds floating-point numbers; bfloat16 calls itself void."""
    return array.dtype.kind in "fV"


def decibels(signal: float, noise: float) -> float:
    """10·log₁₀(signal / noise); inf without noise, −inf with noise and no signal."""
    if noise == 0.0:
        return math.inf
    return 10.0 * (math.log10(signal) - math.log10(noise)) if signal > 0.0 else -math.inf


class Comparison:
    """Accumulators for all outputs of a model."""

    def __init__(self, channels: Mapping[str, Channels] | None = None, names: Sequence[str] = ()) -> None:
        """Compare nothing yet.

        Args:
            channels: by output, which axes may hold mixed units (``channels_of`` the reference); none are looked at without.
            names: of the samples, in the order in which they will come; numbers without.
        """
        self._channels = channels or {}
        self._names = names
        self._outputs: dict[str, Accumulator] = {}

    def add(
        self,
        reference: Mapping[str, Any],
        candidate: Mapping[str, Any],
        tied: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """One sample's outputs by name; outputs that only the candidate has are ignored.

        Args:
            reference: what is right.
            candidate: what is compared with it.
            tied: by integer or boolean output, the elements that FP32 decides by less than FP16's spacing.

        Raises:
            ModelError: an output of the reference is missing, or has another rank.
        """
        for name, value in reference.items():
            if name not in candidate:
                raise ModelError(
                    f"has no output {name!r}", where="candidate", hint=f"its outputs: {', '.join(sorted(candidate)) or 'none'}"
                )
            expected, found = np.shape(value), np.shape(candidate[name])
            if name not in self._outputs:
                self._outputs[name] = Accumulator(self._channels.get(name, PLAIN), self._names)
            accumulator = self._outputs[name]
            if expected == found:
                accumulator.add(value, candidate[name], (tied or {}).get(name))
            elif len(expected) == len(found):
                accumulator.lose(value, candidate[name])
            else:
                raise ModelError(
                    f"has shape {found} where the reference has {expected}",
                    where=f"output {name!r}",
                    hint="compare two versions of one model",
                )

    def lose(self, reference: Mapping[str, Any]) -> None:
        """One sample on which the candidate fails: every output of it is wrong."""
        for name, value in reference.items():
            held = self._outputs.setdefault(name, Accumulator(self._channels.get(name, PLAIN), self._names))
            held.lose(value, ())

    def with_one(self, number: int, other: Comparison) -> Comparison:
        """The same with one sample as another comparison, of that sample alone, has it: what all samples are measured by stays."""
        found = Comparison(self._channels, self._names)
        for name, held in self._outputs.items():
            found._outputs[name] = copy = Accumulator(held.channels, held.names)
            copy.samples = [*held.samples[:number], *other._outputs[name].samples, *held.samples[number + 1 :]]
        return found

    def figures(self) -> tuple[Figures, ...]:
        """One ``Figures`` an output, in the order they were first seen."""
        return tuple(accumulator.figures(name) for name, accumulator in self._outputs.items())
