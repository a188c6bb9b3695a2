"""Engines built and run on the GPU of this machine, as an oracle; a plan on disk → its own verdict, or a plain reason why not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np

from fp16fix.config import Config
from fp16fix.engines import build
from fp16fix.engines.compile import source_of
from fp16fix.engines.execute import can_execute, run
from fp16fix.errors import BackendMissingError, BuildError
from fp16fix.graph.model import Model
from fp16fix.graph.save import save_model
from fp16fix.graph.session import Session
from fp16fix.oracles.oracle import Score, scored
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.recipe import Recipe
from fp16fix.passes.workshop import Workshop
from fp16fix.verdict.channels import channels_of
from fp16fix.verdict.gates import judge
from fp16fix.verdict.gauged import metrics_named
from fp16fix.verdict.metric import measured
from fp16fix.verdict.metrics import Comparison
from fp16fix.verdict.verdict import Verdict

Sample = Mapping[str, np.ndarray]
INSTEAD = "do this where the GPU of the plan is, or verify the graph it was built from (repair leaves it beside the plan)"
"""What to do where no engine runs."""


def executable() -> bool:
    """Whether engines run here."""
    return can_execute()[0]


def refuse_unrunnable(what: Path | str, hint: str = INSTEAD) -> None:
    """Say at once, before anything is loaded, that no engine can run here.

    Args:
        what: the engine, or what else asks for one to run.
        hint: what to do instead.

    Raises:
        BackendMissingError: none can.
    """
    able, why = can_execute()
    if not able:
        raise BackendMissingError(
            f"this takes running an engine, and none can run here: {why}",
            where=str(what),
            hint=hint,
        )


def verdict_of(config: Config, plan: Path, reference: Model, samples: Sequence[Sample], backend: str, names: Sequence[str] = ()) -> Verdict:
    """An engine on this machine's GPU against the FP32 model; ``names`` are those of the samples.

    Raises:
        BackendMissingError: nothing here can run an engine.
        BuildError: the plan does not load or run.
        ConfigError: no profile of the plan covers a sample.
    """
    metrics = [make() for make in metrics_named(config.tolerance.metrics)]
    session, comparison = Session(reference, threads=config.threads, optimise=True), Comparison(channels_of(reference), names)
    for sample, outputs in zip(samples, run(plan, samples, backend=backend, timeout_s=config.build.timeout_s), strict=True):
        exact = session.run(sample)
        comparison.add(exact, outputs)
        for metric in metrics:
            metric.add(exact, outputs)
    return measured(judge(comparison.figures(), config.tolerance.of, "tensorrt", "engine", len(samples)), metrics)


class Engine:
    """Builds an engine for each recipe and runs it on all samples; one that does not build or run cannot be tested."""

    name: ClassVar[str] = "tensorrt"
    steady: ClassVar[bool] = False
    words: ClassVar[str] = "TensorRT engines on this machine's GPU"

    def __init__(self, evidence: Evidence, workshop: Workshop) -> None:
        self.evidence = evidence
        self.workshop = workshop

    @classmethod
    def refuse(cls, config: Config) -> None:
        """Raises BackendMissingError where no engine runs."""
        refuse_unrunnable(
            f"search.oracle: {config.search.oracle}", "leave the strict emulator as the oracle, or give --check 'command {model}'"
        )

    @classmethod
    @contextmanager
    def opened(cls, evidence: Evidence, workshop: Workshop) -> Iterator[Engine]:
        """Nothing is built yet."""
        yield cls(evidence, workshop)

    def ask(self, recipe: Recipe) -> Score:
        """Build, run, compare."""
        evidence, config, seen = self.evidence, self.evidence.config, self.evidence.judged
        with tempfile.TemporaryDirectory(prefix="fp16fix-engine-") as folder:
            path = Path(folder) / "model.onnx"
            save_model(self.workshop.typed(recipe), path)
            source, options = source_of(config, self.workshop.prepared(recipe), recipe.wide, path)
            try:
                built = build(source, path.with_suffix(".plan"), options)
                return scored(verdict_of(config, built.plan, evidence.model, seen, built.backend, seen.names))
            except BuildError as error:
                return Score(None, why=error.what)
