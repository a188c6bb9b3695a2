"""Strict emulation as an oracle: a typed graph is run with real FP16 rounding on samples, against the FP32 model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import numpy as np

from fp16fix.config import Config
from fp16fix.errors import ModelError
from fp16fix.graph.model import Model
from fp16fix.graph.random import random_nodes
from fp16fix.graph.session import Session
from fp16fix.oracles.oracle import Score, scored
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.recipe import Recipe
from fp16fix.passes.workshop import Workshop
from fp16fix.progress import Tick
from fp16fix.strict.emulate import emulate
from fp16fix.verdict.channels import channels_of
from fp16fix.verdict.gates import Tolerance, judge, shaken
from fp16fix.verdict.metric import Metric, measured
from fp16fix.verdict.metrics import Comparison
from fp16fix.verdict.verdict import Figures, Verdict

Sample = Mapping[str, np.ndarray]
SEARCHED = 1
"""Seeds that a candidate of a search is shaken with; the final verdict has them all."""


class StrictOracle:
    """Reference outputs are computed once and kept on disk, so that memory does not grow with the samples."""

    def __init__(
        self,
        reference: Model,
        samples: Iterable[Sample],
        tolerance: Tolerance,
        *,
        names: Sequence[str] = (),
        metrics: Sequence[type[Metric]] = (),
        threads: int = 0,
        tick: Tick = lambda: None,
    ) -> None:
        """Run the reference.

        Args:
            reference: FP32.
            samples: re-iterable.
            tolerance: what counts as right.
            names: of the samples, for the figures.
            metrics: what else a verdict must pass.
            threads: ONNX Runtime threads.
            tick: called after each sample.

        Raises:
            ModelError: ONNX Runtime refuses the reference or it fails on a sample.
        """
        self.reference = reference
        self.tolerance = tolerance
        self.metrics = metrics
        self.threads = threads
        self.calls = 0
        self.failures: list[str] = []
        """What ONNX Runtime said where the last candidate did not run."""
        self.samples: tuple[Iterable[Sample], ...] = ()
        self.names: tuple[str, ...] = ()
        self.outputs: tuple[str, ...] = ()
        self.channels = channels_of(reference)
        self.draws = bool(random_nodes(reference))
        self._folder = tempfile.TemporaryDirectory(prefix="fp16fix-")
        self.count = 0
        self.extend(samples, names, tick)

    def extend(self, samples: Iterable[Sample], names: Sequence[str] = (), tick: Tick = lambda: None) -> None:
        """From now on these samples are judged too.

        Raises:
            ModelError: ONNX Runtime refuses the reference or it fails on a sample.
        """
        session = Session(self.reference, threads=self.threads)
        self.outputs = tuple(sorted(session.outputs))
        for sample in samples:
            for index, (_, value) in enumerate(sorted(session.run(sample).items())):
                np.save(Path(self._folder.name) / f"{self.count}.{index}.npy", np.asarray(value))
            self.count += 1
            tick()
        self.samples, self.names = (*self.samples, samples), (*self.names, *names)

    def __enter__(self) -> StrictOracle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Forget the reference outputs."""
        self._folder.cleanup()

    def references(self) -> Iterator[dict[str, Any]]:
        """FP32 outputs by name, one sample after another."""
        for number in range(self.count):
            yield {name: np.load(Path(self._folder.name) / f"{number}.{index}.npy") for index, name in enumerate(self.outputs)}

    def figures(
        self,
        candidate: Model,
        *,
        strict: bool = True,
        profile: str = "engine",
        jitter: int | None = None,
        metrics: Sequence[Metric] = (),
        tick: Tick = lambda: None,
    ) -> tuple[Figures, ...]:
        """Figures of every output of a typed graph (or, not ``strict``, of an FP32 graph run as it is); ``jitter``: see ``emulate``.

        ``metrics`` are told of every sample.
        """
        self.calls += 1
        self.failures = []
        graph = emulate(candidate, profile, jitter) if strict else candidate
        session, comparison, references = Session(graph, threads=self.threads), Comparison(self.channels, self.names), self.references()
        for number, samples in enumerate(self.samples):
            if number and self.draws:
                # The reference began its random numbers anew here.
                session = Session(graph, threads=self.threads)
            for sample in samples:
                exact = next(references)
                try:
                    found = session.run(sample)
                except ModelError as error:
                    # An index past its table, rows that do not fit: the candidate is damaged, and that is all.
                    comparison.lose(exact)
                    self.failures.append(error.what)
                else:
                    own = {name: found[name] for name in self.outputs}
                    comparison.add(exact, own)
                    for metric in metrics:
                        metric.add(exact, own)
                tick()
        return comparison.figures()

    def verdict(self, candidate: Model, *, profile: str = "engine", jitter: int = 0, tick: Tick = lambda: None) -> Verdict:
        """Pass or fail against the tolerance.

        Args:
            candidate: a typed graph.
            profile: see ``emulate``.
            jitter: with how many seeds a candidate that passes is shaken, which it must survive (``gates.shaken``).
            tick: called after each sample of each run.
        """
        metrics = [kind() for kind in self.metrics]
        figures = self.figures(candidate, profile=profile, metrics=metrics, tick=tick)
        verdict = measured(judge(figures, self.tolerance, "strict", profile, self.count), metrics)
        if self.failures:
            said = f"the candidate fails on {len(self.failures)} of {self.count} samples, first as follows: {self.failures[0]}"
            verdict = replace(verdict, reasons=(*verdict.reasons, said))
        for seed in range(1, jitter + 1):
            if not verdict.verified:
                return verdict
            figures = self.figures(candidate, profile=profile, jitter=seed, tick=tick)
            verdict = shaken(verdict, seed, figures, self.tolerance)
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
        return "strict FP16 emulation" if self.profile == "engine" else f"strict FP16 emulation, {self.profile} profile"

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
