"""The whole search on one screen: evidence → ``Answer``, the recipe that is used, its verdict, and every recipe that was tried for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fp16fix.oracles.oracle import scored
from fp16fix.passes.design import Draft
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Stages
from fp16fix.search.draft import design
from fp16fix.search.leave_out import harmful
from fp16fix.search.refine import refined
from fp16fix.search.shrink import INTERRUPTED
from fp16fix.search.thin import thinned
from fp16fix.search.trial import Trial
from fp16fix.search.trials import Trials
from fp16fix.verdict.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a search ended."""

    draft: Draft
    """What the recipe was made from."""
    recipe: Recipe
    verdict: Verdict
    stopped: str = ""
    """What stopped a search before its end; what is used is the best it had found."""
    derivation: tuple[Trial, ...] = ()
    """Every recipe that was tried, in order."""
    flaky: int = 0
    """Recipes about which the user's command contradicted itself."""
    independent: bool = True
    """No search asked about the held-out samples: they were asked once, at the end."""


def settle_on(trials: Trials, stages: Stages) -> Answer:
    """The recipe to use: searched for on calibration samples, judged once on all; held-out samples that fail join a second search.

    Raises:
        KeyboardInterrupt: the user stopped a search before it had found anything.
    """
    return judged(trials, find(trials, stages), stages)


def judged(trials: Trials, answer: Answer, stages: Stages) -> Answer:
    """An answer found on calibration samples, with the verdict over all of them.

    Raises:
        KeyboardInterrupt: see ``settle_on``.
    """
    with stages.stage("held-out samples") as tick:
        trials.widen(tick)
        verdict = trials.verdict(answer.recipe, "all samples", "as found on calibration samples")
    if verdict.verified or not answer.verdict.verified or answer.stopped == INTERRUPTED:
        return told(trials, replace(answer, verdict=verdict))
    again = find(trials, stages)
    return replace(again, independent=trials.evidence.shared)


def find(trials: Trials, stages: Stages) -> Answer:
    """The recipe to use by the samples that are asked; unverified only where nothing passes, or nothing did before the budget was spent.

    Raises:
        KeyboardInterrupt: see ``settle_on``.
    """
    answer = untouched(trials, stages) or passing(trials, designed(trials, stages), stages)
    if not answer.verdict.verified:
        answer = without_harm(trials, answer, stages)
    return finished(trials, answer, stages)


def untouched(trials: Trials, stages: Stages) -> Answer | None:
    """All-FP16 as it is, but for what guards inputs that no sample shows, if that passes with the margin; else None."""
    evidence = trials.evidence
    with stages.stage("plain FP16, strict"):
        verdict = trials.verdict(evidence.plain, "plain", "all FP16")
    if not trials.is_comfortable(scored(verdict)) or evidence.config.pin:
        return None
    draft = designed(trials, stages, calm=True)
    verdict = trials.verdict(draft.recipe, "draft", "only what guards inputs that no sample shows")
    return Answer(draft, draft.recipe, verdict) if verdict.verified else None


def finished(trials: Trials, answer: Answer, stages: Stages) -> Answer:
    """The answer with less in it, where less passes, and how it was found."""
    if answer.verdict.verified and answer.recipe.wide and answer.stopped != INTERRUPTED:
        recipe, stopped = thinned(trials, answer.draft, answer.recipe, stages)
        verdict = trials.verdict(recipe, "thin", "as used")
        answer = replace(answer, recipe=recipe, verdict=verdict, stopped=answer.stopped or stopped)
    return told(trials, answer)


def told(trials: Trials, answer: Answer) -> Answer:
    """The answer held to the share of FP32, with everything that was tried for it."""
    verdict = trials.within_share(answer.verdict, answer.recipe)
    return replace(answer, verdict=verdict, derivation=tuple(trials.told.values()), flaky=len(trials.judge.flaky))


def designed(trials: Trials, stages: Stages, without: frozenset[str] = frozenset(), *, calm: bool = False) -> Draft:
    """A draft, its FP32 graph remembered."""
    draft = design(trials.evidence, stages, without, calm=calm)
    trials.workshop.keep(draft.recipe, draft.model, draft.ranges)
    return draft


def passing(trials: Trials, draft: Draft, stages: Stages, tried: str = "rules, exponents, islands") -> Answer:
    """The draft, or the draft with more pins if it fails."""
    with stages.stage("repaired, strict"):
        verdict = trials.verdict(draft.recipe, "draft", tried)
    if verdict.verified:
        return Answer(draft, draft.recipe, verdict)
    recipe, stopped = refined(trials, draft, stages)
    verdict = trials.verdict(recipe, "refine", "as used")
    if not verdict.verified:
        said = [f"with more in FP32 strict emulation passes, but {why}" for why in trials.objections()[-1:] if why not in verdict.reasons]
        verdict = replace(verdict, reasons=(*verdict.reasons, *said))
    return Answer(draft, recipe, verdict, stopped)


def without_harm(trials: Trials, answer: Answer, stages: Stages) -> Answer:
    """The answer without the edits that do harm, or the answer itself if leaving out helps nothing."""

    def passes(keys: frozenset[str]) -> bool:
        draft = designed(trials, stages, keys)
        return passing(trials, draft, stages, tried=f"without {', '.join(sorted(keys))}").verdict.verified

    harm = harmful(trials, answer.draft.recipe, passes)
    if not harm.best:
        return replace(answer, stopped=answer.stopped or harm.stopped)
    less = passing(trials, designed(trials, stages, harm.best), stages, tried=f"without {', '.join(sorted(harm.best))}")
    return replace(less, stopped=less.stopped or harm.stopped)
