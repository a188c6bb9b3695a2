"""A plan that was just built → the engine's own verdict and latency, where the GPU of this machine can run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp16fix.engines import Built
from fp16fix.engines.execute import latency
from fp16fix.engines.gpu import gpu_status
from fp16fix.errors import BuildError
from fp16fix.oracles.engine import executable, verdict_of
from fp16fix.passes.evidence import Evidence
from fp16fix.progress import Stages
from fp16fix.report.outcome import EngineFacts, Timing
from fp16fix.tasks.rivals import REPAIRED, Rival


def runs_here(built: Built) -> bool:
    """Whether the GPU of this machine, if there is one, is what a plan was built for."""
    return executable() and (not built.targets or gpu_status().capabilities[0] in built.targets)


def executed(found: Evidence, built: Built, facts: EngineFacts, others: Sequence[Rival], stages: Stages) -> EngineFacts:
    """The facts with the engine's own verdict and latencies, where this machine's GPU can run it.

    A plan that was built for this GPU and does not run is a problem of the outcome, not an error.
    """
    if not executable():
        return facts
    if found.model.opaque.nodes:
        said = f"The plan was not run: {found.model.opaque.named} is computed by its plugin there, and FP32 is not known of it."
        return replace(facts, warnings=(*facts.warnings, said))
    if not runs_here(built):
        here = gpu_status().capabilities[0]
        said = f"The plan was built for {', '.join(built.targets)} and not run: the GPU here is {here} (--target {here})."
        return replace(facts, warnings=(*facts.warnings, said))
    try:
        with stages.stage("run engine", len(found.judged)):
            verdict = verdict_of(found.config, built.plan, found.model, found.judged, built.backend, found.judged.names)
        timings = timed(found, built, others, stages)
    except BuildError as error:
        return replace(facts, problems=(*facts.problems, f"the engine does not run on the GPU of this machine: {error.what}"))
    return replace(facts, status="executed", verdict=verdict, latency=timings)


def timed(found: Evidence, built: Built, others: Sequence[Rival], stages: Stages) -> tuple[Timing, ...]:
    """Latency of the repaired engine, and of those beside it."""
    sample, plans = found.judged[0], {REPAIRED: built.plan, **{each.name: each.built.plan for each in others}}
    timings = []
    with stages.stage("latency", len(plans)) as tick:
        for name, plan in plans.items():
            seen = latency(plan, sample, backend=built.backend)
            timings.append(Timing(name, seen.median_ms, seen.p10_ms, seen.p90_ms))
            tick()
    return tuple(timings)
