"""Strict emulation as an oracle: a typed graph is run with real FP16 rounding on samples, against the FP32 model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar

from fp16fix.config import Config
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.inputs.blend import Blends
from fp16fix.oracles.oracle import Score, scored
from fp16fix.oracles.reference import Reference, Sample
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.recipe import Recipe
from fp16fix.passes.workshop import Workshop
from fp16fix.progress import Tick
from fp16fix.strict.emulate import emulate
from fp16fix.strict.rounds import why_failed
from fp16fix.verdict.channels import channels_of
from fp16fix.verdict.gates import Tolerance, judge, stressed
from fp16fix.verdict.metric import Gauge, measured
from fp16fix.verdict.verdict import Figures, Verdict

BLENDED = "on inputs blended from those given"
SHAKEN = "under another kernel's rounding (jitter, seed {seed})"
SEARCHED = 1
"""Seeds that a candidate of a search is shaken with; the final verdict has them all."""


class StrictOracle:
    """A typed graph, strictly emulated, against the FP32 model, on samples and on blends of them."""

    def __init__(
        self,
        reference: Model,
        samples: Iterable[Sample],
        tolerance: Tolerance,
        *,
        names: Sequence[str] = (),
        metrics: Sequence[Callable[[], Gauge]] = (),
        threads: int = 0,
        tick: Tick = lambda: None,
    ) -> None:
        """Run the reference.

        Args:
            reference: FP32.
            samples: re-iterable.
            tolerance: what counts as right.
            names: of the samples, for the figures.
            metrics: make what else a verdict must pass.
            threads: ONNX Runtime threads.
            tick: called after each sample.

        Raises:
            ModelError: ONNX Runtime refuses the reference or it fails on a sample.
        """
        self.tolerance = tolerance
        self.metrics = metrics
        self.calls = 0
        self.channels = channels_of(reference)
        self.own, self.blends = Reference(reference, threads), Reference(reference, threads)
        self.own.extend(samples, names, tick)

    def extend(self, samples: Iterable[Sample], names: Sequence[str] = (), tick: Tick = lambda: None) -> None:
        """From now on these samples are judged too. Raises as ``Reference.extend``."""
        self.own.extend(samples, names, tick)

    def blend(self, blends: Blends, rounds: Mapping[str, int]) -> None:
        """From now on what passes is judged on these, too; arguments and errors are those of ``Reference.extend_by_blends``."""
        self.blends.extend_by_blends(blends, rounds)

    def __enter__(self) -> StrictOracle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Forget the reference outputs."""
        self.own.close()
        self.blends.close()

    @property
    def count(self) -> int:
        """Samples, blends apart."""
        return self.own.count

    def references(self) -> Iterator[dict[str, Any]]:
        """FP32 outputs by name, one sample after another."""
        return self.own.values()

    def figures(
        self,
        candidate: Model,
        *,
        strict: bool = True,
        profile: str = "compiled",
        jitter: int | None = None,
        tick: Tick = lambda: None,
    ) -> tuple[Figures, ...]:
        """Figures of every output of a typed graph (or, not ``strict``, of an FP32 graph run as it is); ``jitter``: see ``emulate``."""
        self.calls += 1
        graph = emulate(candidate, profile, jitter, guarded=True) if strict else candidate
        return self.own.figures(graph, self.channels, tick=tick)

    def verdict(self, candidate: Model, *, profile: str = "compiled", jitter: int = 0, tick: Tick = lambda: None) -> Verdict:
        """Pass or fail against the tolerance, and what passes on blends, and under jitter, until it fails.

        Args:
            candidate: a typed graph.
            profile: see ``emulate``.
            jitter: with how many seeds a candidate that passes is shaken, which it must survive (``gates.stressed``).
            tick: called after each sample of each run.
        """
        verdict = self._unshaken(candidate, profile, tick)
        for seed in range(1, jitter + 1):
            if not verdict.verified:
                return verdict
            figures = self.figures(candidate, profile=profile, jitter=seed, tick=tick)
            verdict = stressed(verdict, SHAKEN.format(seed=seed), self.count, figures, self.tolerance)
        return verdict

    def _unshaken(self, candidate: Model, profile: str, tick: Tick) -> Verdict:
        """On samples and, of what passes, on blends: one graph, opened once."""
        self.calls += 1
        graph, metrics = emulate(candidate, profile, guarded=True), [make() for make in self.metrics]
        session = Session(graph, threads=self.own.threads)
        figures = self.own.figures(graph, self.channels, session=session, metrics=metrics, tick=tick)
        verdict = measured(judge(figures, self.tolerance, "strict", profile, self.count), metrics)
        if self.own.failures:
            first = why_failed(graph, self.own.failures[0])
            said = f"the candidate fails on {len(self.own.failures)} of {self.count} samples, first as follows: {first}"
            verdict = replace(verdict, reasons=(*verdict.reasons, said))
        if verdict.verified and self.blends.count:
            figures = self.blends.figures(graph, self.channels, session=session, tick=tick)
            verdict = stressed(verdict, BLENDED, self.blends.count, figures, self.tolerance)
        return verdict


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
        return "strict FP16 emulation" if self.profile == "compiled" else f"strict FP16 emulation, {self.profile} profile"

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

    def verdict(self, recipe: Recipe) -> Verdict:
        """With every figure."""
        return self.strict.verdict(self.workshop.typed(recipe), profile=self.profile, jitter=self.jitter)
