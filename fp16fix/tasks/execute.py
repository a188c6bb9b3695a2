"""A plan that was just built → the engine's own verdict and latency, where the GPU of this machine can run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fp16fix.engines import Built
from fp16fix.engines.execute import latency
from fp16fix.engines.gpu import gpu_status
from fp16fix.errors import BackendError, BuildError
from fp16fix.graph.model import Model
from fp16fix.oracles.engine import executable, verdict_of
from fp16fix.passes.apply import apply
from fp16fix.passes.evidence import Evidence
from fp16fix.progress import Stages
from fp16fix.report.outcome import EngineFacts, Timing

Rival = Callable[[str, Model], Path]
"""Name and graph of an engine to compare with → its plan."""
COMPARED = 3
"""Builds that a comparison of latencies takes: repaired, all-FP16, FP32."""


def executed(found: Evidence, built: Built, facts: EngineFacts, rival: Rival, stages: Stages) -> EngineFacts:
    """The facts with the engine's own verdict and latencies, where this machine's GPU can run it.

    A plan that was built for this GPU and does not run is a problem of the outcome, not an error.
    """
    if not executable():
        return facts
    here = gpu_status().capabilities[0]
    if built.targets and here not in built.targets:
        said = f"The plan was built for {', '.join(built.targets)} and not run: the GPU here is {here} (--target {here})."
        return replace(facts, warnings=(*facts.warnings, said))
    try:
        with stages.stage("run engine", len(found.judged)):
            verdict = verdict_of(found.config, built.plan, found.model, found.judged, built.backend, found.judged.names)
        timings, said_too = timed(found, built, rival, stages)
    except BuildError as error:
        return replace(facts, problems=(*facts.problems, f"the engine does not run on the GPU of this machine: {error.what}"))
    return replace(facts, status="executed", verdict=verdict, latency=timings, warnings=(*facts.warnings, *said_too))


def timed(found: Evidence, built: Built, rival: Rival, stages: Stages) -> tuple[tuple[Timing, ...], tuple[str, ...]]:
    """Latency of the repaired engine beside all-FP16 and FP32 ones, built for the comparison; and what could not be compared."""
    config, sample = found.config, found.judged[0]
    plans = {"repaired": built.plan}
    said: list[str] = []
    if config.search.builds >= COMPARED:
        for name, graph in (("all-FP16", apply(found.model, found.plain)), ("FP32", found.model)):
            try:
                plans[name] = rival(name, graph)
            except BackendError as error:
                said.append(f"No latency of {name}: {error.what.splitlines()[0]}")
    timings = []
    with stages.stage("latency", len(plans)) as tick:
        for name, plan in plans.items():
            seen = latency(plan, sample, backend=built.backend)
            timings.append(Timing(name, seen.median_ms, seen.p10_ms, seen.p90_ms))
            tick()
    return tuple(timings), tuple(said)
