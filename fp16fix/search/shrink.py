"""A set that holds → ever smaller sets that hold, the last one 1-minimal: non-contiguous, by block first, costliest first.

Searches are generators: each set they yield was tested and holds, so any prefix of a search is a usable answer. Nothing assumes that
more pins are better (monotonicity); it only makes the search shorter. The elements are names: edits by their keys, or the nodes they place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fp16fix.errors import BackendError
from fp16fix.search.blocks import block_border, by_block, middle
from fp16fix.search.judge import BudgetSpentError

Names = frozenset[str]
Holds = Callable[[Names], bool]
"""Whether the verdict passes with just these elements."""
Split = Callable[[Sequence[str]], int]
"""Where to part a list of at least two elements."""
T = TypeVar("T")

ACCOMPLICE_CALLS = 48
"""Oracle calls that the search for what a node hurts with may take."""
INTERRUPTED = "interrupted"
"""``Result.stopped`` after Ctrl-C."""
FEW = 8
"""Up to this many elements are tried one by one: halving would save nothing when most of them are needed."""


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """How a search ended."""

    best: T | None
    """The last thing it yielded; None if it yielded nothing."""
    complete: bool
    """False if it was stopped: ``best`` holds, but something smaller may too."""
    stopped: str = ""
    """What stopped it."""


def best(steps: Iterable[T]) -> Result[T]:
    """Run a search to its end, or to the end of the budget, until Ctrl-C or until the oracle breaks: what it had found by then stands."""
    last: T | None = None
    try:
        for step in steps:
            last = step
    except (BudgetSpentError, BackendError) as error:
        return Result(last, complete=False, stopped=error.what)
    except KeyboardInterrupt:
        return Result(last, complete=False, stopped=INTERRUPTED)
    return Result(last, complete=True)


def shrink(
    elements: Sequence[str], holds: Holds, *, ranking: Sequence[str] = (), cost: Mapping[str, float] | None = None
) -> Iterator[Names]:
    """Smaller and smaller subsets that hold; yields nothing if not even the whole set does.

    Args:
        elements: in graph order (or any other fixed one).
        holds: the predicate; asked once per set.
        ranking: the most suspicious first, as the shadow run has it; elements it lacks come last. Without one the search goes by block.
        cost: what an element costs, any unit; the costliest are given up first. 1 where it says nothing.
    """
    holds, cost = remembering(holds), cost or {}
    kept: Names | None
    needed = 0
    if holds(frozenset()):
        yield frozenset()
        return
    if ranking:
        order = ranked(elements, ranking, cost)
        kept = yield from shortest_prefix(order, holds)
        # A shorter prefix was tried and failed, so its last element is left to the final test of single elements.
        order, split, needed = order[::-1], middle, 1
    else:
        order, split = by_block(elements, cost), block_border
        kept = frozenset(elements) if holds(frozenset(elements)) else None
        if kept is not None:
            yield kept
    if kept is None:
        return
    order = [name for name in order if name in kept]
    if len(order) > FEW:
        kept = yield from prune(order[needed:], kept, holds, split)
    yield from one_by_one([name for name in order if name in kept], kept, holds)


def shortest_prefix(order: Sequence[str], holds: Holds) -> Generator[Names, None, Names | None]:
    """Top 1, 2, 4, … until it holds, then bisection of the last step. Returns the prefix, None if none holds."""
    low, high = 0, 1
    while not holds(frozenset(order[:high])):
        if high >= len(order):
            return None
        low, high = high, min(2 * high, len(order))
    yield frozenset(order[:high])
    while high - low > 1:
        between = (low + high) // 2
        if holds(frozenset(order[:between])):
            high = between
            yield frozenset(order[:high])
        else:
            low = between
    # A badly ranked culprit that is the only one: the element that made the difference does by itself.
    if high > 2 and holds(frozenset(order[high - 1 : high])):
        yield frozenset(order[high - 1 : high])
        return frozenset(order[high - 1 : high])
    return frozenset(order[:high])


def prune(order: Sequence[str], kept: Names, holds: Holds, split: Split) -> Generator[Names, None, Names]:
    """Drop large parts before small ones, each in the order given; a part that is needed is split. Returns what is kept."""
    parts = deque([order])
    while parts:
        part = parts.popleft()
        rest = kept - frozenset(part)
        if holds(rest):
            kept = rest
            yield kept
        elif len(part) > 1:
            border = split(part)
            parts += [part[:border], part[border:]]
    return kept


def one_by_one(order: Sequence[str], kept: Names, holds: Holds) -> Iterator[Names]:
    """Drop single elements until none can go: the result is 1-minimal whatever the predicate."""
    changed = True
    while changed:
        changed = False
        for name in order:
            if name in kept and holds(kept - {name}):
                kept -= {name}
                changed = True
                yield kept


@dataclass(frozen=True, slots=True)
class Minimal:
    """The smallest set of nodes that must be wide for an oracle to be content."""

    pins: tuple[str, ...]
    """In graph order."""
    together: tuple[tuple[str, ...], ...]
    """Sets of nodes that only hurt together: with everything else wide, each fails as a whole and not if one of it is wide."""
    oracle: str
    """The command, or what else was asked, in words."""
    complete: bool
    """False if the search was stopped: the pins do, but fewer may too."""
    stopped: str
    """What stopped it, or why there is no answer; empty if all went well."""
    calls: int
    """Oracle calls of this run; answers out of the journal are free."""
    flaky: int
    """Candidates on which repeated runs disagreed."""


@dataclass(frozen=True, slots=True)
class Culprits:
    """What must run wide, and which elements do harm."""

    pins: Names
    """Nothing can be taken from these without failing."""
    faults: tuple[Names, ...] = ()
    """For each pin the smallest set around it that fails with everything else wide: itself, or itself and what it only hurts with.

    Pins for which that was not found soon are left out."""


def culprits(
    elements: Sequence[str], ranking: Sequence[str], holds: Holds, *, cost: Mapping[str, float] | None = None
) -> Iterator[Culprits]:
    """The smallest set that must be wide; then, if it is small, for each of its members whether it hurts alone or only with others.

    Args:
        elements: everything that can be wide.
        ranking: the most suspicious first.
        holds: whether the verdict passes with these wide.
        cost: see ``shrink``.
    """
    holds = remembering(holds)
    pins: Names = frozenset()
    for pins in shrink(elements, holds, ranking=ranking or elements, cost=cost):
        yield Culprits(pins)
    if len(pins) > FEW:
        return
    faults: list[Names] = []
    for name in (one for one in ranked(elements, ranking, {}) if one in pins):
        faults.append(accomplices(name, pins, elements, ranking, holds))
        yield Culprits(pins, tuple(fault for fault in dict.fromkeys(faults) if fault))


class _EnoughError(Exception):
    """A search for accomplices that leads nowhere."""


def accomplices(name: str, pins: Names, elements: Sequence[str], ranking: Sequence[str], holds: Holds) -> Names:
    """The smallest set with ``name``, and none of the other pins, that fails when only it is left in FP16; empty if not found soon.

    A node that only hurts together with hundreds of others has no accomplices worth the name, and they would cost a call each.
    """
    whole, left = frozenset(elements), ACCOMPLICE_CALLS
    others = [one for one in elements if one not in pins]

    def fails(partners: Names) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            raise _EnoughError
        return not holds(whole - partners - {name})

    partners: Names = frozenset()
    try:
        for partners in shrink(others, fails, ranking=ranking or others):  # noqa: B007 - the last one is the answer
            pass
    except _EnoughError:
        return frozenset()
    return partners | {name}


def remembering(holds: Holds) -> Holds:
    """The same predicate, asked once per set."""
    seen: dict[Names, bool] = {}

    def ask(names: Names) -> bool:
        if names not in seen:
            seen[names] = holds(names)
        return seen[names]

    return ask


def ranked(elements: Sequence[str], ranking: Sequence[str], cost: Mapping[str, float]) -> list[str]:
    """Every element: those ranked in that order, then the rest, the cheapest first."""
    place = dict.fromkeys(ranking)
    rest = [name for name in dict.fromkeys(elements) if name not in place]
    there = set(elements)
    return [*(name for name in place if name in there), *sorted(rest, key=lambda name: cost.get(name, 1.0))]
