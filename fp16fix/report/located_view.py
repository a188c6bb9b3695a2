"""``Located`` → ``LocatedView``: what the page of a location says, computed, ordered and capped; the template only lays it out."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fp16fix.location.culprit import Culprit
from fp16fix.location.triage import OF_RANGE, Fault
from fp16fix.report.chart import Curve, curve
from fp16fix.report.headline import Card
from fp16fix.report.located import Located
from fp16fix.report.outcome import Along
from fp16fix.report.view import CAP, Capped, capped, timed
from fp16fix.report.words import counted, decibels, percent
from fp16fix.search.shrink import Minimal

PINS = 40
"""Pins listed with one culprit, where a Loop's body may have thousands, and on a terminal."""
HEADLINES = {
    Fault.REFERENCE: ("bad", "The FP32 model is wrong"),
    Fault.FP32_ENGINE: ("bad", "The FP32 engine is wrong"),
    Fault.RANGE: ("bad", "A fault of range"),
    Fault.PRECISION: ("bad", "A fault of precision"),
    Fault.SUMS: ("warn", "Right with FP32 sums only"),
    Fault.PARTLY: ("bad", "FP16 rounding is part of it"),
    Fault.ELSEWHERE: ("good", "FP16 rounding does no harm"),
    Fault.ENGINE_RIGHT: ("good", "The engine is right"),
}
"""Tone and words for each kind of fault."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A culprit or minor birth as a row."""

    rank: int
    """1 for the worst; the chart's marks have the same numbers."""
    culprit: Culprit
    share: str
    percent: float
    """Width of its meter, 0 to 100."""
    tone: str
    """Of its kind: ``bad`` for range, ``warn`` for precision."""
    answer: tuple[str, str, str]
    """Tone, badge and the rest of what answers it."""
    pins: Capped[str]


@dataclass(frozen=True, slots=True)
class LocatedView:
    """Everything the template needs beside the location itself."""

    headline: str
    tone: str
    story: tuple[str, ...]
    pinning: str
    cards: tuple[Card, ...]
    curve: Curve
    culprits: Capped[Suspect]
    minor: Capped[Suspect]
    carried: Capped[str]
    pins: Capped[str]
    """Of the minimal set."""
    together: Capped[Capped[str]]
    """Sets of nodes that only hurt together."""
    least: str
    """What the minimal set is worth, in a sentence."""
    flaky: str
    """A warning if the oracle was flaky."""
    stages: tuple[tuple[str, float, float], ...]
    """(name, seconds, percent of all)."""
    command: str


def located_view(located: Located) -> LocatedView:
    """The page's content."""
    tone, headline = HEADLINES[located.triage.fault]
    minimal, first_minor = located.minimal, len(located.culprits) + 1
    return LocatedView(
        headline=headline,
        tone=tone,
        story=tuple(story(located)),
        pinning=pinning(located),
        cards=tuple(cards(located)),
        curve=curve([Along(step.node, step.op, step.tensor, step.sqnr_db, None) for step in located.along], births(located)),
        culprits=suspects(located.culprits, 1),
        minor=suspects(located.minor, first_minor),
        carried=capped(located.carried),
        pins=capped(minimal.pins if minimal is not None else ()),
        together=capped([capped(each, PINS) for each in (minimal.together if minimal is not None else ())]),
        least=least(minimal) if minimal is not None else "",
        flaky=flaky(minimal) if minimal is not None else "",
        stages=timed(located.stages),
        command=shlex.join(located.command),
    )


def story(located: Located) -> Iterable[str]:
    """What is wrong, in sentences for someone who will read no further."""
    yield located.triage.verdict
    if not located.culprits:
        return
    worst = located.culprits[0]
    place = f"{worst.node}{inside(worst)}"
    if math.isnan(worst.share):
        yield f"Sums leave FP16 inside {counted(len(located.culprits), 'node')}, furthest in {place}."
    elif harmful(located):
        yield f"Error is born in {counted(len(located.culprits), 'node')}; {place} alone does {percent(worst.share)} of the damage."
    else:
        yield f"Of the error that FP16 rounding does make, {percent(worst.share)} is born in {place}."


def pinning(located: Located) -> str:
    """What the culprits' pins are worth; empty where that was not asked."""
    if located.cures is None:
        return ""
    if located.cures:
        return "With every node that these name in FP32, all others are right in FP16 (on two samples)."
    return "Every node that these name in FP32 is not enough: error also comes from further upstream; --minimise tells what it takes."


def harmful(located: Located) -> bool:
    """Whether the culprits are to blame for what is wrong."""
    return located.triage.fault in {Fault.RANGE, Fault.PRECISION, Fault.PARTLY}


def cards(located: Located) -> Iterable[Card]:
    """The big numbers."""
    kinds = Counter(each.kind for each in located.culprits)
    said = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    harm = harmful(located)
    label, tone = ("Culprits", "bad" if kinds else "calm") if harm else ("Births of error", "calm")
    yield Card(label, f"{len(located.culprits):,}", "", (said or "no node stands out",), tone)
    if located.culprits:
        yield Card("Explained", percent(located.explained), "", ("of what all-FP16 gets wrong, by these together",), "calm")
    yield Card("Only carry it on", f"{len(located.carried):,}", "", ("nodes damaged by what was born before them",), "calm")
    if located.minor:
        yield Card("Minor births", f"{len(located.minor):,}", "", ("nodes that do no harm by themselves",), "calm")
    if located.minimal is not None:
        yield least_card(located.minimal)


def least_card(minimal: Minimal) -> Card:
    """The minimal set in a number."""
    answered = bool(minimal.pins) or not minimal.stopped
    state = "none can be left out" if minimal.complete else "fewer may do"
    notes = (state if minimal.pins else least(minimal), counted(minimal.calls, "oracle call"))
    return Card("Least in FP32", f"{len(minimal.pins):,}" if answered else "–", "", notes, "calm" if answered else "bad")


def least(minimal: Minimal) -> str:
    """What a minimal set is worth."""
    if not minimal.pins:
        return f"No answer: {minimal.stopped}." if minimal.stopped else "Nothing: the oracle is content with all-FP16."
    if minimal.complete:
        return "With these in FP32 and all others in FP16 the oracle is content; no single one can be left out."
    return f"With these in FP32 the oracle is content, but fewer may do: the search was stopped ({minimal.stopped})."


def flaky(minimal: Minimal) -> str:
    """What to do about an oracle that changes its mind; empty if it did not."""
    if not minimal.flaky:
        return ""
    return f"The oracle is flaky: repeated runs of {counted(minimal.flaky, 'candidate')} disagreed; judge each more often with --repeats."


def suspects(found: Sequence[Culprit], first: int) -> Capped[Suspect]:
    """Rows, with ranks from ``first`` on."""
    return Capped(tuple(suspect(rank, each) for rank, each in enumerate(found[:CAP], first)), max(len(found) - CAP, 0))


def suspect(rank: int, culprit: Culprit) -> Suspect:
    """One row."""
    return Suspect(
        rank,
        culprit,
        percent(culprit.share),
        min(max(100.0 * culprit.share, 0.0), 100.0) if math.isfinite(culprit.share) else 0.0,
        "bad" if culprit.kind in {kind.value for kind in OF_RANGE} else "warn",
        answer(culprit.repair),
        capped(culprit.pins, PINS),
    )


def answer(repair: str) -> tuple[str, str, str]:
    """What answers a culprit, as tone, badge and the rest."""
    head, colon, rest = repair.partition(": ")
    if head == "none" and colon:
        return ("calm", "harmless", "") if rest == "harmless" else ("bad", "none", rest)
    if repair.startswith("none"):
        return ("calm", repair, "")
    return ("warn" if repair.startswith("pin ") else "good", repair, "")


def inside(culprit: Culprit) -> str:
    """Which body a node is in, as a clause; empty for one of the main graph."""
    return f" in the body of {culprit.within}" if culprit.within else ""


def births(located: Located) -> dict[str, tuple[str, str, str]]:
    """Nodes of the main graph in which error is born, with tone, tooltip and row.

    What is born in a body is shown at its If, Loop or Scan.
    """
    found: dict[str, tuple[str, str, str]] = {}
    for tone, some, first in (("born", located.culprits, 1), ("minor", located.minor, len(located.culprits) + 1)):
        for rank, each in enumerate(some[:CAP], first):
            said = f"{each.kind}, {decibels(each.sqnr_in_db)} → {decibels(each.sqnr_out_db)}"
            found.setdefault(each.within or each.node, (tone, f"{rank}. {each.node} ({each.op}){inside(each)}: {said}", f"#birth-{rank}"))
    known = {each.node for each in (*located.culprits, *located.minor)}
    for step in located.along:
        if step.born and step.node not in known:
            found.setdefault(step.node, ("born", f"{step.node} ({step.op}): error is born in its body", ""))
    return found
