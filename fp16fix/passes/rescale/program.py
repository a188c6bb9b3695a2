"""Some classes and their equations → the cheapest exponents, by integer programming (HiGHS through ``scipy.optimize.milp``)."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from fp16fix.errors import ReplayError
from fp16fix.passes.rescale.classes import Class, Classes, Contact
from fp16fix.passes.rescale.windows import WIDEST

UNFIT = 500.0
"""Cost of a tensor that no exponent makes fit; more by its size. Nothing else may outweigh it."""
MUL = 12.0
"""Cost of a run-time Mul; more by the megabytes it moves."""
BORDER = 3.0
"""Cost of a Mul at the interface."""
PINNED = 50.0
"""Cost of a tensor that is rescaled and lacks head-room all the same: it, what makes it and what reads it are pinned, so that fifty others
may lose a bit first."""
MARGIN = 2.0
"""Cost of an octave of head-room missing in one tensor."""
BIT = 1.0
"""Cost of a bit lost in one tensor; four times that from the fifth bit on."""
QUIET = 3.0
"""Cost of an octave of head-room missing below what matters by itself: four of them, in a sum of squares and behind its eps, are worth
a Mul."""
RUIN = 40.0
"""Cost of an octave beyond which nothing useful is left of a tensor."""
MOVED = 0.01
"""Cost of an octave away from 0: among equals the smaller change wins."""
STRAY = 1e-3
"""The same for initializers, which are folded for nothing."""
REACH = 64.0
"""What a binary must be worth to release a bound, a power of two above ``WIDEST`` so that HiGHS divides by it without rounding."""
GAP = 1e-3
"""Relative gap at which an answer counts as proven."""
STDOUT, STDERR = 1, 2
INFEASIBLE = 2
"""``scipy.optimize.milp``'s status."""


@contextmanager
def printf_to_stderr() -> Iterator[None]:
    """HiGHS announces some of its retries by C's printf, whatever its options say; standard output belongs to the caller."""
    sys.stdout.flush()
    saved = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    try:
        yield
    finally:
        flush = ctypes.cdll.msvcrt.fflush if os.name == "nt" else ctypes.CDLL(None).fflush
        flush(None)
        os.dup2(saved, STDOUT)
        os.close(saved)


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

    @property
    def key(self) -> Hashable:
        """All of it: programs of equal keys have the same answer."""
        return tuple(tuple(each) for each in (self.costs, self.lower, self.upper, self.entries, self.least, self.most))

    def solve(self, limit_s: float) -> tuple[np.ndarray | None, bool]:
        """(values or None, proven optimal).

        Raises:
            ReplayError: no values satisfy all rows.
        """
        # Repairs without exponents need not wait for its import.
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import coo_array

        rows, columns, factors = zip(*self.entries, strict=True)
        matrix = coo_array((factors, (rows, columns)), shape=(len(self.least), len(self.costs))).tocsr()
        with printf_to_stderr():
            found = milp(
                np.asarray(self.costs),
                integrality=np.ones(len(self.costs)),
                bounds=Bounds(np.asarray(self.lower), np.asarray(self.upper)),
                constraints=LinearConstraint(matrix, np.asarray(self.least), np.asarray(self.most)),
                options={"time_limit": max(0.1, limit_s), "mip_rel_gap": GAP},
            )
        if found.status == INFEASIBLE:
            raise ReplayError("the exponents that were fixed contradict the laws of the operators", hint="fix fewer of them")
        return (None if found.x is None else np.asarray(found.x)), found.status == 0


Answers = dict[Hashable, np.ndarray]
"""What is proven best, by a program's key: blocks that repeat in a model make the same program over and over."""


def solve_part(
    classes: Classes, part: list[str], held: Mapping[str, int], limit_s: float, known: Answers
) -> tuple[dict[str, int] | None, bool]:
    """Exponents of the roots in ``part`` while every other root stays as in ``held`` (0 if absent), and whether they are the best.

    What is ``known`` is not solved again; proven answers are put there.

    Raises:
        ReplayError: there are none.
    """
    program = Program()
    columns = {root: add_class(program, classes.by_root[root]) for root in part}
    for row in classes.rows_with(part):
        terms = [(columns[root], float(factor)) for root, factor in row.items() if root in columns]
        rest = -sum(factor * held.get(root, 0) for root, factor in row.items() if root not in columns)
        program.row(terms, rest, rest)
    key = program.key
    values, proven = (known[key], True) if key in known else program.solve(limit_s)
    if values is not None and proven:
        known[key] = values
    return (None if values is None else {root: round(values[column]) for root, column in columns.items()}), proven


def cost(each: Class, e: int) -> float:
    """What ``add_class`` makes the program pay for exponent ``e``."""
    total = (MOVED if each.runtime else STRAY) * abs(e)
    for window, size in each.windows.values():
        total += unfit_cost(size) if window.hard > max(0, e) else 0.0
        total += PINNED if e and e < window.roomy else 0.0
        total += MARGIN * max(0, window.soft - e) if window.soft > window.hard else 0.0
        total += BIT * max(0, e - window.keep) + 3.0 * BIT * max(0, e - window.keep - 4) if window.keep < WIDEST else 0.0
        total += QUIET * max(0, e - window.quiet) if window.quiet < WIDEST else 0.0
        total += RUIN * max(0, e - window.gone) if window.gone < WIDEST else 0.0
    return total + (BORDER * len(each.borders) + dearest(each) if e else 0.0)


def add_class(program: Program, each: Class) -> int:
    """The exponent of a class, its bounds, and what each choice costs."""
    least = max([-WIDEST, *(window.hard for window, _ in each.windows.values() if window.hard <= 0)])
    low, high = (least, WIDEST) if each.fixed is None else (each.fixed, each.fixed)
    e = program.variable(0.0, low, high)
    size = program.variable(MOVED if each.runtime else STRAY, 0.0, np.inf)
    program.row([(size, 1.0), (e, 1.0)], 0.0)
    program.row([(size, 1.0), (e, -1.0)], 0.0)
    add_windows(program, each, e)
    add_room(program, each, e)
    if each.borders or each.contacts:
        add_switch(program, e, BORDER * len(each.borders) + dearest(each))
    return e


def dearest(each: Class) -> float:
    """The Muls at all contacts of a class; uses of one tensor share one."""
    found: dict[str, float] = {}
    for contact in each.contacts.values():
        found[contact.tensor] = max(contact_cost(contact), found.get(contact.tensor, 0.0))
    return sum(found.values())


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
    program.row([(e, 1.0), (switch, REACH)], 0.0)
    program.row([(e, -1.0), (switch, REACH)], 0.0)


def add_room(program: Program, each: Class, e: int) -> None:
    """``PINNED`` for each tensor that an exponent other than 0 leaves short of head-room: a binary for each level above 0."""
    short: dict[int, float] = {}
    for window, _ in each.windows.values():
        if window.roomy > 0:
            short[window.roomy] = short.get(window.roomy, 0.0) + PINNED
    if not short:
        return
    moved = program.variable(0.0, 0.0, 1.0)
    program.row([(e, 1.0), (moved, REACH)], 0.0)
    program.row([(e, -1.0), (moved, REACH)], 0.0)
    for level in sorted(short):
        lacking = program.variable(short[level], 0.0, 1.0)
        program.row([(e, 1.0), (moved, -REACH), (lacking, 2.0 * REACH)], float(level) - REACH)


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
        if window.quiet < WIDEST:
            lost[window.quiet] = lost.get(window.quiet, 0.0) + QUIET
        if window.gone < WIDEST:
            lost[window.gone] = lost.get(window.gone, 0.0) + RUIN
    for level in sorted(over):
        unfit = program.variable(over[level], 0.0, 1.0)
        program.row([(e, 1.0), (unfit, REACH if level + WIDEST <= REACH else 4 * REACH)], float(level))
    for level in sorted(short):
        slack = program.variable(short[level], 0.0, np.inf)
        program.row([(e, 1.0), (slack, 1.0)], float(level))
    for level in sorted(lost):
        slack = program.variable(lost[level], 0.0, np.inf)
        program.row([(slack, 1.0), (e, -1.0)], -float(level))
