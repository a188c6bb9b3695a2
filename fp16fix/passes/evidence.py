"""Config → ``Evidence``: the model, its samples, what calibration saw, the hazards, and which of them are proven harmless."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property

import numpy as np

from fp16fix.config import Config
from fp16fix.errors import ConfigError, ModelError
from fp16fix.graph import quantised, random, safe
from fp16fix.graph.load import load
from fp16fix.graph.model import Model, tell_apart
from fp16fix.graph.opset import in_opset, with_forms
from fp16fix.graph.runtime import Runtime, use
from fp16fix.half import Base
from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard
from fp16fix.inputs.blend import Blends, blended
from fp16fix.inputs.load import load as load_samples
from fp16fix.inputs.made import make
from fp16fix.inputs.sample import Samples
from fp16fix.inputs.signature import signature, with_dims
from fp16fix.inputs.split import split
from fp16fix.inputs.stand_in import stand_in
from fp16fix.passes.apply import apply
from fp16fix.passes.blame import blaming
from fp16fix.passes.recipe import Recipe, plain
from fp16fix.passes.selecting import selected
from fp16fix.progress import Stages
from fp16fix.ranges.measure import measure
from fp16fix.ranges.range import Ranges
from fp16fix.trace.endless import endless, hanging
from fp16fix.trace.harmless import harmless

WITNESSES = 2
"""Samples that proofs of harmlessness are run on: each costs a pass of the whole model, and the verdict has the last word anyway."""


class Proofs(Mapping[Hazard, str]):
    """Harmless hazards, with the proof in a sentence; made when somebody asks."""

    def __init__(self, make: Callable[[], Mapping[Hazard, str]]) -> None:
        """Of what ``make`` will find."""
        self._make = make

    @cached_property
    def _made(self) -> Mapping[Hazard, str]:
        return self._make()

    def __getitem__(self, hazard: Hazard) -> str:
        return self._made[hazard]

    def __iter__(self) -> Iterator[Hazard]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


class Arrays(Sequence[Mapping[str, np.ndarray]]):
    """Samples as what a session takes; each is read when it is asked for."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:  # type: ignore[override]
        return self.samples[index].arrays

    @property
    def names(self) -> tuple[str, ...]:
        """Of the samples."""
        return tuple(entry.name for entry in self.samples.entries)

    def few(self, count: int) -> Arrays:
        """The first ``count``."""
        return Arrays(self.samples[:count])

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        for sample in self.samples:
            yield sample.arrays


def half_of_blends(config: Config, samples: Arrays) -> Blends:
    """The blends of those that searches ask, or, of other samples, those of all."""
    return blended(samples, samples.names, -(-config.blends // 2), config.seed + len(samples))


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything known of a model before anything is changed."""

    config: Config
    model: Model
    samples: Samples
    calibration: Arrays
    held_out: Arrays
    ranges: Ranges
    hazards: tuple[Hazard, ...]
    proofs: Proofs
    """Of the hazards."""
    joined: bool = False
    """Held-out samples have joined the search: ranges, hazards and proofs are of all."""

    @property
    def seen(self) -> Arrays:
        """The samples that ranges, hazards and proofs are of."""
        return self.judged if self.joined else self.calibration

    @property
    def plain(self) -> Recipe:
        """All-FP16, with the interface that the config asks for."""
        return plain(self.model.placed, self.config.interface, self.samples.apart, Base(self.config.precision))

    @property
    def judged(self) -> Arrays:
        """What the final verdict covers: calibration samples, then those held out."""
        if self.shared:
            return self.calibration
        entries = (*self.calibration.samples.entries, *self.held_out.samples.entries)
        return Arrays(replace(self.samples, entries=entries))

    def blaming(self) -> AbstractContextManager[None]:
        """For work on graphs made of the model: see ``passes.blame``."""
        return blaming(self.model, self.judged, self.config.threads)

    @property
    def shared(self) -> bool:
        """One sample serves both calibration and verdict."""
        return self.calibration.samples.shared


def equip(config: Config) -> None:
    """Let ONNX Runtime run in this process as the config wants it. Raises as ``graph.runtime.use`` and ``stand_in``."""
    use(Runtime(config.device, config.ort_libraries, {op: stand_in(spec) for op, spec in config.stand_ins.items()}))


def gather(config: Config, stages: Stages) -> Evidence:
    """Load, measure, diagnose, acquit.

    Raises:
        InputError: the model, the samples or the config.
    """
    if config.model is None:
        raise ConfigError("no model given", hint="name an .onnx file on the command line or as `model:` in the YAML")
    equip(config)
    with stages.stage("load"):
        model = load(config.model, simplified=config.simplify and not safe.is_on())
        model = in_opset(model, config.opset)
        model.narrow = config.narrow
        model = with_forms(model, config.opset)
        config = selected(config, model)
        samples = samples_for(config, model)
        calibration, held_out = split(samples, config.held_out)
    refuse_unknown_outputs(config, model)
    seen, tested = Arrays(calibration), Arrays(held_out)
    with stages.stage("measure ranges", len(seen)) as tick, blaming(model, seen, config.threads):
        ranges = measure(model, seen, threads=config.threads, tick=tick)
    refuse_nonfinite_outputs(model, ranges)
    with stages.stage("diagnose"), blaming(model, seen, config.threads):
        hazards = diagnosed(model, ranges, config, seen)
    return Evidence(config, model, samples, seen, tested, ranges, hazards, proven(model, hazards, seen, ranges, config.threads))


def with_held_out(found: Evidence, stages: Stages) -> Evidence:
    """The same with every sample looked at: those held out may have taken another branch, or be larger."""
    every, threads = found.judged, found.config.threads
    with stages.stage("measure ranges", len(every)) as tick:
        ranges = measure(found.model, every, threads=threads, tick=tick)
    with stages.stage("diagnose"):
        hazards = diagnosed(found.model, ranges, found.config, every)
    proofs = proven(found.model, hazards, every, ranges, threads)
    return replace(found, ranges=ranges, hazards=hazards, proofs=proofs, joined=True)


def diagnosed(model: Model, ranges: Ranges, config: Config, samples: Arrays) -> tuple[Hazard, ...]:
    """What ranges show, in graph order, and the Loops that all-FP16 does not end; how long they take in FP32 is noted in the model."""
    model.rounds = hanging(model, ranges.rounds)
    typed = apply(model, plain(model.placed, config.interface, base=Base(config.precision)))
    return (*diagnose(model, ranges, frozenset(model.placed)), *endless(model, typed, samples, config.threads))


def caveats(samples: Samples, model: Model) -> tuple[str, ...]:
    """What is weak about the inputs that everything rests on, and about comparing runs of this model at all."""
    return (*samples.caveats, *model.opaque.warnings(), *random.warnings_of(model), *quantised.warnings_of(model))


def refuse_unknown_outputs(config: Config, model: Model) -> None:
    """A bound for an output that does not exist would be a bound on nothing."""
    names = [tensor.name for tensor in model.graph.outputs]
    for name in config.tolerance.outputs:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"outputs are {', '.join(names)}"
            if name in model.opaque.lost:
                said = f"nothing here computes {model.opaque.named}, which gives output {name!r}"
                raise ConfigError(said, where="tolerance.outputs", hint=f"bound what that reads; {hint}")
            raise ConfigError(f"the model has no output {name!r}", where="tolerance.outputs", hint=hint)


def samples_for(config: Config, model: Model) -> Samples:
    """The user's samples, or made-up ones; names that the model gives to dimensions which differ are undone in it."""
    inputs = with_dims(signature(model), config.shapes)
    if config.inputs is None:
        return make(model, inputs, config.shapes, count=config.made, seed=config.seed)
    samples = load_samples(config.inputs, inputs, config.shapes)
    tell_apart(model, samples.apart)
    return samples


def proven(model: Model, hazards: Sequence[Hazard], samples: Arrays, ranges: Ranges, threads: int) -> Proofs:
    """The same, once somebody asks; a model that passes as it is needs none."""

    def make() -> Mapping[Hazard, str]:
        with blaming(model, samples, threads):
            return acquitted(model, hazards, samples, ranges, threads)

    return Proofs(make)


def acquitted(model: Model, hazards: Sequence[Hazard], samples: Arrays, ranges: Ranges, threads: int) -> dict[Hazard, str]:
    """Harmless hazards with their proofs in words."""
    found = harmless(model, hazards, samples.few(WITNESSES), ranges=ranges, threads=threads)
    return {hazard: proof.why for hazard, proof in found.items()}


def refuse_nonfinite_outputs(model: Model, ranges: Ranges) -> None:
    """FP32 that is itself NaN everywhere is not an FP16 problem."""
    for tensor in model.graph.outputs:
        seen = ranges.get(tensor.name)
        if seen is not None and seen.nonfinite and seen.low == seen.high == 0.0:
            raise ModelError(
                f"output {tensor.name!r} has no finite value in FP32 on these samples",
                where=model.name,
                hint="the fault is not FP16's: check the inputs' preprocessing or the export",
            )
