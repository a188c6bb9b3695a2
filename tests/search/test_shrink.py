from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp16fix.oracles.oracle import Score
from fp16fix.passes.recipe import Recipe
from fp16fix.search.blocks import block_border, by_block
from fp16fix.search.judge import BudgetSpentError, Judge
from fp16fix.search.shrink import Culprits, best, culprits, shrink
from tests.recipes import clamp, pins

Names = frozenset[str]


class Counting:
    def __init__(self, predicate: Callable[[Names], bool]) -> None:
        self.predicate = predicate
        self.asked: list[Names] = []

    def __call__(self, names: Names) -> bool:
        self.asked.append(names)
        return self.predicate(names)


def names(count: int) -> list[str]:
    return [f"/layer.{index // 8}/part.{index % 8 // 4}/op_{index}" for index in range(count)]


def last(steps: Iterator[Names]) -> Names | None:
    result = None
    for result in steps:  # noqa: B007 - the last one is wanted
        pass
    return result


@st.composite
def predicates(draw: st.DrawFn) -> tuple[list[str], Callable[[Names], bool]]:
    """Any predicate over up to seven elements that holds for all of them: nothing monotone about it."""
    elements = names(draw(st.integers(1, 7)))
    subsets = [frozenset(c) for k in range(len(elements)) for c in itertools.combinations(elements, k)]
    holding = frozenset(draw(st.sets(st.sampled_from(subsets)))) | {frozenset(elements)}
    return elements, lambda pins: pins in holding


@given(predicates(), st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=200, deadline=None)
def test_last_set_holds_and_nothing_can_be_taken_away(
    problem: tuple[list[str], Callable[[Names], bool]], order: random.Random, is_ranked: bool
) -> None:
    elements, predicate = problem
    ranking = order.sample(elements, order.randint(1, len(elements))) if is_ranked else []
    holds = Counting(predicate)
    steps = list(shrink(elements, holds, ranking=ranking))
    assert steps
    assert all(predicate(step) for step in steps), "every prefix is usable"
    assert all(len(later) < len(earlier) for earlier, later in itertools.pairwise(steps))
    assert not any(predicate(steps[-1] - {name}) for name in steps[-1])
    assert len(set(holds.asked)) == len(holds.asked), "nothing is asked twice"


@given(st.integers(20, 400), st.integers(0, 5), st.integers(0, 10**6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_scattered_needles_are_found_exactly(count: int, needles: int, seed: int, is_ranked: bool) -> None:
    elements = names(count)
    rng = random.Random(seed)
    wanted = frozenset(rng.sample(elements, needles))
    ranking = rng.sample(elements, count) if is_ranked else ()
    holds = Counting(lambda pins: wanted <= pins)
    assert last(shrink(elements, holds, ranking=ranking)) == wanted
    assert len(holds.asked) <= 6 + needles * (2 * count.bit_length() + 3)


def test_whole_set_that_does_not_hold_yields_nothing() -> None:
    for ranking in ((), ["/layer.0/part.0/op_1"]):
        holds = Counting(lambda pins: False)
        assert list(shrink(names(9), holds, ranking=ranking)) == []
        assert frozenset(names(9)) in holds.asked


def test_nothing_is_needed() -> None:
    holds = Counting(lambda pins: True)
    assert list(shrink(names(100), holds)) == [frozenset()]
    assert len(holds.asked) == 1


def test_a_good_ranking_makes_it_short() -> None:
    elements = names(5000)
    five = [elements[k] for k in (17, 900, 2500, 2501, 4999)]
    holds = Counting(lambda pins: frozenset(five) <= pins)
    assert last(shrink(elements, holds, ranking=five)) == frozenset(five)
    assert len(holds.asked) <= 12


def test_costliest_is_given_up_first() -> None:
    elements = ["cheap", "middling", "dear"]
    cost = {"cheap": 1.0, "middling": 10.0, "dear": 100.0}
    assert last(shrink(elements, bool, cost=cost)) == frozenset({"cheap"})
    assert last(shrink(elements[::-1], bool, cost=cost)) == frozenset({"cheap"})


def test_whole_blocks_go_before_single_elements() -> None:
    elements = [f"/block.{b}/op_{k}" for b in range(4) for k in range(16)]
    needed = frozenset(name for name in elements if name.startswith("/block.2/"))
    holds = Counting(lambda pins: needed <= pins)
    assert last(shrink(elements, holds)) == needed
    halving = [asked for asked in holds.asked if len(asked) >= 16]
    assert all(len(asked & frozenset(elements[b * 16 : b * 16 + 16])) in (0, 16) for asked in halving for b in (0, 1, 3))


def test_blocks_are_contiguous_and_parted_at_their_borders() -> None:
    elements = ["/a/x", "/b/x", "/a/y", "/b/y", "/a/z", "/b/z"]
    order = by_block(elements, {"/b/y": 9.0})
    assert order == ["/b/y", "/b/x", "/b/z", "/a/x", "/a/y", "/a/z"]
    assert block_border(order) == 3
    assert block_border(["p", "q"]) == 1


def test_stopping_keeps_the_best_so_far() -> None:
    elements = names(64)
    judge = Judge(lambda recipe: Score(elements[3] in recipe.wide), budget_calls=6)
    found = best(shrink(elements, lambda names: judge.good(pins(*names))))
    assert not found.complete
    assert "6 oracle calls" in found.stopped
    assert found.best is not None
    assert elements[3] in found.best
    assert len(found.best) < 64

    def interrupted() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    assert best(interrupted()).best == 1
    assert best(interrupted()).stopped == "interrupted"
    assert best(iter(())).best is None


def last_culprits(elements: list[str], ranking: list[str], holds: Callable[[Names], bool]) -> tuple[Culprits | None, int]:
    counting = Counting(holds)
    found = best(culprits(elements, ranking, counting))
    assert found.complete
    return found.best, len(counting.asked)


@pytest.mark.parametrize("count", [1000, 5000])
def test_one_culprit_takes_three_calls(count: int) -> None:
    elements = names(count)
    guilty = elements[count * 2 // 3]
    found, calls = last_culprits(elements, [guilty, elements[4]], lambda pins: guilty in pins)
    assert found == Culprits(frozenset({guilty}), (frozenset({guilty}),))
    assert calls <= 3


@pytest.mark.parametrize("count", [1000, 5000])
def test_five_culprits_take_at_most_25_calls_even_among_false_suspects(count: int) -> None:
    elements = names(count)
    rng = random.Random(count)
    five = rng.sample(elements, 5)
    ranking = [*five[:2], elements[0], *five[2:4], elements[1], elements[2], five[4], elements[3]]
    found, calls = last_culprits(elements, ranking, lambda pins: frozenset(five) <= pins)
    assert found is not None
    assert found.pins == frozenset(five)
    assert set(found.faults) == {frozenset({name}) for name in five}
    assert calls <= 25


def test_two_faults_that_only_hurt_together_are_both_found() -> None:
    elements = names(1000)
    one, other = elements[100], elements[700]
    either, calls = last_culprits(elements, [one, elements[5], other], lambda pins: one in pins or other in pins)
    assert either is not None
    assert either.pins == {one}
    assert either.faults == (frozenset({one, other}),)
    assert calls <= 8
    both, _ = last_culprits(elements, [one, elements[5], other], lambda pins: one in pins and other in pins)
    assert both is not None
    assert both.pins == {one, other}


@given(predicates())
@settings(max_examples=100, deadline=None)
def test_each_fault_fails_by_itself_and_is_minimal(problem: tuple[list[str], Callable[[Names], bool]]) -> None:
    elements, predicate = problem
    whole = frozenset(elements)
    found, _ = last_culprits(elements, elements[::-1], predicate)
    assert found is not None
    for fault in found.faults:
        own = fault & found.pins
        assert len(own) == 1, "each fault belongs to one pin"
        assert not predicate(whole - fault)
        assert all(predicate(whole - (fault - {name})) for name in fault - own)


def test_sets_of_edits_shrink_too() -> None:
    edits = {edit.key: edit for edit in (clamp(f"n{k}", "mask" if k == 2 else "") for k in range(6))}
    keys = list(edits)
    assert keys[2] == "clamp@n2@mask"

    def oracle(recipe: Recipe) -> Score:
        return Score({keys[1], keys[4]} <= {edit.key for edit in recipe.changes} and recipe.wide == {"pinned": "fp32"})

    def recipe_of(names: Names) -> Recipe:
        return Recipe((*(edits[name] for name in sorted(names)), *pins("pinned").edits))

    judge = Judge(oracle)
    assert last(shrink(keys, lambda names: judge.good(recipe_of(names)))) == frozenset({keys[1], keys[4]})
    poor = Judge(oracle, budget_calls=1)
    with pytest.raises(BudgetSpentError):
        last(shrink(keys, lambda names: poor.good(recipe_of(names))))
