"""A proven graph → its plan and ``EngineFacts``: built with progress, and once more without Attention if that ends the builder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fp16fix.config import Config
from fp16fix.engines import BuildStoppedError, Built, check_pins
from fp16fix.engines.compile import build_options, source_of, watched
from fp16fix.graph.model import Model
from fp16fix.graph.save import save_model
from fp16fix.oracles.engine import executable
from fp16fix.passes.apply import rewritten
from fp16fix.passes.design import Draft
from fp16fix.passes.recipe import Edit
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules import rule
from fp16fix.progress import Stages
from fp16fix.report.outcome import Corner, EngineFacts
from fp16fix.search.prove import Proven, prove
from fp16fix.search.trials import Attempts
from fp16fix.tasks.corners import corners
from fp16fix.tasks.execute import executed

ATTENTION = "decompose-attention"


@dataclass(frozen=True, slots=True)
class Made:
    """What came of the build; draft and proof are new ones if the graph had to change for it."""

    draft: Draft
    proven: Proven
    facts: EngineFacts


def make(tries: Attempts, draft: Draft, proven: Proven, onnx_path: Path, stages: Stages, *, plan: bool) -> Made:
    """Save the typed graph; build, prove and run the plan beside it if one was asked for.

    Raises:
        BackendError: TensorRT is missing or failed.
    """
    save_model(proven.typed, onnx_path)
    found = tries.found
    config = found.config
    if not plan or not worth_building(config, proven):
        return Made(draft, proven, EngineFacts("not built"))
    warnings: tuple[str, ...] = ()
    try:
        built = compiled(config, draft, proven, onnx_path, stages)
    except BuildStoppedError as error:
        repairs = without_attention(draft, error, config.headroom)
        if not repairs:
            raise
        draft = replace(draft, model=rewritten(draft.model, repairs), recipe=replace(draft.recipe, finish=(*draft.recipe.finish, *repairs)))
        proven = prove(tries, draft, stages)
        save_model(proven.typed, onnx_path)
        if not worth_building(config, proven):
            return Made(draft, proven, EngineFacts("not built", warnings=(retold(error, repairs),)))
        built = compiled(config, draft, proven, onnx_path, stages)
        warnings = (retold(error, repairs),)
    facts = facts_of(built, proven.pins, corners(found, proven))
    facts = replace(facts, warnings=(*warnings, *facts.warnings))

    def rival(name: str, graph: Model) -> Path:
        path = onnx_path.with_name(f"{name}.{onnx_path.name}")
        save_model(graph, path)
        # Rivals carry their types; weak typing would need pins for FP32.
        options = replace(build_options(config), backend="strong" if built.backend == "weak" else built.backend)
        return watched(path, path.with_suffix(".plan"), options, stages, f"build {name} to compare").plan

    return Made(draft, proven, executed(found, built, facts, rival, stages))


def worth_building(config: Config, proven: Proven) -> bool:
    """An unverified graph is built only to be kept on request, or where a GPU can have the last word."""
    return proven.verdict.verified or config.keep_unverified or executable()


def compiled(config: Config, draft: Draft, proven: Proven, onnx_path: Path, stages: Stages) -> Built:
    """The plan beside the typed graph."""
    source, options = source_of(config, draft.model, proven.pins, onnx_path)
    return watched(source, onnx_path.with_suffix(".plan"), options, stages)


def without_attention(draft: Draft, error: BuildStoppedError, headroom: float) -> tuple[Edit, ...]:
    """Rewrites of the Attention nodes an ended build names; earlier the user's ``allow`` or the model's own types kept them."""
    if error.reason not in {"crash", "refused"}:
        return ()
    evidence = Findings(draft.model, draft.ranges, (), headroom)
    proposals = [each for each in rule(ATTENTION).propose(evidence) if isinstance(each, Edit) and each.node in error.nodes]
    return tuple(replace(each, because=f"the build ended over it; {each.because}") for each in proposals)


def retold(error: BuildStoppedError, repairs: Sequence[Edit]) -> str:
    """What happened, for the report."""
    nodes = ", ".join(repair.node for repair in repairs)
    first = error.what.splitlines()[0].split("; its last words")[0].rstrip(":")
    return f"The first build ended over Attention ({first}); it was repeated with {nodes} written out as MatMul, Softmax, MatMul."


def facts_of(built: Built, pins: Mapping[str, str], at: tuple[Corner, ...]) -> EngineFacts:
    """What was built, in the outcome's words; a corner that fails is a problem, whatever the mean over all samples says."""
    proof = built.proof
    lost = [
        f"profile {each.profile} at its {each.at} shapes: {reason}"
        for each in at
        if each.verdict is not None and not each.verdict.verified
        for reason in each.verdict.reasons
    ]
    return EngineFacts(
        status="built, not executed",
        backend=built.backend,
        version=built.backend_version,
        targets=built.targets,
        parse_s=round(built.parse_s, 3),
        build_s=round(built.build_s, 3),
        plan_bytes=built.plan_bytes,
        fp16_layers=proof.fp16_layers,
        fp32_layers=proof.fp32_layers,
        problems=(*check_pins(proof, dict(pins), [each.node for each in proof.nodes]), *lost),
        warnings=built.warnings,
        corners=at,
    )
