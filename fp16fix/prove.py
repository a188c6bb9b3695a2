"""Draft → ``Proven``: the typed graph, judged strictly on held-out samples; refined by blame if it fails, thinned if pins prove needless."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fp16fix.graph.model import Model
from fp16fix.progress import Stages
from fp16fix.repair.design import Draft, matches
from fp16fix.repair.lower import lower
from fp16fix.repair.recipe import Recipe
from fp16fix.search.refine import refine
from fp16fix.search.shadow import Error, shadow
from fp16fix.strict.oracle import StrictOracle
from fp16fix.study import Study
from fp16fix.verify.verdict import Figures, Verdict


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
    along_before: Mapping[str, Error]
    along_after: Mapping[str, Error]
    refinements: Mapping[str, str]

    @property
    def pins(self) -> dict[str, str]:
        """Node → format of what is pinned."""
        return dict(self.recipe.wide)


def prove(found: Study, draft: Draft, stages: Stages) -> Proven:
    """Judge the draft on held-out samples, refine it if need be, and measure plain FP16 for comparison."""
    config, held_out = found.config, found.held_out
    io = "fp16" if config.io == "fp16" else None
    fits = draft.fits(config.headroom)
    with stages.stage("FP32 reference", len(held_out)) as tick:
        oracle = StrictOracle(found.model, held_out, config.tolerance.of, threads=config.threads, tick=tick)
    with oracle:
        plain = lower(found.model, found.model.placed, io=io)
        with stages.stage("plain FP16, strict", len(held_out)) as tick:
            before = oracle.figures(plain, tick=tick)
        typed = lower(draft.model, dict(draft.recipe.wide), io=io, fits=fits)
        with stages.stage("repaired, strict", len(held_out)) as tick:
            verdict = oracle.verdict(typed, profile=config.profile, tick=tick)
        recipe, refinements = draft.recipe, {}
        if not verdict.verified:
            with stages.stage("refine"):
                refined = refine(
                    draft.model,
                    dict(recipe.wide),
                    verdict,
                    lambda model: oracle.verdict(model, profile=config.profile),
                    found.calibration,
                    fits=fits,
                    io=io,
                    allow=lambda name: matches(name, config.allow),
                    threads=config.threads,
                )
            typed, verdict, refinements = refined.typed, refined.verdict, refined.because
            recipe = replace(recipe, wide=tuple(sorted(refined.wide.items())))
        with stages.stage("pessimistic and FP32 checks", 2 * len(held_out)) as tick:
            other = "pessimistic" if config.profile == "engine" else "engine"
            second = oracle.verdict(typed, profile=other, tick=tick)
            equivalence = oracle.figures(draft.model, strict=False, tick=tick)
    with stages.stage("error along the graph"):
        some = found.calibration.few(2)
        along_before = shadow(found.model, plain, some, threads=config.threads)
        along_after = shadow(found.model, typed, some, known_exponents(found.model, draft), threads=config.threads)
    return Proven(recipe, typed, verdict, second, before, equivalence, along_before, along_after, refinements)


def known_exponents(original: Model, draft: Draft) -> dict[str, int]:
    """Exponents of the tensors that both graphs have."""
    names = set(original.tensors())
    return {name: e for name, e in draft.recipe.exponents if name in names}
