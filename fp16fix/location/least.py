"""Evidence and location → ``Minimal``: the least that must be FP32 for an oracle to be content, whichever oracle the user trusts."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from fp16fix.config import Config
from fp16fix.errors import BackendError
from fp16fix.graph.ops import is_float_node
from fp16fix.location.locate import Location
from fp16fix.oracles import asked_for
from fp16fix.oracles.oracle import Ask, Score
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.place.islands import costs
from fp16fix.passes.recipe import Recipe, placement
from fp16fix.passes.workshop import Workshop
from fp16fix.progress import Tick
from fp16fix.search.journal import Journal
from fp16fix.search.judge import BudgetSpentError, Judge
from fp16fix.search.shrink import INTERRUPTED, Culprits, Minimal, Names, Result, best, culprits
from fp16fix.search.trials import refuse_search, subject

CONFIRMED = 2
"""Runs of the answer and of all-FP16 under an oracle that may contradict itself."""
CONTRADICTION = "asked again about this very set, the oracle says no"


def is_asked(config: Config) -> bool:
    """Whether the user wants it."""
    return config.search.check is not None or config.search.minimise


def journal_of(found: Evidence) -> AbstractContextManager[Journal | None]:
    """The journal of the search, if there is to be one and it is to be remembered.

    Raises:
        InputError: it cannot be used.
    """
    place = found.config.search.journal
    return Journal(place, subject(found)) if place is not None and is_asked(found.config) else nullcontext()


def minimal(found: Evidence, location: Location, journal: Journal | None = None, tick: Tick = lambda: None) -> Minimal:
    """Shrink the set of FP32 nodes, most suspicious first; any prefix of the search is an answer.

    Args:
        found: ``search`` in its config names oracle and budgets.
        location: for the order of suspicion.
        journal: remembers.
        tick: called after every oracle call.

    Raises:
        BackendError: the oracle cannot be asked at all. One that breaks later ends the search, and what was found stands.
    """
    config, order = found.config, [node.name for node in found.model.nodes() if is_float_node(node)]
    cost = costs(found.model.nodes(), found.ranges)
    placed = {node.name: placement(node.name, "fp32") for node in found.model.nodes()}

    def recipe_of(pins: Names) -> Recipe:
        return replace(found.plain, edits=(*found.plain.edits, *(placed[name] for name in sorted(pins) if name not in found.model.placed)))

    with asked_for(config).opened(found, Workshop(found.model, found.ranges)) as oracle:
        judge = Judge(
            ticking(oracle.ask, tick),
            journal,
            budget_s=config.search.budget_s or math.inf,
            budget_calls=config.search.calls or math.inf,
            repeats=config.search.repeats,
        )
        result = best(culprits(order, location.ranking, lambda pins: judge.good(recipe_of(pins)), cost=cost))
        doubt = confirmed(judge, recipe_of, result.best) if result.best is not None and result.complete and not oracle.steady else ""
        if doubt:
            result = replace(result, complete=False, stopped=doubt)
    return told(result, order, oracle.words, judge)


def told(result: Result[Culprits], order: list[str], oracle: str, judge: Judge) -> Minimal:
    """The result in graph order, with what must be said of it."""
    place = {name: index for index, name in enumerate(order)}
    answer = result.best or Culprits(frozenset())
    nothing = "" if result.best is not None or result.stopped else nothing_holds(judge)
    return Minimal(
        pins=tuple(sorted(answer.pins, key=place.__getitem__)),
        together=tuple(tuple(sorted(fault, key=place.__getitem__)) for fault in answer.faults if len(fault) > 1),
        oracle=oracle,
        complete=result.complete and not nothing,
        stopped=result.stopped or nothing,
        calls=judge.calls,
        flaky=len(judge.flaky),
    )


def nothing_holds(judge: Judge) -> str:
    """Why a search came to its end without an answer."""
    if judge.untestable:
        return f"nothing that was tried satisfies the oracle, and it could not test {judge.untestable} of the candidates"
    return "not even all nodes in FP32 satisfy the oracle"


def confirmed(judge: Judge, recipe_of: Callable[[Names], Recipe], answer: Culprits) -> str:
    """Ask once more about the two recipes that everything hangs on; why the answer is in doubt, empty if it is not."""
    try:
        for pins in (frozenset[str](), answer.pins):
            judge.ask(recipe_of(pins), repeats=max(CONFIRMED, judge.repeats))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BudgetSpentError, BackendError) as error:
        return f"not asked again about this set: {error.what}"
    return "" if judge.good(recipe_of(answer.pins)) else CONTRADICTION


def ticking(oracle: Ask, tick: Tick) -> Ask:
    """The same oracle, and whoever is looking hears of every call."""

    def ask(recipe: Recipe) -> Score:
        score = oracle(recipe)
        tick()
        return score

    return ask


def refuse_oracle(config: Config) -> None:
    """Say at once, before anything is loaded, that the oracle asked for cannot be asked here, or its journal cannot be used.

    Raises:
        InputError, BackendError: which and why.
    """
    refuse_search(config)
    asked_for(config).refuse(config)
