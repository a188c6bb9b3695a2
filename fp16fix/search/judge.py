"""``Judge``: recipes in, opinions out; remembers, journals, keeps to budgets, and notices an oracle that contradicts itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fp16fix.errors import Fp16fixError
from fp16fix.oracles.oracle import Ask, Probe, Score
from fp16fix.passes.recipe import Recipe
from fp16fix.search.journal import Journal

NAMED = 64
"""Placements of at most this many nodes are written to the journal by name, for people; larger ones by digest and count."""


class BudgetSpentError(Fp16fixError):
    """The time or the number of oracle calls that the user allowed is used up; the best answer so far stands."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Opinion:
    """The judge's answer about one recipe: one score, and how far it can be relied on."""

    score: Score
    """Of repeated runs the worst: a candidate that fails sometimes is not good."""
    runs: int
    """How often the oracle was asked, earlier sessions included."""
    flaky: bool = False
    """Runs of the same candidate disagreed."""

    @property
    def good(self) -> bool:
        """Whether the candidate may be used; what cannot be tested may not."""
        return self.score.good is True


@dataclass(slots=True)
class Judge:
    """Every recipe of a search goes through one of these.

    Budgets count what this process measures; answers out of memory or journal are free.
    """

    oracle: Ask
    journal: Journal | None = None
    budget_s: float = math.inf
    """Seconds the oracle may take in all; a call under way is not cut short."""
    budget_calls: float = math.inf
    """How often the oracle may be asked."""
    clock: Callable[[], float] = time.monotonic
    """Seconds; given so that budgets can be tested."""
    repeats: int = 1
    """How often each candidate is measured unless ``ask`` says otherwise."""
    about: str = ""
    """What the oracle is asked about, where one journal holds answers about several things."""
    contradicted: dict[str, Recipe] = field(default_factory=dict)
    """Recipes by digest whose runs disagreed, in the order noticed; no use is made of them any more, whatever else is asked about them."""
    calls: int = field(default=0, init=False)
    """Oracle calls of this process."""
    spent_s: float = field(default=0.0, init=False)
    """Seconds the oracle took in this process."""
    _seen: dict[str, list[Score]] = field(default_factory=dict, init=False)
    """By digest, so that journals need not hold thousands of names."""

    def __post_init__(self) -> None:
        if self.journal is not None:
            for record in self.journal.records:
                self._seen.setdefault(str(record["candidate"]), []).append(score_of(record))

    def ask(self, recipe: Recipe, repeats: int | None = None) -> Opinion:
        """The opinion of a recipe, measured only as often as it has not been measured before.

        Args:
            recipe: what to try.
            repeats: runs wanted in all; the judge's own setting if None. Runs stop at the first disagreement.

        Raises:
            BudgetSpentError: a measurement is needed and a budget is used up.
        """
        digest = f"{recipe.digest} {self.about}".strip()
        scores = self._seen.setdefault(digest, [])
        wanted = self.repeats if repeats is None else repeats
        while len(scores) < max(wanted, 1) and not disagree(scores):
            scores.append(self._measure(recipe, digest))
        if disagree(scores):
            self.contradicted[recipe.digest] = recipe
        flaky, worst = recipe.digest in self.contradicted, min(scores, key=badness)
        if flaky and worst.good:
            worst = replace(worst, good=None, why="the oracle contradicted itself about it")
        return Opinion(worst, len(scores), flaky)

    def good(self, recipe: Recipe) -> bool:
        """``ask(recipe).good``."""
        return self.ask(recipe).good

    @property
    def is_spent(self) -> bool:
        """Whether nothing more may be measured."""
        return self.calls >= self.budget_calls or self.spent_s >= self.budget_s

    def check_budgets(self) -> None:
        """Raise ``BudgetSpentError`` if one is."""
        if self.calls >= self.budget_calls:
            raise BudgetSpentError(
                f"the budget of {self.budget_calls:.0f} oracle calls is spent", hint="give more calls, or use the best answer so far"
            )
        if self.spent_s >= self.budget_s:
            raise BudgetSpentError(f"the budget of {self.budget_s:g} s is spent", hint="give more time, or use the best answer so far")

    @contextmanager
    def within(self, calls: float) -> Iterator[None]:
        """A search that may ask so often and no more, nor more than what is left of the whole budget."""
        whole = self.budget_calls
        self.budget_calls = min(whole, self.calls + calls)
        try:
            yield
        finally:
            self.budget_calls = whole

    @property
    def untestable(self) -> int:
        """Candidates about which the oracle could say nothing."""
        return sum(any(score.good is None for score in scores) for scores in self._seen.values())

    @property
    def flaky(self) -> tuple[Recipe, ...]:
        """Candidates whose runs disagreed, in the order noticed; empty is no proof unless runs were repeated."""
        return tuple(self.contradicted.values())

    def _measure(self, recipe: Recipe, digest: str) -> Score:
        before = self.spent_s
        with self.charged():
            score = self.oracle(recipe)
        if self.journal is not None:
            self.journal.append(record_of(recipe, digest, score, self.spent_s - before))
        return score

    @contextmanager
    def charged(self) -> Iterator[None]:
        """One call, and the time that it takes. Raises as ``check_budgets``."""
        self.check_budgets()
        began = self.clock()
        try:
            yield
        finally:
            self.calls += 1
            self.spent_s += self.clock() - began


def disagree(scores: Iterable[Score]) -> bool:
    """Whether runs of one candidate came out differently."""
    return len({score.good for score in scores}) > 1


def badness(score: Score) -> tuple[int, float]:
    """Sorts bad before untestable before good, then by figure."""
    rank = {False: 0, None: 1, True: 2}[score.good]
    return rank, math.inf if math.isnan(score.figure) else score.figure


def record_of(recipe: Recipe, digest: str, score: Score, took: float) -> dict[str, Any]:
    """A journal line; figures that JSON cannot hold are written as words."""
    placed = len(recipe.wide)
    record: dict[str, Any] = {
        "candidate": digest,
        "good": score.good,
        "figure": portable(score.figure),
        "spare_db": portable(score.spare_db),
        "why": score.why,
        "nearest": [asdict(probe) for probe in score.nearest],
        "seconds": round(took, 3),
        "changes": [edit.key for edit in recipe.changes],
        "placed": placed,
    }
    if placed <= NAMED:
        record["nodes"] = sorted(recipe.wide)
    return record


def portable(figure: float) -> float | str:
    """As JSON can hold it."""
    return figure if math.isfinite(figure) else str(figure)


def score_of(record: Mapping[str, Any]) -> Score:
    """The score in a journal line."""
    nearest = tuple(Probe(**probe) for probe in record.get("nearest", ()))
    return Score(record["good"], float(record["figure"]), str(record["why"]), float(record["spare_db"]), nearest)
