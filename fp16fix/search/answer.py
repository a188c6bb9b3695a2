"""The whole search on one screen: evidence → ``Answer``, the recipe that is used, its verdict, and every recipe that was tried for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fp16fix.oracles.oracle import Score
from fp16fix.passes.design import Draft
from fp16fix.passes.evidence import with_held_out
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Stages
from fp16fix.search.draft import design
from fp16fix.search.ease import eased
from fp16fix.search.leave_out import harmful
from fp16fix.search.refine import refined
from fp16fix.search.shrink import INTERRUPTED
from fp16fix.search.thin import thinned
from fp16fix.search.trial import Trial
from fp16fix.search.trials import Trials
from fp16fix.verdict.condition import Bounded, Condition
from fp16fix.verdict.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Candidate:
    """Where a search ended, by the samples that it asked."""

    draft: Draft
    """What the recipe was made from."""
    recipe: Recipe
    score: Score
    stopped: str = ""
    """What stopped a search before its end; what is used is the best it had found."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is used, judged on all samples."""

    draft: Draft
    recipe: Recipe
    verdict: Verdict
    stopped: str = ""
    """See ``Candidate``."""
    independent: bool = True
    """No search asked about the held-out samples: they were asked once, at the end."""
    derivation: tuple[Trial, ...] = ()
    """Every recipe that was tried, in order."""
    flaky: int = 0
    """Recipes about which the user's command contradicted itself."""
    certificate: tuple[Bounded, ...] = ()
    """How far partial sums can go, on the judged samples; the furthest first."""
    accumulate: Verdict | None = None
    """Of the worst sample, with the sums of products in FP16: the second gate."""
    conditions: tuple[Condition, ...] = ()
    """What must be so for the verdict to hold."""


def settle_on(trials: Trials, stages: Stages) -> Answer:
    """The recipe to use: searched for on calibration samples, judged once on all; held-out samples that fail join a second search.

    Raises:
        KeyboardInterrupt: the user stopped a search before it had found anything.
    """
    found = find(trials, stages)
    with stages.stage("held-out samples") as tick:
        trials.widen(tick)
        score = trials.score(found.recipe, "all samples", "as found")
    if score.good or not found.score.good or found.stopped == INTERRUPTED or trials.judge.is_spent:
        return judged(trials, found)
    if not trials.evidence.shared:
        trials.evidence = with_held_out(trials.evidence, stages)
    return replace(judged(trials, find(trials, stages)), independent=trials.evidence.shared)


def judged(trials: Trials, found: Candidate) -> Answer:
    """What was found, judged on every sample that is asked now, held to the share of FP32, with all that was tried for it."""
    verdict, wide = trials.verdict(found.recipe, "all samples", "as found"), trials.too_wide(found.recipe)
    if verdict.verified and wide:
        verdict = replace(verdict, verified=False, reasons=(wide,))
    if not verdict.verified:
        said = [f"with more in FP32 strict emulation passes, but {why}" for why in trials.objections()[-1:] if why not in verdict.reasons]
        said += [trials.hopeless] if trials.hopeless and not found.score.good else []
        verdict = replace(verdict, reasons=(*verdict.reasons, *said))
    return Answer(
        found.draft,
        found.recipe,
        verdict,
        found.stopped,
        derivation=tuple(trials.told.values()),
        flaky=len(trials.judge.flaky),
    )


def find(trials: Trials, stages: Stages) -> Candidate:
    """The recipe to use by the samples that are asked; not good only where nothing is, or nothing was before the budget was spent.

    Raises:
        KeyboardInterrupt: see ``settle_on``.
    """
    found = untouched(trials, stages) or passing(trials, designed(trials, stages), stages)
    if not found.score.good:
        found = without_harm(trials, found, stages)
    return with_less(trials, found, stages)


def untouched(trials: Trials, stages: Stages) -> Candidate | None:
    """All in the narrow type as it is, but for what guards inputs that no sample shows, if that passes with the margin; else None."""
    evidence, narrow = trials.evidence, trials.evidence.model.narrow
    with stages.stage(f"plain {narrow}, strict"):
        seen = trials.glance(evidence.plain)
        trials.tell(evidence.plain, "plain", f"all {narrow}, on the samples alone", seen)
    if not trials.is_comfortable(seen) or evidence.config.pin:
        return None
    draft = designed(trials, stages, calm=True)
    with stages.stage("repaired, strict"):
        score = trials.score(draft.recipe, "draft", "only what guards inputs that no sample shows")
        if trials.is_comfortable(score):
            return Candidate(draft, draft.recipe, score)
        # A guard may cost a little; what passes with it where it has the margin without is not searched on.
        plain = trials.score(evidence.plain, "plain, stressed", f"all {narrow}")
    return Candidate(draft, draft.recipe, score) if score.good and trials.is_comfortable(plain) else None


def designed(trials: Trials, stages: Stages, without: frozenset[str] = frozenset(), *, calm: bool = False) -> Draft:
    """A draft, its FP32 graph remembered."""
    draft = design(trials.evidence, stages, without, calm=calm)
    trials.workshop.keep(draft.recipe, draft.model, draft.ranges)
    return draft


def passing(trials: Trials, draft: Draft, stages: Stages, tried: str = "rules, exponents, islands") -> Candidate:
    """The draft; without the margin, what free pins make of it; if it fails and they do not mend it, the draft with those that cost.

    Raises:
        KeyboardInterrupt: see ``settle_on``.
    """
    with stages.stage("repaired, strict"):
        score = trials.score(draft.recipe, "draft", tried)
    if trials.is_comfortable(score):
        return Candidate(draft, draft.recipe, score)
    free, stopped = eased(trials, draft, score, stages)
    if free is not None:
        return Candidate(draft, free, trials.score(free, "ease", "as found"), stopped)
    if score.good:
        return Candidate(draft, draft.recipe, score, stopped)
    if stopped:
        raise KeyboardInterrupt
    recipe, stopped = refined(trials, draft, stages)
    return Candidate(draft, recipe, trials.score(recipe, "refine", "as found"), stopped)


def without_harm(trials: Trials, found: Candidate, stages: Stages) -> Candidate:
    """A recipe without the edits that do harm, or the same one if leaving out helps nothing."""

    def attempt(keys: frozenset[str]) -> Candidate:
        return passing(trials, designed(trials, stages, keys), stages, tried=f"without {', '.join(sorted(keys))}")

    harm = harmful(trials, found.draft.recipe, lambda keys: attempt(keys).score.good is True)
    if not harm.best:
        return replace(found, stopped=found.stopped or harm.stopped)
    less = attempt(harm.best)
    return replace(less, stopped=less.stopped or harm.stopped)


def with_less(trials: Trials, found: Candidate, stages: Stages) -> Candidate:
    """What passes, with less in it where less passes."""
    if not found.score.good or not found.recipe.wide or found.stopped == INTERRUPTED:
        return found
    recipe, stopped = thinned(trials, found.draft, found.recipe, stages)
    return replace(found, recipe=recipe, score=trials.score(recipe, "thin", "as found"), stopped=found.stopped or stopped)
