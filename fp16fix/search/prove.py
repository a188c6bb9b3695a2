"""Draft → ``Proven``: the typed graph, judged strictly on held-out samples, refined if it fails, thinned if it passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fp16fix.graph.model import Model
from fp16fix.graph.ops import is_float_node
from fp16fix.hazards.hazard import overflowing
from fp16fix.passes.design import Draft, matches
from fp16fix.passes.place.islands import costs
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Stages
from fp16fix.search.refine import Refined, refine
from fp16fix.search.shrink import INTERRUPTED
from fp16fix.search.thin import thinned
from fp16fix.search.trials import Attempts
from fp16fix.trace.shadow import Damage, shadow
from fp16fix.verdict.verdict import Figures, Verdict

REFINE_S = 120.0
"""Seconds that refining may measure unless the user says otherwise: what it found by then is used."""


@dataclass(frozen=True, slots=True)
class Proven:
    """The graph that is built, and how it did."""

    recipe: Recipe
    typed: Model
    verdict: Verdict
    pessimistic: Verdict
    before: tuple[Figures, ...]
    """Plain FP16."""
    equivalence: tuple[Figures, ...]
    """Repaired graph in FP32 against the original."""
    along_before: Mapping[str, Damage]
    along_after: Mapping[str, Damage]
    refinements: Mapping[str, str]
    stopped: str = ""
    """What stopped the search for pins before its end."""
    flaky: int = 0
    """Candidates about which the user's command contradicted itself."""

    @property
    def pins(self) -> dict[str, str]:
        """Node → format of what is pinned."""
        return dict(self.recipe.wide)


@dataclass(frozen=True, slots=True)
class Answer:
    """Pins that were settled on, and the verdict with them."""

    wide: dict[str, str]
    verdict: Verdict
    refinements: dict[str, str]


def answer(tries: Attempts, draft: Draft, stages: Stages) -> Answer:
    """Judge the draft on held-out samples, and refine it if need be."""
    wide, refinements = dict(draft.recipe.wide), dict[str, str]()
    tries.stopped = tries.refused = ""
    with stages.stage("repaired, strict"):
        verdict = tries.verdict(draft, wide)
    if not verdict.verified:
        with tries.stage(stages, "refine"):
            refined = refined_by(tries, draft)
            wide |= dict.fromkeys(refined.pins, "fp32")
            refinements = refined.because
            verdict = tries.verdict(draft, wide)
            tries.stopped = refined.stopped
    if not verdict.verified and tries.refused and tries.refused not in verdict.reasons:
        verdict = replace(verdict, reasons=(*verdict.reasons, f"with more in FP32 strict emulation passes, but {tries.refused}"))
    return Answer(wide, verdict, refinements)


def refined_by(tries: Attempts, draft: Draft) -> Refined:
    """What to pin beside the draft's own islands.

    Raises:
        KeyboardInterrupt: the user stopped the search before it had found anything.
    """
    config, own = tries.found.config, dict(draft.recipe.wide)
    nodes = [node for node in draft.model.nodes() if is_float_node(node)]
    with tries.judge.within(config.search.budget_s or REFINE_S):
        refined = refine(
            draft.model,
            tries.typed(draft, own),
            tries.found.calibration,
            tries.holds(draft, lambda names: own | dict.fromkeys(sorted(names), "fp32")),
            [node.name for node in nodes if node.name not in own and not matches(node.name, config.allow)],
            unstorable=overflowing(draft.remaining),
            cost=costs(nodes, draft.ranges),
            threads=config.threads,
        )
    if refined.stopped == INTERRUPTED and not refined.pins:
        raise KeyboardInterrupt
    return refined


def prove(tries: Attempts, draft: Draft, stages: Stages) -> Proven:
    """Settle the pins, thin them if possible, and measure what the outcome tells beside the verdict."""
    found, oracle = tries.found, tries.oracle
    config = found.config
    settled = answer(tries, draft, stages)
    wide = settled.wide
    if settled.verdict.verified and wide and tries.stopped != INTERRUPTED:
        with tries.stage(stages, "thin"):
            wide = thinned(tries, draft, wide)
    verdict = tries.verdict(draft, wide) if settled.verdict.verified else settled.verdict
    typed = tries.typed(draft, wide)
    refinements = {name: why for name, why in settled.refinements.items() if name in wide}
    with stages.stage("pessimistic and FP32 checks", 2 * len(found.held_out)) as tick:
        other = "pessimistic" if config.profile == "engine" else "engine"
        second = oracle.verdict(typed, profile=other, tick=tick)
        equivalence = oracle.figures(draft.model, strict=False, tick=tick)
    with stages.stage("error along the graph"):
        some = found.calibration.few(1)
        along_before = shadow(found.model, tries.plain, some, threads=config.threads)
        along_after = shadow(found.model, typed, some, known_exponents(found.model, draft), threads=config.threads)
    recipe = replace(draft.recipe, wide=tuple(sorted(wide.items())))
    flaky = len(tries.judge.flaky)
    return Proven(recipe, typed, verdict, second, tries.before, equivalence, along_before, along_after, refinements, tries.stopped, flaky)


def known_exponents(original: Model, draft: Draft) -> dict[str, int]:
    """Exponents of the tensors that both graphs have."""
    names = set(original.tensors())
    outputs = {tensor.name for tensor in original.graph.outputs}
    return {name: e for name, e in draft.recipe.exponents if name in names and name not in outputs}
