"""A draft that fails, or lacks margin → the same with insides of its kernels in FP32, for which a compiled plan pays nothing."""

from __future__ import annotations

from collections.abc import Iterator

from fp16fix.oracles.oracle import Score
from fp16fix.passes.design import Draft
from fp16fix.passes.place.interior import interiors
from fp16fix.passes.place.price import Price
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Stages
from fp16fix.search.guide import Guide, guided
from fp16fix.search.refine import accused, pinnable, words
from fp16fix.search.shrink import INTERRUPTED, Names, best, shrink
from fp16fix.search.trials import Trials

EASE_CALLS = 12
"""Recipes that this may measure: whether all of them help is one, the rest find how few do."""
GAIN_DB = 3.0
"""What a draft that passes must gain, or more pins are not worth a word: half of the error's energy."""
INSIDE = "it costs nothing in FP32 inside of its kernel, and there rounding shows in the outputs"


def eased(trials: Trials, draft: Draft, score: Score, stages: Stages) -> tuple[Recipe | None, str]:
    """The draft with few kernels in FP32 inside that bring the margin, or else a verdict that passes, or a better one; None where none do.

    Args:
        trials: judges.
        draft: fails, or passes without the margin.
        score: the draft's.
        stages: for progress.

    Returns:
        The recipe, and ``INTERRUPTED`` if the user stopped this.
    """
    groups = {group[0]: group for group in interiors(Price(draft.model, draft.ranges), draft.recipe.wide, pinnable(trials, draft))}

    def members(names: Names) -> list[str]:
        return [member for name in groups if name in names for member in groups[name]]

    def recipe(names: Names) -> Recipe:
        free = members(names)
        return draft.pinned(draft.recipe.wide | dict.fromkeys(sorted(free), "fp32"), dict.fromkeys(free, INSIDE))

    def said(names: Names) -> str:
        return words(frozenset(members(names)))

    def ranking() -> list[str]:
        owner = {member: name for name, group in groups.items() for member in group}
        return list(dict.fromkeys(owner[member] for member in accused(trials, draft, list(owner)).ranking if member in owner))

    def search() -> Iterator[Names]:
        whole = frozenset(groups)
        glanced = trials.glance(recipe(whole))
        if wanted(trials, score, glanced) is None:
            trials.tell(recipe(whole), "ease", f"{said(whole)}, on the samples alone", glanced)
            return
        found = trials.judge.ask(recipe(whole)).score
        trials.tell(recipe(whole), "ease", said(whole), found)
        tick()
        least_db = wanted(trials, score, found)
        if least_db is not None:
            yield whole
            order = ranking()
            guide = Guide(trials, "ease", recipe, said, tick, least_db=least_db, fails=draft.recipe)
            yield from guided(lambda by: shrink(list(groups), by, ranking=order), guide)

    if not groups:
        return None, ""
    with stages.stage("widen inside of kernels") as tick, trials.judge.within(EASE_CALLS):
        result = best(search())
    return None if result.best is None else recipe(result.best), result.stopped if result.stopped == INTERRUPTED else ""


def wanted(trials: Trials, before: Score, after: Score) -> float | None:
    """How far above what is asked free pins must bring a draft, seen what all of them do; None where that is not worth it."""
    least_db = trials.evidence.config.search.margin_db if trials.is_comfortable(after) else 0.0
    least_db = max(least_db, before.spare_db + GAIN_DB) if before.good else least_db
    return least_db if after.good and after.spare_db >= least_db else None
