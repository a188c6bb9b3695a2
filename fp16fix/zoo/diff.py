"""Two outcomes, or two summaries, of the same models → what became worse or better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fp16fix.config import Entry
from fp16fix.errors import ReplayError
from fp16fix.report.batch import DOCUMENT, TAG, Row
from fp16fix.report.compare import Change, changes, judged
from fp16fix.report.document import tag_of
from fp16fix.report.outcome import load
from fp16fix.zoo.rows import row_of


@dataclass(frozen=True, slots=True)
class Difference:
    """One change of one model."""

    name: str
    what: str
    then: str
    now: str
    worse: bool

    def said(self) -> str:
        """```detector`: boxes: 0.02 → 3.1 px``."""
        return f"{self.name}: {self.what}: {self.then} → {self.now}"


def differences(then: Path, now: Path) -> list[Difference]:
    """What changed, model by model, in the order of ``now``; those that came or went last.

    Raises:
        ReplayError: one is neither an outcome nor a summary, or they are not of one kind.
    """
    former, latter = rows_in(then), rows_in(now)
    if (tag_of(then) == TAG) != (tag_of(now) == TAG):
        raise ReplayError("one is an outcome, the other a summary", where=f"{then}, {now}", hint="give two of one kind")
    return list(compared(former, latter))


def rows_in(path: Path) -> dict[str, Row]:
    """By name; of an outcome one, without a name of its own."""
    if tag_of(path) == TAG:
        return {row.name: row for row in DOCUMENT.load(path).rows}
    outcome = load(path)
    return {"outcome": row_of("outcome", Entry(), outcome)}


def compared(former: dict[str, Row], latter: dict[str, Row]) -> Iterator[Difference]:
    """See ``differences``."""
    for name, row in latter.items():
        if name in former:
            yield from (of(name, each) for each in changes(judged(former[name]), judged(row)))
    for name, row in latter.items():
        if name not in former:
            yield Difference(name, "model", "not there", row.status, False)
    for name, row in former.items():
        if name not in latter:
            yield Difference(name, "model", row.status, "not there", True)


def of(name: str, change: Change) -> Difference:
    """A change of one model."""
    return Difference(name, change.what, change.then, change.now, change.worse)
