"""Evidence → the draft that is used, and its proof: the whole design, or, if that fails its verdict, the design without what does harm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fp16fix.graph.model import Model
from fp16fix.hazards.hazard import Hazard
from fp16fix.passes.design import EXPONENTS, Design, Draft, Options
from fp16fix.passes.evidence import Evidence, acquitted
from fp16fix.passes.recipe import Promise, Recipe, repair_key
from fp16fix.progress import Stages
from fp16fix.search.prove import Proven, answer, prove
from fp16fix.search.shrink import INTERRUPTED, Names, Result, best, shrink
from fp16fix.search.trials import Attempts


def design(found: Evidence, stages: Stages, without: Names = frozenset()) -> Draft:
    """Rules, exponents, islands.

    Args:
        found: what is known of the model.
        stages: for progress.
        without: repairs to leave out, by ``repair_key``, or ``EXPONENTS``.
    """
    config = found.config
    options = Options(
        headroom=config.headroom,
        only_exact=config.only_exact,
        wide=config.wide,
        pin=config.pin,
        allow=config.allow,
        pessimistic=config.profile == "pessimistic",
        threads=config.threads,
        without=without,
    )

    def acquit(model: Model, hazards: Sequence[Hazard]) -> dict[Hazard, str]:
        return acquitted(model, hazards, found.calibration, config.threads)

    with stages.stage("design repairs"):
        return Design(found.model, found.ranges, found.calibration, options, acquit).draft(found.hazards, found.proofs)


def settle(tries: Attempts, stages: Stages) -> tuple[Draft, Proven]:
    """The draft and its proof; unverified only where nothing passes, or nothing did before the budget was spent."""
    draft = design(tries.found, stages)
    proven = prove(tries, draft, stages)
    if proven.verdict.verified:
        return draft, proven
    harm = harmful(tries, draft.recipe, stages)
    if not harm.best:
        return draft, replace(proven, stopped=proven.stopped or harm.stopped)
    draft = design(tries.found, stages, harm.best)
    proven = prove(tries, draft, stages)
    return draft, replace(proven, stopped=proven.stopped or harm.stopped)


def harmful(tries: Attempts, recipe: Recipe, stages: Stages) -> Result[Names]:
    """A 1-minimal set of repairs without which the verdict passes, or the smallest found before the search was stopped.

    Exponents are suspected first (they trade the small end of a stream for its large one), then what alters the function.

    Raises:
        KeyboardInterrupt: the user stopped it before it had found anything.
    """
    suspects = keys(recipe)

    def holds(without: Names) -> bool:
        tries.judge.check_budgets()
        return answer(tries, design(tries.found, stages, without), stages).verdict.verified

    def search() -> Iterator[Names]:
        if suspects and holds(frozenset(suspects)):
            yield frozenset(suspects)
            yield from shrink(suspects, lambda without: bool(without) and holds(without), ranking=suspects)

    result = best(search())
    if result.stopped == INTERRUPTED and not result.best:
        raise KeyboardInterrupt
    return result


def keys(recipe: Recipe) -> list[str]:
    """What can be left out of a recipe, the most suspicious first."""
    altered_first = sorted((*recipe.repairs, *recipe.finish), key=lambda repair: repair.promise is not Promise.ALTERED)
    return [*([EXPONENTS] if recipe.exponents else []), *dict.fromkeys(repair_key(repair) for repair in altered_first)]
