"""The whole tool on one screen: Config → study → draft → proven graph → engine → ``Outcome``, and files that appear last."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from fp16fix.build import Built
from fp16fix.build import build as build_engine
from fp16fix.build.options import BuildOptions
from fp16fix.config import Config
from fp16fix.deliver import Products, deliver, engine_facts, products_for
from fp16fix.diagnose.hazard import Hazard
from fp16fix.graph.load import load, read
from fp16fix.graph.model import Model
from fp16fix.graph.save import save_model
from fp16fix.progress import Silent, Stages, Watcher
from fp16fix.prove import Proven, prove
from fp16fix.repair.design import Design, Draft, Options
from fp16fix.report.outcome import EngineFacts, Outcome
from fp16fix.strict.oracle import StrictOracle
from fp16fix.study import Study, acquitted, samples_for, study
from fp16fix.summary import summarise
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
    found = study(config, stages)
    draft = design(found, stages)
    proven = prove(found, draft, stages)
    with tempfile.TemporaryDirectory(prefix="fp16fix-") as scratch:
        onnx_path = Path(scratch) / products.onnx.name
        save_model(proven.typed, onnx_path)
        engine = engine_for(config, products, proven, onnx_path, stages)
        outcome = summarise(found, draft, proven, engine, stages, command)
        return deliver(outcome, products, onnx_path)


def design(found: Study, stages: Stages) -> Draft:
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
    )

    def acquit(model: Model, hazards: Sequence[Hazard]) -> dict[Hazard, str]:
        return acquitted(model, hazards, found.calibration, config.threads)

    with stages.stage("design repairs"):
        return Design(found.model, found.ranges, found.calibration, options, acquit).draft(found.hazards, found.proofs)


def engine_for(config: Config, products: Products, proven: Proven, onnx_path: Path, stages: Stages) -> EngineFacts:
    """Build the plan beside the scratch ONNX if one was asked for; an unverified graph is built only to be kept on request."""
    if products.plan is None or not (proven.verdict.verified or config.keep_unverified):
        return EngineFacts("not built")
    with stages.stage("build engine"):
        built = build_engine(onnx_path, onnx_path.with_suffix(".plan"), build_options(config))
    return engine_facts(built, proven.pins)


def build_options(config: Config) -> BuildOptions:
    """The ``build`` section as the backends take it."""
    section = config.build
    profiles = tuple({name: (r.min, r.opt, r.max) for name, r in profile.items()} for profile in section.profiles)
    return BuildOptions(
        backend=section.backend,
        targets=section.targets,
        profiles=profiles,
        workspace_mib=section.workspace_mib or 0,
        optimization_level=section.optimization_level,
        timing_cache=str(section.timing_cache or ""),
        version_compatible=section.version_compatible,
        hardware_compatible="ampere_plus" if section.hardware_compatible else "",
        refit=section.refit,
        strip_plan=section.strip_plan,
        tf32=section.tf32,
        plugins=tuple(str(path) for path in section.plugins),
        capability=section.capability,
        timeout_s=section.timeout_s,
        memory_mib=section.memory_mib or 0,
    )


def build_plan(model: Path, output: Path, config: Config, watcher: Watcher | None = None) -> Built:
    """A plan from a graph that carries its types, as it is.

    Raises:
        ModelError: no such file, or not ONNX.
        BackendError: TensorRT is missing or failed.
    """
    stages = Stages(watcher or Silent())
    with stages.stage("check"):
        read(model)
    with stages.stage("build engine"):
        return build_engine(model, output, build_options(config))


def verify(config: Config, candidate: Path, watcher: Watcher | None = None) -> Verdict:
    """A mixed-precision ONNX file against the FP32 model, strictly, over all samples.

    Raises:
        InputError: either model or the samples.
    """
    stages = Stages(watcher or Silent())
    with stages.stage("load"):
        reference = load(config.model or Path(), simplified=False)
        typed = load(candidate, simplified=False, widened=False)
        samples = [sample.arrays for sample in samples_for(config, reference)]
    with (
        StrictOracle(reference, samples, config.tolerance.of, threads=config.threads) as oracle,
        stages.stage("strict run", len(samples)) as tick,
    ):
        return oracle.verdict(typed, profile=config.profile, tick=tick)
