"""Whatever is asked first, a search ends with what whole verdicts hold, and with as little."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from fp16fix.oracles.oracle import Probe, Score
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Silent, Stages
from fp16fix.search.guide import Guide, guided
from fp16fix.search.journal import Journal
from fp16fix.search.judge import BudgetSpentError, Judge
from fp16fix.search.shrink import Holds, Names, best, shrink
from fp16fix.search.trials import trials
from tests.recipes import pins
from tests.search.test_leave_out import HEAD, STREAM, given, wave

NODES = tuple(f"n{number:02}" for number in range(32))
DAY, NIGHT, MIXED = Probe("day"), Probe("night"), Probe("day + night", blended=True)

Spare = Callable[[Names], float]
"""dB above what is asked with some nodes pinned."""


def needs(*nodes: str) -> Spare:
    return lambda names: -1.0 if set(nodes) - names else 1.0 + len(names) / 100.0


class World:
    """Inputs, each with its own mind; a verdict is that of the worst, and counts as many passes as there are inputs."""

    def __init__(self, inputs: Mapping[Probe, Spare], objection: Spare = lambda _: math.inf, calls: float = math.inf) -> None:
        self.inputs, self.passes, self.told = inputs, 0, list[tuple[Names, bool, bool]]()
        self.judge = Judge(lambda recipe: self.whole(recipe, objection), budget_calls=calls)
        self.emulator = SimpleNamespace(probe=self.probe)

    def probe(self, recipe: Recipe, probe: Probe) -> Score:
        self.passes += 1
        spare = self.inputs[probe](frozenset(recipe.wide))
        return Score(spare >= 0.0, spare_db=spare)

    def whole(self, recipe: Recipe, objection: Spare) -> Score:
        scores = {probe: self.probe(recipe, probe).spare_db for probe in self.inputs}
        worst = min(scores, key=lambda probe: scores[probe])
        spare = min(scores[worst], objection(frozenset(recipe.wide)))
        return Score(spare >= 0.0, spare_db=spare, nearest=(worst,))

    def holds(self, search: str, recipe_of: Callable[[Names], Recipe], words: object, tick: object, *, least_db: float) -> Holds:
        def ask(names: Names) -> bool:
            score = self.judge.ask(recipe_of(names)).score
            self.tell(recipe_of(names), search, "", score)
            return score.good is True and score.spare_db >= least_db

        return ask

    def score(self, recipe: Recipe, search: str, tried: str) -> Score:
        return self.judge.oracle(recipe)

    def tell(self, recipe: Recipe, search: str, tried: str, score: Score, *, alone: bool = False) -> None:
        self.told.append((frozenset(recipe.wide), score.good is True, alone))

    def guide(self, least_db: float = 0.0, *, fails: bool = True) -> Guide:
        recipe = pins()
        return Guide(self, "test", lambda names: pins(*sorted(names)), str, least_db=least_db, fails=recipe if fails else None)  # type: ignore[arg-type]

    def search(self, **keys: object) -> Iterator[Names]:
        return guided(lambda by: shrink(NODES, by, ranking=NODES), self.guide(**keys))  # type: ignore[arg-type]


def test_it_ends_with_what_whole_verdicts_find_and_takes_fewer_passes() -> None:
    inputs = {Probe(f"{number}"): needs("n03", "n07", "n11") for number in range(16)}
    plain, led = World(inputs), World(inputs)
    ask = plain.holds("", lambda names: pins(*sorted(names)), None, None, least_db=0.0)
    expected = best(shrink(NODES, ask, ranking=NODES)).best
    found = list(led.search())
    assert expected is not None
    assert set(found[-1]) == set(expected) == {"n03", "n07", "n11"}
    assert led.passes < plain.passes / 3
    assert all(led.judge.good(pins(*sorted(names))) for names in found)
    assert [len(names) for names in found] == sorted({len(names) for names in found}, reverse=True), "smaller and smaller"


def test_an_input_that_refutes_the_end_is_asked_from_then_on() -> None:
    """Nobody hears of the night, which has plenty to spare or nothing, before what is good by day is judged."""

    def day(names: Names) -> float:
        return 1.0 if set(NODES[:13]) <= names else -5.0

    def night(names: Names) -> float:
        return 50.0 if set(NODES[:14]) <= names else -1.0

    world = World({DAY: day, NIGHT: night})
    found = list(world.search())
    assert found[-1] == frozenset(NODES[:14])
    assert [names for names, good, alone in world.told if not alone and not good] == [frozenset(NODES[:13])]


def test_what_holds_is_watched_where_it_is_nearest_to_failing() -> None:
    """All that holds has least to spare on the blend: what it refutes is not judged any more."""

    def mixed(names: Names) -> float:
        return 0.5 if "n01" in names else -0.5

    world = World({DAY: lambda names: 3.0 if "n03" in names else -9.0, MIXED: mixed})
    assert list(world.search())[-1] == frozenset({"n01", "n03"})
    assert not [names for names, good, alone in world.told if not alone and not good]
    assert [names for names, good, alone in world.told if alone and not good and "n03" in names]


@pytest.mark.parametrize("fails", [True, False])
def test_where_no_single_input_refutes_whole_verdicts_lead(fails: bool) -> None:
    """A metric over all samples, or the user's command."""
    world = World({DAY: needs("n03")}, objection=needs("n05", "n30"))
    assert list(world.search(fails=fails))[-1] == {"n03", "n05", "n30"}


def test_where_verdicts_lead_nothing_larger_than_was_found_is_yielded() -> None:
    world = World({DAY: needs("n06", "n07")}, objection=lambda names: 1.0 if len(names) >= 6 else -1.0)
    assert [len(names) for names in world.search()] == [8, 6]


def test_the_margin_is_asked_of_single_inputs_too() -> None:
    world = World({DAY: lambda names: len(names) - 2.0, NIGHT: needs("n00")})
    assert len(list(world.search(least_db=1.0))[-1]) == 3
    assert not [names for names, _, alone in world.told if not alone and len(names) < 3], "it is refuted by one input"
    assert best(World({DAY: lambda names: len(names) - 2.0}).search(least_db=40.0)).best is None


@pytest.mark.parametrize("calls", [3, 6, 9, 12, 20])
def test_out_of_budget_the_smallest_that_holds_is_what_is_used(calls: int) -> None:
    world = World({DAY: needs(*NODES[:9]), NIGHT: needs(*NODES[:11])}, calls=calls)
    result = best(world.search())
    assert not result.complete
    assert "budget" in result.stopped
    assert result.best is None or set(NODES[:11]) <= result.best
    let_through = [names for names, good, alone in world.told if alone and good and set(NODES[:11]) <= names]
    assert (result.best is None) <= (not let_through)


def test_what_is_remembered_is_no_call() -> None:
    world = World({DAY: needs("n03")})
    guide = world.guide()
    guide.learn(pins())
    before = world.judge.calls
    assert guide.glance(frozenset({"n03"}))
    assert guide.glance(frozenset({"n03"}))
    assert not guide.glance(frozenset({"n04"}))
    assert not guide.glance(frozenset({"n04"}))
    assert world.judge.calls == before + 2
    world.judge.budget_calls = world.judge.calls
    assert guide.glance(frozenset({"n03"}))
    with pytest.raises(BudgetSpentError):
        guide.glance(frozenset({"n05"}))


def test_what_refuted_last_is_asked_first() -> None:
    inputs = {DAY: needs("n03"), NIGHT: needs("n04")}
    world = World(inputs)
    guide = world.guide()
    guide.probes = [DAY, NIGHT]
    assert not guide.glance(frozenset({"n03"}))
    assert guide.probes == [NIGHT, DAY]
    before = world.passes
    assert not guide.glance(frozenset({"n03", "n05"}))
    assert world.passes == before + 1


def test_a_journal_keeps_where_a_verdict_was_nearest_to_failing(tmp_path: Path) -> None:
    score = Score(good=True, figure=61.0, spare_db=1.0, nearest=(Probe("day", seed=2), MIXED, DAY))
    with Journal(tmp_path / "j.jsonl", {}) as journal:
        Judge(lambda _: score, journal).ask(pins("a"))
    with Journal(tmp_path / "j.jsonl", {}) as journal:
        assert Judge(lambda _: pytest.fail("asked again"), journal).ask(pins("a")).score == score


def test_one_input_of_a_model_that_draws_says_nothing_by_itself(tmp_path: Path) -> None:
    """Run alone, it draws other numbers than among the others."""
    drawing = HEAD + "g (float[4,8] x) => (float[4,8] y) { n = RandomNormalLike <seed = 1.0> (x)  y = Add (x, n) }"
    nearest = []
    for number, text in enumerate((STREAM, drawing)):
        found = given(tmp_path / str(number), text, {"x": wave(1.0)}, {"x": wave(0.5)})
        with trials(found, Stages(Silent())) as tried:
            nearest.append(tried.score(found.plain, "test", "plain").nearest)
    assert nearest == [(Probe("0"),), ()]
