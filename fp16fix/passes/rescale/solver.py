"""Classes → the exponent of every class: what is healthy is left alone, the rest is solved whole, or piece by piece out of time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from fp16fix.passes.rescale.classes import Class, Classes
from fp16fix.passes.rescale.program import Answers, cost, solve_part

WHOLE = 0.6
"""Share of the time that goes to solving a part in one piece."""
PIECE = 150
"""Classes in a piece: HiGHS solves so many in a few hundredths of a second."""
PIECE_S = 1.0
"""Seconds for one piece."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Exponents by root (those not named are 0), their cost under the stated model, and how they were found."""

    exponents: Mapping[str, int]
    cost: float
    status: str


def solve(classes: Classes, time_limit_s: float) -> Solution:
    """Solve each connected part in which something is wrong; parts in which nothing is wrong stay at 0.

    A part without a proven answer in its share of the time is improved piece by piece from the best answer found (from 0 if there
    is none), which is legal at every moment; not so where exponents were fixed, which takes the whole. The cost is that of
    everything at its exponent; see the constants of ``program``.

    Raises:
        ReplayError: exponents that were fixed contradict the laws.
    """
    deadline = time.monotonic() + time_limit_s
    exponents: dict[str, int] = {}
    known: Answers = {}
    parts = sorted((part for part in components(classes) if any(troubled(classes.by_root[root]) for root in part)), key=len)
    status = "optimal" if parts else "nothing to do"
    for index, part in enumerate(parts):
        share = (deadline - time.monotonic()) / (len(parts) - index)
        until = time.monotonic() + share
        found, proven = solve_part(classes, part, {}, share * WHOLE, known)
        exponents |= found or {}
        if not proven:
            status = "time limit"
        if not proven and not any(classes.by_root[root].fixed for root in part):
            improve(classes, part, exponents, until, known)
    moved = {root: e for root, e in exponents.items() if e}
    return Solution(moved, sum(cost(classes.by_root[root], exponents.get(root, 0)) for part in parts for root in part), status)


def troubled(each: Class) -> bool:
    """Whether exponent 0 does harm, or is ruled out."""
    return bool(each.fixed) or any(window.troubled for window, _ in each.windows.values())


def components(classes: Classes) -> list[list[str]]:
    """Roots connected by equations, in a fixed order."""
    seen: set[str] = set()
    found = []
    for root in classes.by_root:
        if root not in seen:
            found.append(ball(classes, root, len(classes.by_root)))
            seen |= set(found[-1])
    return found


def ball(classes: Classes, centre: str, size: int) -> list[str]:
    """Roots around ``centre``, nearest first, at most about ``size``."""
    found = {centre: None}
    queue = [centre]
    for root in queue:
        if len(found) >= size:
            break
        for number in classes.numbers[root]:
            new = [other for other in classes.rows[number] if other not in found]
            queue += new
            found |= dict.fromkeys(new)
    return list(found)


def improve(classes: Classes, part: list[str], exponents: dict[str, int], until: float, known: Answers) -> None:
    """Solve balls around the classes in trouble one after another, all else held."""
    settled: set[str] = set()
    for centre in (root for root in part if troubled(classes.by_root[root])):
        left = until - time.monotonic()
        if left <= 0.0:
            return
        if centre in settled:
            continue
        piece = ball(classes, centre, PIECE)
        found, _ = solve_part(classes, piece, exponents, min(PIECE_S, left), known)
        exponents |= found or {}
        settled |= set(piece[: PIECE // 3])
