"""Draft → ``Proven``: the typed graph, judged strictly on held-out samples, refined by blame if it fails, thinned if it passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fp16fix.config import Config
from fp16fix.graph.model import Model
from fp16fix.progress import Stages
from fp16fix.repair.design import Draft, matches
from fp16fix.repair.lower import lower
from fp16fix.repair.recipe import Recipe
from fp16fix.search.check import check
from fp16fix.search.judge import Candidate
from fp16fix.search.refine import refine
from fp16fix.search.shadow import Error, shadow
from fp16fix.strict.oracle import StrictOracle
from fp16fix.study import Study
from fp16fix.thin import thinned
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
    """Judge the draft on held-out samples, refine it if need be, thin it if possible, and measure plain FP16 for comparison."""
    config, held_out = found.config, found.held_out
    io = "fp16" if config.io == "fp16" else None
    fits = draft.fits(config.headroom)

    def typed_by(wide: Mapping[str, str]) -> Model:
        return lower(draft.model, wide, io=io, fits=fits)

    with stages.stage("FP32 reference", len(held_out)) as tick:
        oracle = StrictOracle(found.model, held_out, config.tolerance.of, threads=config.threads, tick=tick)
    with oracle:

        def judge(typed: Model) -> Verdict:
            return checked(oracle.verdict(typed, profile=config.profile), typed, config)

        plain = lower(found.model, found.model.placed, io=io)
        with stages.stage("plain FP16, strict", len(held_out)) as tick:
            before = oracle.figures(plain, tick=tick)
        wide, refinements = dict(draft.recipe.wide), dict[str, str]()
        typed = typed_by(wide)
        with stages.stage("repaired, strict"):
            verdict = judge(typed)
        if not verdict.verified:
            with stages.stage("refine"):
                refined = refine(
                    draft.model,
                    wide,
                    verdict,
                    judge,
                    found.calibration,
                    fits=fits,
                    io=io,
                    allow=lambda name: matches(name, config.allow),
                    threads=config.threads,
                )
            typed, verdict, refinements, wide = refined.typed, refined.verdict, refined.because, refined.wide
        if verdict.verified and wide:
            with stages.stage("thin"):
                thinner = thinned(draft.model, wide, draft.remaining, config, lambda pins: judge(typed_by(pins)))
            if thinner != wide:
                wide, typed = thinner, typed_by(thinner)
                verdict = judge(typed)
        with stages.stage("pessimistic and FP32 checks", 2 * len(held_out)) as tick:
            other = "pessimistic" if config.profile == "engine" else "engine"
            second = oracle.verdict(typed, profile=other, tick=tick)
            equivalence = oracle.figures(draft.model, strict=False, tick=tick)
    with stages.stage("error along the graph"):
        some = found.calibration.few(1)
        along_before = shadow(found.model, plain, some, threads=config.threads)
        along_after = shadow(found.model, typed, some, known_exponents(found.model, draft), threads=config.threads)
    recipe = replace(draft.recipe, wide=tuple(sorted(wide.items())))
    return Proven(recipe, typed, verdict, second, before, equivalence, along_before, along_after, refinements)


def checked(verdict: Verdict, typed: Model, config: Config) -> Verdict:
    """The strict verdict, and the user's own command if there is one: both must be content."""
    if config.search.check is None or not verdict.verified:
        return verdict
    score = check(config.search.check, lambda _: typed, timeout_s=config.build.timeout_s)(Candidate())
    if score.good:
        return replace(verdict, oracle="strict and command")
    return replace(verdict, verified=False, oracle="strict and command", reasons=(*verdict.reasons, score.why))


def known_exponents(original: Model, draft: Draft) -> dict[str, int]:
    """Exponents of the tensors that both graphs have."""
    names = set(original.tensors())
    outputs = {tensor.name for tensor in original.graph.outputs}
    return {name: e for name, e in draft.recipe.exponents if name in names and name not in outputs}
