"""A cheap no before a dear yes: inputs that refuted candidates are asked first; what they let through is judged after a part of the way.

A candidate that fails mostly fails where others did, which one pass shows, and what several such inputs let through mostly holds. What a
verdict refutes nevertheless adds the input on which it fails: counterexample-guided search (Clarke et al., JACM 50 (5), 2003).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fp16fix.oracles.oracle import Probe, Score
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Tick
from fp16fix.search.judge import BudgetSpentError
from fp16fix.search.shrink import Holds, Names
from fp16fix.search.trials import Trials

MUCH = 0.75
"""Of the size of the last set that was judged: what is no larger is judged, too, before a search goes on from it."""
BACK = (1, 2, 4)
"""How far back a search that is out of budget looks for what holds: each is a whole verdict."""


class Guide:
    """The inputs that refuted candidates of one search, and those that nearly did."""

    def __init__(
        self,
        trials: Trials,
        search: str,
        recipe_of: Callable[[Names], Recipe],
        words: Callable[[Names], str],
        tick: Tick = lambda: None,
        *,
        least_db: float,
        fails: Recipe | None = None,
    ) -> None:
        """Knows none yet.

        Args:
            trials: see ``Trials.holds``.
            search: the same.
            recipe_of: the same.
            words: the same.
            tick: called for every answer, of single inputs too.
            least_db: see ``Trials.holds``.
            fails: a recipe that was judged and is not good enough, if there is one to learn from.
        """
        self.trials, self.search, self.recipe_of, self.words, self.tick, self.least_db = trials, search, recipe_of, words, tick, least_db
        self.confirm: Holds = trials.holds(search, recipe_of, words, tick, least_db=least_db)
        """By a whole verdict."""
        self.fails = fails
        self.probes: list[Probe] = []
        """What refuted last is asked first."""
        self._scores: dict[tuple[str, Probe], Score] = {}

    def glance(self, names: Names) -> bool:
        """Whether no known input refutes it: one call, unless that is known. Raises BudgetSpentError."""
        recipe = self.recipe_of(names)
        known = [score for probe in self.probes if (score := self._scores.get((recipe.digest, probe))) is not None]
        if len(known) == len(self.probes) or not all(map(self.is_enough, known)):
            return all(map(self.is_enough, known))
        with self.trials.judge.charged():
            worst = self._worst(recipe)
        self.trials.tell(recipe, self.search, f"{self.words(names)}, on what refuted others", worst, alone=True)
        self.tick()
        return self.is_enough(worst)

    def _worst(self, recipe: Recipe) -> Score:
        """Of the known inputs, up to the first that refutes it, which is asked first from now on."""
        scores = []
        for probe in list(self.probes):
            scores.append(self._score(recipe, probe))
            if not self.is_enough(scores[-1]):
                self.probes.remove(probe)
                self.probes.insert(0, probe)
                break
        return min(scores, key=lambda each: each.spare_db)

    def learn(self, recipe: Recipe) -> bool:
        """From a verdict that is not good enough: whether one input shows that by itself. Raises BudgetSpentError."""
        nearest = self.trials.judge.ask(recipe).score.nearest
        found = [probe for probe in nearest if probe not in self.probes and not self.is_enough(self._score(recipe, probe))]
        self.probes = [*found, *self.probes]
        return bool(found)

    def watch(self, recipe: Recipe) -> None:
        """From one that is: where it is nearest to failing. Many a smaller set passes one input by luck, few pass several."""
        self.probes += [probe for probe in self.trials.judge.ask(recipe).score.nearest if probe not in self.probes]

    def settle(self, names: Names) -> bool:
        """By a whole verdict, whatever budget is left."""
        return self.is_enough(self.trials.score(self.recipe_of(names), self.search, self.words(names)))

    def is_enough(self, score: Score) -> bool:
        """Good, with what it must have beyond that."""
        return score.good is True and score.spare_db >= self.least_db

    def _score(self, recipe: Recipe, probe: Probe) -> Score:
        """Of one input, run once."""
        place = recipe.digest, probe
        if place not in self._scores:
            self._scores[place] = self.trials.emulator.probe(recipe, probe)
        return self._scores[place]


def guided(shrinking: Callable[[Holds], Iterator[Names]], guide: Guide) -> Iterator[Names]:
    """What a search yields by whole verdicts: the first set that it meets, those that are much smaller, and the last.

    Args:
        shrinking: the search, by some predicate; each set that it yields is smaller than the one before.
        guide: see ``Guide``.

    Raises:
        BudgetSpentError: of the sets that were let through until then the smallest that holds has been yielded.
    """
    sure: Names | None = None
    path: list[Names] = []
    try:
        if guide.fails is not None:
            guide.learn(guide.fails)
        while True:
            path, refuted = [], None
            for names in shrinking(guide.glance):
                path.append(names)
                if sure is None or len(names) <= MUCH * len(sure):
                    if not guide.confirm(names):
                        refuted = names
                        break
                    guide.watch(guide.recipe_of(names))
                    sure, path = names, []
                    yield sure
            if refuted is None and path and (sure is None or len(path[-1]) < len(sure)):
                if guide.confirm(path[-1]):
                    yield path[-1]
                else:
                    refuted = path[-1]
            if refuted is None:
                return
            if not guide.learn(guide.recipe_of(refuted)):
                # What refutes it is no single input: a metric over all of them, or the user's command.
                for names in shrinking(lambda names: guide.glance(names) and guide.confirm(names)):
                    if sure is None or len(names) < len(sure):
                        sure = names
                        yield sure
                return
    except BudgetSpentError:
        smaller = [names for names in path if sure is None or len(names) < len(sure)]
        for back in BACK:
            if back <= len(smaller) and guide.settle(smaller[-back]):
                yield smaller[-back]
                break
        raise
