"""Two rows of one model, then and now → what became worse or better, in the model's own units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fp16fix.report.batch import Measure, Row
from fp16fix.report.words import number

NOTICED_DB = 1.0
"""A figure in decibels that moves less is not told: another library's rounding moves it so far."""
NOTICED = 1.12
"""The same as a factor, for figures in units."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was."""

    what: str
    """An output's name, or ``verdict``, ``conditions``, ``inputs``."""
    then: str
    now: str
    worse: bool

    def said(self) -> str:
        """``boxes: 0.02 → 3.1 px``."""
        return f"{self.what}: {self.then} → {self.now}"


@dataclass(frozen=True, slots=True)
class Judged:
    """What is compared of a row; a lock keeps just this."""

    status: str
    figures: tuple[Measure, ...]
    conditions: tuple[str, ...]
    made_up: bool


def judged(row: Row) -> Judged:
    """The part of a row that is compared."""
    return Judged(row.status, row.after, row.conditions, row.made_up)


def changes(then: Judged, now: Judged) -> list[Change]:
    """What changed, the verdict first."""
    found = []
    if then.status != now.status:
        found.append(Change("verdict", then.status, now.status, then.status == "verified"))
    if then.conditions != now.conditions:
        gained = bool({*now.conditions} - {*then.conditions})
        found.append(Change("conditions", ", ".join(then.conditions) or "none", ", ".join(now.conditions) or "none", gained))
    if then.made_up != now.made_up:
        was, is_now = ("made up" if each.made_up else "given" for each in (then, now))
        found.append(Change("inputs", was, is_now, now.made_up))
    return [*found, *figures_changed(then.figures, now.figures)]


def figures_changed(then: Sequence[Measure], now: Sequence[Measure]) -> Iterator[Change]:
    """Outputs whose figure moved, or that came or went."""
    former: Mapping[str, Measure] = {each.output: each for each in then}
    for each in now:
        old = former.get(each.output)
        if old is None:
            yield Change(each.output, "not there", each.said(), False)
        elif (moved := direction(old, each)) != 0:
            yield Change(each.output, *pair(old, each), moved < 0)
    names = {each.output for each in now}
    for gone in then:
        if gone.output not in names and now:
            yield Change(gone.output, gone.said(), "not there", True)


def direction(then: Measure, now: Measure) -> int:
    """−1 where it is worse, 1 where it is better, 0 where it has not moved to speak of."""
    for old, new in ((then.lost, now.lost), (then.mismatches, now.mismatches)):
        if old != new:
            return -1 if new > old else 1
    if now.unit:
        return (then.max_abs > now.max_abs * NOTICED) - (now.max_abs > then.max_abs * NOTICED)
    if then.sqnr_db == now.sqnr_db:
        return 0
    return (now.sqnr_db > then.sqnr_db + NOTICED_DB) - (then.sqnr_db > now.sqnr_db + NOTICED_DB)


def pair(then: Measure, now: Measure) -> tuple[str, str]:
    """Both figures, with one unit behind: ``0.02``, ``3.1 px``."""
    whole = then.said(), now.said()
    if now.unit and then.unit in {"", now.unit} and not (then.lost or then.mismatches or now.lost or now.mismatches):
        return number(then.max_abs), whole[1]
    return whole
