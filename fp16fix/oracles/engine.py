"""A plan on disk → the engine's own verdict and latency, where the GPU of this machine can run it; else a plain reason why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fp16fix.config import Config
from fp16fix.engines.execute import can_execute, run
from fp16fix.errors import BackendMissingError
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.verdict.channels import channels_of
from fp16fix.verdict.gates import judge
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
    session, comparison = Session(reference, threads=config.threads), Comparison(channels_of(reference), names)
    for sample, outputs in zip(samples, run(plan, samples, backend=backend, timeout_s=config.build.timeout_s), strict=True):
        comparison.add(session.run(sample), outputs)
    return judge(comparison.figures(), config.tolerance.of, "tensorrt", "engine", len(samples))
