"""The whole tool on one screen: Config → study → draft → proven graph → engine → ``Outcome``, and files that appear last."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fp16fix import engine
from fp16fix.attempts import attempts, refuse_search
from fp16fix.build import Built
from fp16fix.config import Config
from fp16fix.deliver import PLANS, deliver, products_for
from fp16fix.graph.load import load, read
from fp16fix.profiles import declared, in_files, refuse_uncovered, refuse_unfit
from fp16fix.progress import Silent, Stages, Watcher
from fp16fix.report.outcome import Outcome
from fp16fix.settle import settle
from fp16fix.strict.oracle import StrictOracle
from fp16fix.study import Arrays, Study, samples_for, study
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
    refuse_search(config)
    if products.plan is not None:
        config = engine.ready(config)
    found = study(config, stages)
    if products.plan is not None and not in_files(config):
        refuse_uncovered(config, Arrays(found.samples))
    with attempts(found, stages) as tries, tempfile.TemporaryDirectory(prefix="fp16fix-") as scratch:
        draft, proven = settle(tries, stages)
        onnx_path = Path(scratch) / products.onnx.name
        made = engine.make(tries, draft, proven, onnx_path, stages, plan=products.plan is not None)
        outcome = summarise(found, made.draft, made.proven, made.facts, stages, command)
        return deliver(outcome, products, onnx_path)


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


def verify(config: Config, candidate: Path | str, watcher: Watcher | None = None) -> Verdict:
    """A mixed-precision ONNX file against the FP32 model, strictly; or a plan, by running it on the GPU; over all samples.

    Raises:
        InputError: either model or the samples.
        BackendError: a plan, and no engine can run here, or this one does not.
    """
    stages, candidate = Stages(watcher or Silent()), Path(candidate)
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
