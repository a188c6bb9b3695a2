"""The whole tool on one screen: Config → study → draft → proven graph → engine → ``Outcome``, and files that appear last."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fp16fix import engine
from fp16fix.build import Built
from fp16fix.config import Config
from fp16fix.deliver import PLANS, deliver, products_for
from fp16fix.diagnose.hazard import Hazard
from fp16fix.graph.load import load, read
from fp16fix.graph.model import Model
from fp16fix.profiles import declared, in_files, refuse_uncovered, refuse_unfit
from fp16fix.progress import Silent, Stages, Watcher
from fp16fix.prove import prove
from fp16fix.repair.design import Design, Draft, Options
from fp16fix.report.outcome import Outcome
from fp16fix.strict.oracle import StrictOracle
from fp16fix.study import Arrays, Study, acquitted, samples_for, study
from fp16fix.summary import summarise
from fp16fix.trial import refuse_unrunnable, verdict_of
from fp16fix.verify.verdict import Verdict


def analyse(config: Config, watcher: Watcher | None = None) -> Study:
    """What is wrong with a model under FP16, and what only looks wrong; nothing is changed.

    Raises:
        InputError: the model, the samples or the config.
    """
    return study(config, Stages(watcher or Silent()))


def repair(config: Config, watcher: Watcher | None = None, command: Sequence[str] = ()) -> Outcome:
    """Find, repair, build, verify, report; see DESIGN's data flow in the README.

    Files appear at ``config.output`` and beside it only at the end, and the product itself only if the verdict passes (or
    ``config.keep_unverified`` asks for it under another name).

    Raises:
        InputError: the model, the samples or the config.
        BackendError: a plan was asked for and TensorRT is missing or failed.
    """
    stages = Stages(watcher or Silent())
    products = products_for(config)
    if products.plan is not None:
        config = engine.ready(config)
    found = study(config, stages)
    if products.plan is not None and not in_files(config):
        refuse_uncovered(config, Arrays(found.samples))
    draft = design(found, stages)
    proven = prove(found, draft, stages)
    if not proven.verdict.verified and draft.recipe.exponents:
        # Exponents trade the small end of a stream for its large one; where that fails, islands alone may not.
        other = design(found, stages, rescale=False)
        second = prove(found, other, stages)
        if second.verdict.verified:
            draft, proven = other, second
    with tempfile.TemporaryDirectory(prefix="fp16fix-") as scratch:
        onnx_path = Path(scratch) / products.onnx.name
        made = engine.make(found, draft, proven, onnx_path, stages, plan=products.plan is not None)
        outcome = summarise(found, made.draft, made.proven, made.facts, stages, command)
        return deliver(outcome, products, onnx_path)


def design(found: Study, stages: Stages, *, rescale: bool = True) -> Draft:
    """Rules, exponents, islands."""
    config = found.config
    options = Options(
        headroom=config.headroom,
        only_exact=config.only_exact,
        wide=config.wide,
        pin=config.pin,
        allow=config.allow,
        pessimistic=config.profile == "pessimistic",
        threads=config.threads,
        rescale=rescale,
    )

    def acquit(model: Model, hazards: Sequence[Hazard]) -> dict[Hazard, str]:
        return acquitted(model, hazards, found.calibration, config.threads)

    with stages.stage("design repairs"):
        return Design(found.model, found.ranges, found.calibration, options, acquit).draft(found.hazards, found.proofs)


def build_plan(model: Path, output: Path, config: Config, watcher: Watcher | None = None) -> Built:
    """A plan from a graph that carries its types, as it is.

    Raises:
        ModelError: no such file, or not ONNX.
        BackendError: TensorRT is missing or failed.
    """
    stages = Stages(watcher or Silent())
    refuse_unfit(config, declared(model))
    with stages.stage("check"):
        read(model)
    return engine.watched(model, output, engine.build_options(config), stages)


def verify(config: Config, candidate: Path, watcher: Watcher | None = None) -> Verdict:
    """A mixed-precision ONNX file against the FP32 model, strictly; or a plan, by running it on the GPU; over all samples.

    Raises:
        InputError: either model or the samples.
        BackendError: a plan, and no engine can run here, or this one does not.
    """
    stages = Stages(watcher or Silent())
    if candidate.suffix in PLANS:
        return verify_plan(config, candidate, stages)
    with stages.stage("load"):
        reference = load(config.model or Path(), simplified=False)
        typed = load(candidate, simplified=False, widened=False)
        given = samples_for(config, reference)
        samples = [sample.arrays for sample in given]
    with (
        StrictOracle(reference, samples, config.tolerance.of, threads=config.threads) as oracle,
        stages.stage("strict run", len(samples)) as tick,
    ):
        verdict = oracle.verdict(typed, profile=config.profile, tick=tick)
        return replace(verdict, oracle="strict, on made-up inputs") if given.made_up else verdict


def verify_plan(config: Config, plan: Path, stages: Stages) -> Verdict:
    """An engine against the FP32 model on the GPU of this machine. Raises as ``verify``."""
    refuse_unrunnable(plan)
    with stages.stage("load"):
        reference = load(config.model or Path(), simplified=False)
        samples = Arrays(samples_for(config, reference))
    with stages.stage("run engine", len(samples)):
        return verdict_of(config, plan, reference, samples, config.build.backend)
