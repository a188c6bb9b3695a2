"""Strict emulation as an oracle: a typed graph is run with real FP16 rounding on samples, against the FP32 model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, ClassVar

from fp16fix.config import Config
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.inputs.blend import Blends
from fp16fix.oracles.oracle import Probe, Score, scored
from fp16fix.oracles.reference import Opened, Reference, Run, Sample
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.recipe import Recipe
from fp16fix.passes.workshop import Workshop
from fp16fix.progress import Tick
from fp16fix.strict.certificate import Certificate, is_certified
from fp16fix.strict.emulate import emulate
from fp16fix.strict.jitter import Jitter
from fp16fix.strict.profiles.compiled import Compiled
from fp16fix.strict.rounds import why_failed
from fp16fix.trace.outside import in_both
from fp16fix.verdict.channels import channels_of
from fp16fix.verdict.condition import Bounded
from fp16fix.verdict.gates import Tolerance, judge, stressed
from fp16fix.verdict.metric import Gauge, measured
from fp16fix.verdict.metrics import Comparison
from fp16fix.verdict.verdict import Figures, Verdict

BLENDED = "on inputs blended from those given"
SHAKEN = "under another kernel's rounding (jitter, seed {seed})"
KEPT = 64
"""Runs whose figures are remembered: those of the last recipes."""
LIGHT = 1 << 27
"""Bytes of FP32 weights up to which graphs stay open in case they are asked again: opening them costs more than this memory."""
OPEN = 2
"""Candidates whose graphs stay open then: plain FP16, which is told of beside the answer, and the last."""
FIRST = 3
"""Graphs whose sums are bounded while they run: what a repair begins with is mostly what it ends with; a search has many more."""
SEARCHED = 1
"""Seeds that a candidate of a search is shaken with; the final verdict has them all."""


def nearest(verdict: Verdict) -> tuple[Probe, ...]:
    """See ``Score.nearest``."""
    kinds = {each.where: each.sample for each in verdict.stressed}
    found = [] if verdict.worst is None else [Probe(verdict.worst.decides)]
    found += [Probe(kinds[BLENDED], blended=True)] if BLENDED in kinds else []
    found += [Probe(kinds[where], seed=seed) for seed in range(1, len(kinds) + 1) if (where := SHAKEN.format(seed=seed)) in kinds]
    return tuple(found[::-1])


class StrictOracle:
    """A typed graph, strictly emulated, against the FP32 model, on samples and on blends of them."""

    def __init__(
        self,
        reference: Model | Reference,
        samples: Iterable[Sample],
        tolerance: Tolerance,
        *,
        names: Sequence[str] = (),
        metrics: Sequence[Callable[[], Gauge]] = (),
        threads: int = 0,
        along: bool = False,
        tick: Tick = lambda: None,
    ) -> None:
        """Run the reference.

        Args:
            reference: FP32, and what it gave on the samples that it has seen, if any.
            samples: re-iterable; more of them, of a reference that has seen some.
            tolerance: what counts as right.
            names: of the samples, for the figures.
            metrics: make what else a verdict must pass.
            threads: ONNX Runtime threads.
            along: graphs that stay open can be asked for all they compute, which must be little (``session_along``).
            tick: called after each sample.

        Raises:
            ModelError: ONNX Runtime refuses the reference or it fails on a sample.
        """
        self.tolerance = tolerance
        self.metrics = metrics
        self.calls = 0
        self.own = reference if isinstance(reference, Reference) else Reference(reference, threads)
        self.blends = Reference(self.own.model, self.own.threads, self.own.exact)
        self.channels = channels_of(self.own.model)
        self._runs: OrderedDict[tuple[object, ...], Run] = OrderedDict()
        self._open: OrderedDict[str, tuple[Opened, Opened]] = OrderedDict()
        self._certified: set[str] = set()
        """Of the ``FIRST``."""
        self._along = along
        self._probes: dict[tuple[str, bool], tuple[Reference, Comparison]] = {}
        """By sample, and whether it is a blend: that sample alone, and all as they are where a candidate makes no error."""
        self._is_light = self.own.model.weight() <= LIGHT
        if samples:
            self.own.extend(samples, names, tick)

    def extend(self, samples: Iterable[Sample], names: Sequence[str] = (), tick: Tick = lambda: None) -> None:
        """From now on these samples are judged too. Raises as ``Reference.extend``."""
        self._forget()
        self.own.extend(samples, names, tick)

    def blend(self, blends: Blends, rounds: Mapping[str, int]) -> None:
        """From now on what passes is judged on these, too; arguments and errors are those of ``Reference.extend_by_blends``."""
        self._forget()
        self.blends.extend_by_blends(blends, rounds)

    @contextmanager
    def alone(self, sample: str) -> Iterator[StrictOracle]:
        """The same of one of its samples, the first where none is called so, by tolerance alone."""
        with StrictOracle(self.own.alone(sample), (), self.tolerance) as other:
            yield other

    def __enter__(self) -> StrictOracle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Forget the reference outputs."""
        self._forget()
        self.own.close()
        self.blends.close()

    def _forget(self) -> None:
        """Whatever hangs on which samples there are."""
        for alone, _ in self._probes.values():
            alone.close()
        self._probes = {}

    @property
    def count(self) -> int:
        """Samples, blends apart."""
        return self.own.count

    def references(self) -> Iterator[dict[str, Any]]:
        """FP32 outputs by name, one sample after another."""
        return self.own.values()

    def figures(
        self, candidate: Model, *, strict: bool = True, profile: str = "compiled", key: str = "", tick: Tick = lambda: None
    ) -> tuple[Figures, ...]:
        """Figures of every output of a typed graph on samples; of an FP32 graph run as it is, not ``strict``. ``key``: see ``verdict``."""
        self.calls += 1
        exact = self.own.exact if candidate is self.own.model else Opened(lambda: candidate, self.own.threads)
        opened = self._pair(candidate, profile, key, bounded=False)[0] if strict else exact
        return self._run(self.own, opened, (key, profile if strict else "", None), (), tick).figures()

    def verdict(
        self,
        candidate: Model,
        *,
        profile: str = "compiled",
        jitter: int = 0,
        stress: bool = True,
        bounded: bool = True,
        key: str = "",
        tick: Tick = lambda: None,
    ) -> Verdict:
        """Pass or fail against the tolerance, and what passes on blends, and under jitter, until it fails.

        Args:
            candidate: a typed graph.
            profile: see ``emulate``.
            jitter: with how many seeds a candidate that passes is shaken, which it must survive (``gates.stressed``).
            stress: ask on blends and under jitter at all.
            bounded: let the passes bound its sums, too (``bounds``), if it is among the ``FIRST``; opening it takes half as long again.
            key: what is measured under a key is not measured again: asked again after ``extend``, it is run on what is new.
            tick: called after each sample of each run.
        """
        self.calls += 1
        (opened, shaken), metrics = self._pair(candidate, profile, key, bounded=bounded), [make() for make in self.metrics]
        run = self._run(self.own, opened, (key, profile, None), metrics, tick)
        verdict = measured(judge(run.figures(), self.tolerance, "strict", profile, self.count), run.metrics)
        if run.failures:
            first = why_failed(opened.graph, run.failures[0])
            said = f"the candidate fails on {len(run.failures)} of {self.count} samples, first as follows: {first}"
            verdict = replace(verdict, reasons=(*verdict.reasons, said))
        if stress and verdict.verified and self.blends.count:
            found = self._run(self.blends, opened, (key, profile, None), (), tick)
            verdict = stressed(verdict, BLENDED, self.blends.count, found.figures(), self.tolerance)
        if not self._is_light:
            opened.close()
        for shaken.seed in range(1, jitter + 1) if stress else ():
            if not verdict.verified:
                break
            self.calls += 1
            found = self._run(self.own, shaken, (key, profile, shaken.seed), (), tick)
            verdict = stressed(verdict, SHAKEN.format(seed=shaken.seed), self.count, found.figures(), self.tolerance)
        return verdict

    def probed(self, candidate: Model, probe: Probe, *, profile: str = "compiled", key: str = "") -> Verdict:
        """What a candidate's ``verdict`` would be if it were right on every other input, and never worse than that is.

        Args:
            candidate: a typed graph.
            probe: which input, and under what.
            profile: see ``emulate``.
            key: see ``verdict``.
        """
        reference = self.blends if probe.blended else self.own
        plain, shaken = self._pair(candidate, profile, key, bounded=False)
        shaken.seed = probe.seed
        opened = shaken if probe.seed else plain
        if probe.sample:
            figures, count = self._figures_of_one(reference, probe, opened), 1
        else:
            figures, count = self._run(reference, opened, (key, profile, probe.seed or None), (), lambda: None).figures(), reference.count
        right = Verdict(verified=True, oracle="strict", profile=profile, outputs=(), samples=count)
        if probe.blended:
            return stressed(right, BLENDED, count, figures, self.tolerance)
        if probe.seed:
            return stressed(right, SHAKEN.format(seed=probe.seed), count, figures, self.tolerance)
        return judge(figures, self.tolerance, "strict", profile, count)

    def _figures_of_one(self, reference: Reference, probe: Probe, opened: Opened) -> tuple[Figures, ...]:
        """With one input as a graph gives it, and every other one as it should be."""
        alone, faultless = self._probe(reference, probe)
        run = Run(self.channels, alone.names)
        self._advance(alone, run, opened)
        return faultless.with_one(reference.names.index(probe.sample), run.comparison).figures()

    def _probe(self, reference: Reference, probe: Probe) -> tuple[Reference, Comparison]:
        """What a probe of one input is run on and measured by."""
        place = probe.sample, probe.blended
        if place not in self._probes:
            faultless = next((held for (_, blended), (_, held) in self._probes.items() if blended == probe.blended), None)
            if faultless is None:
                faultless = Comparison(self.channels, reference.names)
                for exact in reference.values():
                    faultless.add(exact, exact)
            self._probes[place] = reference.alone(probe.sample), faultless
        return self._probes[place]

    def _pair(self, candidate: Model, profile: str, key: str, *, bounded: bool = True) -> tuple[Opened, Opened]:
        """The graph without and with random errors; those of the last keys stay open where they take little memory."""
        about = f"{key} {profile}"
        if about in self._open:
            self._open.move_to_end(about)
            return self._open[about]
        jitter = Jitter()
        make, threads = partial(emulate, candidate, profile, guarded=True), self.own.threads
        inner = partial(in_both, self.own.model) if key and self._is_light and self._along else nothing
        plain = Opened(make, threads, inner=inner, certificate=self._certificate(candidate, profile, key) if bounded else None)
        shaken = Opened(partial(make, jitter), threads, jitter)
        if key and self._is_light:
            self._open[about] = plain, shaken
            while len(self._open) > OPEN:
                self._open.popitem(last=False)
        return plain, shaken

    def _certificate(self, candidate: Model, profile: str, key: str) -> Certificate | None:
        """Of a graph that is among the first; a model that draws random numbers must not be run twice where bounds fail."""
        if not key or self.metrics or profile != Compiled.name or not is_certified(candidate) or self.own.draws:
            return None
        if len(self._certified) < FIRST:
            self._certified.add(key)
        return Certificate(candidate) if key in self._certified else None

    def bounds(self, key: str, profile: str) -> dict[str, Bounded] | None:
        """What is known of the sums in what was measured under a key, by norms, on all samples; None where that is not known."""
        run = self._runs.get((True, key, profile, None))
        return run.bounds if run is not None and run.bounded == self.own.count else None

    def session_along(self, key: str, profile: str) -> Session | None:
        """What computes a candidate and can be asked for all of it (``Session.run``); None where none is open."""
        found = self._open.get(f"{key} {profile}") if self._along else None
        return None if found is None else found[0].session(fresh=self.own.draws)

    def _run(self, reference: Reference, opened: Opened, about: tuple[object, ...], metrics: Sequence[Gauge], tick: Tick) -> Run:
        """On all samples of a reference; one that is kept goes on with those that are new. A metric is made for one verdict."""
        key, *_ = about
        kept, place = bool(key) and not metrics, (reference is self.own, *about)
        run = self._runs.get(place) if kept else None
        if run is None:
            run = Run(self.channels, reference.names, metrics)
        if kept:
            self._runs[place] = run
            self._runs.move_to_end(place)
            while len(self._runs) > KEPT:
                self._runs.popitem(last=False)
        self._advance(reference, run, opened, tick)
        return run

    def _advance(self, reference: Reference, run: Run, opened: Opened, tick: Tick = lambda: None) -> None:
        """``Reference.advance``; of a heavy model FP32 is closed before a candidate is opened."""
        if not self._is_light:
            self.own.exact.close()
        reference.advance(run, opened, tick)


def nothing(_: Model) -> tuple[str, ...]:
    """Outputs alone."""
    return ()


class Emulator:
    """Asks ``StrictOracle`` about recipes, under the profile that the config names."""

    name: ClassVar[str] = "strict"
    steady: ClassVar[bool] = True

    def __init__(self, strict: StrictOracle, workshop: Workshop, profile: str, jitter: int = 0) -> None:
        """Ready to be asked; ``jitter``: see ``StrictOracle.verdict``."""
        self.strict = strict
        self.workshop = workshop
        self.profile = profile
        self.jitter = jitter

    @property
    def words(self) -> str:
        """For the report."""
        said = f"strict {self.workshop.model.narrow} emulation"
        return said if self.profile == "compiled" else f"{said}, {self.profile} profile"

    @classmethod
    def refuse(cls, config: Config) -> None:
        """It can be asked anywhere."""

    @classmethod
    @contextmanager
    def opened(cls, evidence: Evidence, workshop: Workshop) -> Iterator[Emulator]:
        """Computes the FP32 reference on all samples: what must be wide is asked of each."""
        config, seen = evidence.config, evidence.judged
        with StrictOracle(evidence.model, seen, config.tolerance.of, names=seen.names, threads=config.threads) as strict:
            yield cls(strict, workshop, config.profile)

    def ask(self, recipe: Recipe) -> Score:
        """By its verdict."""
        return scored(self.verdict(recipe))

    def verdict(self, recipe: Recipe, *, stress: bool = True, bounded: bool = True) -> Verdict:
        """With every figure; see ``StrictOracle.verdict``."""
        typed = self.workshop.typed(recipe)
        return self.strict.verdict(typed, profile=self.profile, jitter=self.jitter, stress=stress, bounded=bounded, key=recipe.digest)

    def probe(self, recipe: Recipe, probe: Probe) -> Score:
        """Of one input of its verdict alone: see ``StrictOracle.probed``."""
        verdict = self.strict.probed(self.workshop.typed(recipe), probe, profile=self.profile, key=recipe.digest)
        figure = verdict.stressed[-1].sqnr_db if verdict.stressed else scored(verdict).figure
        return replace(scored(verdict), figure=figure)

    def scored(self, verdict: Verdict) -> Score:
        """With where it is nearest to failing; a model that draws random numbers draws others when one input is run by itself."""
        return replace(scored(verdict), nearest=() if self.strict.own.draws else nearest(verdict))
