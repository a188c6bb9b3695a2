"""An answer → its plan and ``EngineFacts``: built with progress; where the builder ends over an operator, once more without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fp16fix.config import Config
from fp16fix.engines import BuildStoppedError, Built, check_pins
from fp16fix.engines.compile import source_of, watched
from fp16fix.engines.compiled import compiled, problems
from fp16fix.errors import ConfigError
from fp16fix.graph.model import Model
from fp16fix.graph.save import save_model
from fp16fix.oracles.engine import executable
from fp16fix.passes.design import Draft
from fp16fix.passes.recipe import Edit, Recipe
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules import answers_builder, rules
from fp16fix.progress import Stages
from fp16fix.report.outcome import Corner, EngineFacts
from fp16fix.search.accumulation import gated
from fp16fix.search.answer import Answer, judged, passing, with_less
from fp16fix.search.draft import extended
from fp16fix.search.trials import Trials
from fp16fix.tasks.corners import corners
from fp16fix.tasks.execute import executed, runs_here
from fp16fix.tasks.rivals import COMPARED, compared, wanted
from fp16fix.tasks.tf32 import OFF, allowed

AGAIN = 2
"""Builds that a second attempt takes."""


@dataclass(frozen=True, slots=True)
class Product:
    """What is delivered, and what is told of its engine; the answer is another one if the graph had to change for the builder."""

    answer: Answer
    typed: Model
    facts: EngineFacts


def refuse_no_builds(config: Config, *, plan: bool) -> None:
    """Say at once that a plan cannot come of no builds.

    Raises:
        ConfigError: ``search.builds`` is 0 and a plan was asked for, or less than a comparison takes.
    """
    if plan and config.build.compare and config.search.builds < COMPARED:
        hint = f"allow {COMPARED}, or leave build.compare out"
        raise ConfigError(f"a comparison takes {COMPARED} builds, {config.search.builds} are allowed", where="search.builds", hint=hint)
    if plan and not config.search.builds:
        hint = "allow one or more, or stop at the repaired graph with -o x.onnx"
        raise ConfigError("0 allows no engine build, and a plan was asked for", where="search.builds", hint=hint)


def graph_only(trials: Trials, answer: Answer, onnx_path: Path) -> Product:
    """Save the typed graph, and that is all."""
    typed = trials.typed(answer.recipe)
    save_model(typed, onnx_path)
    tf32 = allowed(trials, answer, typed)
    return Product(answer, typed, EngineFacts("not built", tf32=tf32, warnings=() if tf32 else (OFF,)))


def with_engine(trials: Trials, answer: Answer, onnx_path: Path, stages: Stages) -> Product:
    """Save the typed graph; build, check and run the plan beside it.

    Raises:
        BackendError: TensorRT is missing or failed.
    """
    config = trials.evidence.config
    product = graph_only(trials, answer, onnx_path)
    if not worth_building(config, answer):
        return product
    try:
        return built(trials, product, onnx_path, stages)
    except BuildStoppedError as error:
        edits = ways_around(answer.draft, error, config.headroom)
        if not edits or config.search.builds < AGAIN:
            raise
        product = graph_only(trials, changed(trials, answer, edits, stages), onnx_path)
        said = retold(error, edits)
        if worth_building(config, product.answer):
            product = built(trials, product, onnx_path, stages)
        return replace(product, facts=replace(product.facts, warnings=(said, *product.facts.warnings)))


def changed(trials: Trials, answer: Answer, edits: Sequence[Edit], stages: Stages) -> Answer:
    """An answer with more rewrites, searched anew."""
    draft = extended(trials.evidence, answer.draft, edits, stages)
    trials.workshop.keep(draft.recipe, draft.model, draft.ranges)
    found = passing(trials, draft, stages, tried="without what the builder ends over")
    return gated(trials, replace(judged(trials, with_less(trials, found, stages)), independent=answer.independent), stages)


def built(trials: Trials, product: Product, onnx_path: Path, stages: Stages) -> Product:
    """The plan beside the typed graph."""
    evidence, answer = trials.evidence, product.answer
    config, recipe = evidence.config, answer.recipe
    source, options = source_of(config, answer.draft.model, recipe.wide, onnx_path)
    options = replace(options, tf32=product.facts.tf32 is not False)
    made = watched(source, onnx_path.with_suffix(".plan"), options, stages)
    facts = replace(facts_of(made, product.typed, recipe, corners(evidence, answer, product.typed)), tf32=options.tf32)
    facts, others = compared(evidence, made, facts, wanted(evidence, runs=runs_here(made)), onnx_path, stages)
    return replace(product, facts=executed(evidence, made, facts, others, stages))


def worth_building(config: Config, answer: Answer) -> bool:
    """An unverified graph is built only to be kept on request, or where a GPU can have the last word."""
    return answer.verdict.verified or config.keep_unverified or executable()


def ways_around(draft: Draft, error: BuildStoppedError, headroom: float) -> tuple[Edit, ...]:
    """Rewrites of the nodes an ended build names; earlier the user's ``allow`` or the model's own types kept them."""
    if error.reason not in {"crash", "refused"}:
        return ()
    findings = Findings(draft.model, draft.ranges, (), headroom)
    proposals = [each for rule in rules() if answers_builder(rule) for each in rule.propose(findings)]
    edits = [each for each in proposals if isinstance(each, Edit) and each.node in error.nodes]
    return tuple(replace(each, because=f"the build ended over it; {each.because}") for each in edits)


def retold(error: BuildStoppedError, edits: Sequence[Edit]) -> str:
    """What happened, for the report."""
    nodes, rules = ", ".join(edit.node for edit in edits), ", ".join(sorted({edit.by for edit in edits}))
    return f"The first build ended ({error.gist}); it was repeated with {nodes} rewritten ({rules})."


def facts_of(built: Built, typed: Model, recipe: Recipe, at: tuple[Corner, ...]) -> EngineFacts:
    """What was built, in the outcome's words; a corner that fails is a problem, whatever all samples say, and a pin that was taken back."""
    proof, became = built.proof, compiled(typed, built.proof)
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
        bf16_layers=proof.bf16_layers,
        problems=(*check_pins(proof, dict(recipe.wide), [each.node for each in proof.nodes], recipe.narrow), *problems(became), *lost),
        warnings=built.warnings,
        corners=at,
        compiled=became,
    )
