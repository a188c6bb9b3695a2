"""Classes and equations → one integer exponent a class, by integer programming (HiGHS through ``scipy.optimize.milp``)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from fp16fix.errors import ReplayError
from fp16fix.repair.classes import Class, Classes, Contact
from fp16fix.repair.windows import WIDEST

UNFIT = 500.0
"""Cost of a tensor that no exponent makes fit; more by its size. Nothing else may outweigh it."""
MUL = 12.0
"""Cost of a run-time Mul; more by the megabytes it moves."""
BORDER = 3.0
"""Cost of a Mul at the interface."""
MARGIN = 2.0
"""Cost of an octave of head-room missing in one tensor."""
BIT = 1.0
"""Cost of a bit lost in one tensor; four times that from the fifth bit on."""
RUIN = 40.0
"""Cost of an octave beyond which nothing useful is left of a tensor."""
MOVED = 0.01
"""Cost of an octave away from 0: among equals the smaller change wins."""
STRAY = 1e-3
"""The same for initializers, which are folded for nothing."""
INFEASIBLE = 2
"""``scipy.optimize.milp``'s status."""
NEAR = 3
"""Equations between a class in trouble and the farthest class that may move when the whole program takes too long."""


@dataclass(slots=True)
class Program:
    """An integer program under construction, row by row.

    Slacks could be real numbers, but then HiGHS solves again for them and says so on standard output.
    """

    costs: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    entries: list[tuple[int, int, float]] = field(default_factory=list)
    least: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)

    def variable(self, cost: float, lower: float, upper: float) -> int:
        self.costs.append(cost)
        self.lower.append(lower)
        self.upper.append(upper)
        return len(self.costs) - 1

    def row(self, terms: Iterable[tuple[int, float]], least: float, most: float = np.inf) -> None:
        self.entries += [(len(self.least), variable, factor) for variable, factor in terms]
        self.least.append(least)
        self.most.append(most)

    def solve(self, limit_s: float) -> tuple[np.ndarray | None, float, bool]:
        """(values or None, cost, proven optimal).

        Raises:
            ReplayError: no values satisfy all rows.
        """
        rows, columns, factors = zip(*self.entries, strict=True)
        matrix = coo_array((factors, (rows, columns)), shape=(len(self.least), len(self.costs))).tocsr()
        found = milp(
            np.asarray(self.costs),
            integrality=np.ones(len(self.costs)),
            bounds=Bounds(np.asarray(self.lower), np.asarray(self.upper)),
            constraints=LinearConstraint(matrix, np.asarray(self.least), np.asarray(self.most)),
            options={"time_limit": max(0.1, limit_s), "mip_rel_gap": 1e-3},
        )
        if found.status == INFEASIBLE:
            raise ReplayError("the exponents that were fixed contradict the laws of the operators", hint="fix fewer of them")
        return (None if found.x is None else np.asarray(found.x)), float(found.fun or 0.0), found.status == 0


@dataclass(frozen=True, slots=True)
class Solution:
    """Exponents by root (those not named are 0), their cost under the stated model, and how they were found."""

    exponents: Mapping[str, int]
    cost: float
    status: str


def solve(classes: Classes, time_limit_s: float) -> Solution:
    """Solve each connected part in which something is wrong; parts in which nothing is wrong stay at 0.

    A part that yields nothing in its time is solved again with only the neighbourhood of the trouble free, and left at 0 if that
    fails too. Cost: see the constants of this module.
    """
    deadline = time.monotonic() + time_limit_s
    exponents: dict[str, int] = {}
    cost, status = 0.0, "nothing to do"
    parts = [part for part in components(classes) if any(troubled(classes.by_root[root]) for root in part)]
    for index, part in enumerate(sorted(parts, key=len)):
        share = max(0.1, (deadline - time.monotonic()) / (len(parts) - index))
        found, spent, proven = solve_part(classes, part, share * 0.7)
        if found is None:
            near = neighbourhood(classes, part)
            found, spent, _ = solve_part(classes, near, share * 0.3)
        exponents |= found or {}
        cost += spent
        status = "time limit" if not proven or status == "time limit" else "optimal"
    return Solution({root: e for root, e in exponents.items() if e}, cost, status)


def troubled(each: Class) -> bool:
    """Whether exponent 0 does harm, or is ruled out."""
    return bool(each.fixed) or any(window.troubled for window, _ in each.windows.values())


def components(classes: Classes) -> list[list[str]]:
    """Roots connected by equations, in a fixed order."""
    parent = {root: root for root in classes.by_root}

    def find(root: str) -> str:
        while parent[root] != root:
            parent[root] = parent[parent[root]]
            root = parent[root]
        return root

    for row in classes.rows:
        first, *rest = (find(root) for root in row)
        for other in rest:
            parent[find(other)] = find(first)
    found: dict[str, list[str]] = {}
    for root in classes.by_root:
        found.setdefault(find(root), []).append(root)
    return list(found.values())


def neighbourhood(classes: Classes, part: list[str]) -> list[str]:
    """Roots of ``part`` within ``NEAR`` equations of trouble."""
    inside = set(part)
    near = {root for root in part if troubled(classes.by_root[root])}
    for _ in range(NEAR):
        near |= {root for row in classes.rows if not near.isdisjoint(row) for root in row if root in inside}
    return [root for root in part if root in near]


def solve_part(classes: Classes, part: list[str], limit_s: float) -> tuple[dict[str, int] | None, float, bool]:
    """Exponents of the roots in ``part`` while every other root stays at 0."""
    program = Program()
    columns = {root: add_class(program, classes.by_root[root]) for root in part}
    for row in classes.rows:
        terms = [(columns[root], float(factor)) for root, factor in row.items() if root in columns]
        if terms:
            program.row(terms, 0.0, 0.0)
    values, cost, proven = program.solve(limit_s)
    if values is None:
        return None, 0.0, False
    return {root: round(values[column]) for root, column in columns.items()}, cost, proven


def add_class(program: Program, each: Class) -> int:
    """The exponent of a class, its bounds, and what each choice costs."""
    least = max([-WIDEST, *(window.hard for window, _ in each.windows.values() if window.hard <= 0)])
    low, high = (least, WIDEST) if each.fixed is None else (each.fixed, each.fixed)
    e = program.variable(0.0, low, high)
    size = program.variable(MOVED if each.runtime else STRAY, 0.0, np.inf)
    program.row([(size, 1.0), (e, 1.0)], 0.0)
    program.row([(size, 1.0), (e, -1.0)], 0.0)
    add_windows(program, each, e)
    if each.borders:
        add_switch(program, e, BORDER * len(each.borders))
    if each.contacts:
        add_switch(program, e, sum(contact_cost(c) for c in {c.tensor: c for c in each.contacts.values()}.values()))
    return e


def contact_cost(contact: Contact) -> float:
    """A Mul, and what exponent 0 does to the copy it makes: so that no tensor is lifted only to be dropped again."""
    lost = max(0, -contact.window.keep)
    harm = unfit_cost(contact.size) if contact.window.hard > 0 else BIT * lost + 3.0 * BIT * max(0, lost - 4)
    return MUL + min(MUL, contact.size / 2**20) + harm


def unfit_cost(size: float) -> float:
    return UNFIT + min(UNFIT, size / 2**16)


def add_switch(program: Program, e: int, cost: float) -> None:
    """``cost`` as soon as ``e`` is not 0."""
    switch = program.variable(cost, 0.0, 1.0)
    program.row([(e, 1.0), (switch, float(WIDEST))], 0.0)
    program.row([(e, -1.0), (switch, float(WIDEST))], 0.0)


def add_windows(program: Program, each: Class, e: int) -> None:
    """Overflow by a binary for each level, head-room and lost bits by convex slack for each level."""
    over: dict[int, float] = {}
    short: dict[int, float] = {}
    lost: dict[int, float] = {}
    for window, size in each.windows.values():
        if window.hard > 0:
            over[window.hard] = over.get(window.hard, 0.0) + unfit_cost(size)
        if window.soft > window.hard:
            short[window.soft] = short.get(window.soft, 0.0) + MARGIN
        if window.keep < WIDEST:
            lost[window.keep] = lost.get(window.keep, 0.0) + BIT
            lost[window.keep + 4] = lost.get(window.keep + 4, 0.0) + 3.0 * BIT
        if window.gone < WIDEST:
            lost[window.gone] = lost.get(window.gone, 0.0) + RUIN
    for level in sorted(over):
        unfit = program.variable(over[level], 0.0, 1.0)
        program.row([(e, 1.0), (unfit, float(level + WIDEST))], float(level))
    for level in sorted(short):
        slack = program.variable(short[level], 0.0, np.inf)
        program.row([(e, 1.0), (slack, 1.0)], float(level))
    for level in sorted(lost):
        slack = program.variable(lost[level], 0.0, np.inf)
        program.row([(slack, 1.0), (e, -1.0)], -float(level))
