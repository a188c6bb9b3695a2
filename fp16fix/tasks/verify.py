"""A mixed-precision graph, or a plan, against the FP32 model → ``Verdict``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fp16fix.config import Config
from fp16fix.engines import PLANS
from fp16fix.graph.load import digest, load
from fp16fix.graph.lone import wide_products
from fp16fix.graph.loops import deciders
from fp16fix.graph.model import Model, element_type, tell_apart
from fp16fix.graph.operators import PRODUCTS
from fp16fix.half import FP16
from fp16fix.inputs.split import split
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.oracles.engine import refuse_unrunnable, verdict_of
from fp16fix.passes.evidence import Arrays, caveats, equip, half_of_blends, samples_for
from fp16fix.passes.place.share import formats, too_wide, wide_share
from fp16fix.process.memory import seldom_collected
from fp16fix.progress import Silent, Stages, Tick, Watcher
from fp16fix.ranges.measure import measure
from fp16fix.ranges.sizes import sizes
from fp16fix.search.accumulation import examined, held_to
from fp16fix.strict.profiles import profile_named
from fp16fix.strict.profiles.accumulate import Accumulate
from fp16fix.tasks.tf32 import profile_for
from fp16fix.verdict.gauged import metrics_named
from fp16fix.verdict.verdict import Verdict

CANDIDATE = "candidate"
"""What is measured of the file under test is kept under."""


@dataclass(frozen=True, slots=True)
class Digests:
    """What was compared, by SHA-256: files with what lies beside them, samples by content."""

    model: str
    candidate: str
    samples: str


@dataclass(frozen=True, slots=True)
class Compared:
    """A verdict, and of what."""

    verdict: Verdict
    digests: Digests


def verify(config: Config, candidate: Path | str, watcher: Watcher | None = None) -> Verdict:
    """As ``compared``, the verdict alone."""
    return compared(config, candidate, watcher).verdict


@seldom_collected()
def compared(config: Config, candidate: Path | str, watcher: Watcher | None = None) -> Compared:
    """A mixed-precision ONNX file against the FP32 model, strictly; or a plan, by running it on the GPU; over all samples.

    Raises:
        InputError: either model or the samples.
        BackendError: a plan, and no engine can run here, or this one does not.
    """
    stages, candidate = Stages(watcher or Silent()), Path(candidate)
    profile_named(config.profile, config.narrow)
    equip(config)
    metrics = metrics_named(config.tolerance.metrics)
    if candidate.suffix in PLANS:
        return verify_plan(config, candidate, stages)
    with stages.stage("load"):
        reference = load(config.model or Path(), simplified=False)
        typed = load(candidate, simplified=False, widened=False)
        given = samples_for(config, reference)
        # Nothing is built from it, so its names of dimensions serve nobody.
        tell_apart(typed, {dim for tensor in typed.graph.inputs for dim in tensor.shape or () if isinstance(dim, str)})
        samples = Arrays(given)
        rounds = counted(reference, samples, config.threads)
        typed.rounds = expected(typed, rounds)
    with (
        StrictOracle(reference, samples, config.tolerance.of, names=samples.names, metrics=metrics, threads=config.threads) as oracle,
        stages.stage("strict run", len(samples)) as tick,
    ):
        for part in (Arrays(split(given, config.held_out)[0]), samples):
            oracle.blend(half_of_blends(config, part), rounds)
        verdict = with_sums(config, oracle, typed, samples, as_built(config, oracle, typed, tick))
        verdict = within_share(config, verdict, typed, samples)
        oracle_name = "strict, on made-up inputs" if given.made_up else verdict.oracle
        verdict = replace(verdict, oracle=oracle_name, notes=(*caveats(given, reference), *verdict.notes))
    return Compared(verdict, Digests(reference.digest, typed.digest, given.digest()))


def counted(reference: Model, samples: Arrays, threads: int) -> Mapping[str, int]:
    """Rounds that FP32 takes in every Loop, at most."""
    loops = any(node.op == "Loop" for node in reference.nodes())
    return measure(reference, samples, threads=threads, details=False).rounds if loops else {}


def expected(typed: Model, rounds: Mapping[str, int]) -> dict[str, int]:
    """Rounds that every Loop that may not end in FP16 should take: as that of its name, or as any where none is called so."""
    loops = [node.name for node in typed.nodes() if node.op == "Loop" and deciders(node)]
    return {name: rounds.get(name, max(rounds.values(), default=0)) for name in loops}


def as_built(config: Config, oracle: StrictOracle, typed: Model, tick: Tick) -> Verdict:
    """With TF32 as a builder has it by default; where only that fails, the verdict says so."""
    on = config.build.tf32 is not False and bool(wide_products(typed))
    seeds = config.jitter
    verdict = oracle.verdict(typed, profile=profile_for(config) if on else config.profile, jitter=seeds, key=CANDIDATE, tick=tick)
    if not on or verdict.verified or not oracle.verdict(typed, profile=config.profile, jitter=seeds, key=CANDIDATE).verified:
        return verdict
    return replace(verdict, notes=(*verdict.notes, "With TF32 off (--no-tf32) it passes: FP32 products round their operands otherwise."))


def with_sums(config: Config, oracle: StrictOracle, typed: Model, samples: Arrays, verdict: Verdict) -> Verdict:
    """What kernels that add in FP16 would make of a graph that passes: said beside it, or why it fails (``strict_accumulation``)."""
    if not verdict.verified or config.profile == Accumulate.name or not adds_in_half(typed):
        return verdict
    found = examined(oracle, typed, samples, verdict, lambda: None, CANDIDATE).conditions
    notes = [f"Verified where products accumulate in FP32: {each.why}." for each in found]
    return replace(held_to(config, verdict, found), notes=(*verdict.notes, *notes))


def adds_in_half(typed: Model) -> bool:
    """Whether any product may hold its sums in FP16; BF16's are FP32, as TensorRT documents."""
    products = [node for node in typed.nodes() if node.op in PRODUCTS and node.outputs]
    return any(element_type(node.outputs[0]) == FP16.onnx for node in products)


def within_share(config: Config, verdict: Verdict, typed: Model, samples: Arrays) -> Verdict:
    """A graph that passes fails with too much in FP32, as one that ``repair`` makes."""
    if not verdict.verified:
        return verdict
    wide = formats(typed)
    why = too_wide(wide_share(typed, sizes(typed, samples[0]), wide), config.max_fp32_share, wide, config.narrow)
    return replace(verdict, verified=False, reasons=(*verdict.reasons, why)) if why else verdict


def verify_plan(config: Config, plan: Path, stages: Stages) -> Compared:
    """An engine against the FP32 model on the GPU of this machine. Raises as ``compared``."""
    refuse_unrunnable(plan)
    with stages.stage("load"):
        reference = load(config.model or Path(), simplified=False)
        samples = Arrays(samples_for(config, reference))
    with stages.stage("run engine", len(samples)):
        verdict = verdict_of(config, plan, reference, samples, config.build.backend, samples.names)
    verdict = replace(verdict, notes=(*caveats(samples.samples, reference), *verdict.notes))
    return Compared(verdict, Digests(reference.digest, digest({plan}), samples.samples.digest()))
