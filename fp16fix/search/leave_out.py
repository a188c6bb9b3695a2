"""A recipe that fails → the edits that do the harm: a 1-minimal set without which the verdict passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fp16fix.passes.recipe import RESCALE, Promise, Recipe
from fp16fix.search.shrink import INTERRUPTED, Names, Result, best, shrink
from fp16fix.search.trials import Trials


def harmful(trials: Trials, recipe: Recipe, passes: Callable[[Names], bool]) -> Result[Names]:
    """The edits to leave out, by key, or the smallest such set found before the search was stopped.

    Args:
        trials: its budget ends the search.
        recipe: as it fails.
        passes: whether a design without some edits passes.

    Raises:
        KeyboardInterrupt: the user stopped it before it had found anything.
    """
    keys = suspects(recipe)

    def holds(without: Names) -> bool:
        trials.judge.check_budgets()
        return passes(without)

    def search() -> Iterator[Names]:
        if keys and holds(frozenset(keys)):
            yield frozenset(keys)
            yield from shrink(keys, lambda without: bool(without) and holds(without), ranking=keys)

    result = best(search())
    if result.stopped == INTERRUPTED and not result.best:
        raise KeyboardInterrupt
    return result


def suspects(recipe: Recipe) -> list[str]:
    """What can be left out of a recipe: exponents first (they trade the small end of a stream for its large one), then what alters."""
    ranked = sorted(recipe.changes, key=lambda edit: (edit.by != RESCALE, edit.promise is not Promise.ALTERED))
    return list(dict.fromkeys(edit.key for edit in ranked))
