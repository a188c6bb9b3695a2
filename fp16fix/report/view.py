"""``Outcome`` → ``View``: what the page says, computed, ordered and capped; the template only lays it out."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fp16fix.engines.compiled import CompiledNode
from fp16fix.passes.recipe import RESCALE, Edit, Recipe, Refusal
from fp16fix.ranges.range import Range
from fp16fix.report.causes import Cause, Step, causes, steps
from fp16fix.report.chart import COLUMNS, Curve, Picture, Tick, classed, curve, fates, graph_order, limits, octave_axis, picture
from fp16fix.report.headline import Card, Told, cards, headline, screen, tone
from fp16fix.report.outcome import Disposition, Outcome
from fp16fix.report.strain import both, concern
from fp16fix.report.surroundings import Drawing, neighbourhood, overview
from fp16fix.report.words import counted, decibels, place
from fp16fix.search.trial import Trial
from fp16fix.verdict.condition import Bounded
from fp16fix.verdict.verdict import Figures, SampleFigures, Verdict, badness, of_entry

CAP = 300
"""Rows of a table; the JSON has the rest."""
DRAWN = 8
"""Causes whose surroundings are drawn."""
MARKS = 24
"""Hazards, and as many pins, that the error chart marks: each is a stop of the Tab key."""
ROOMS = 12
"""Tensors with the least head-room that are listed, before and after."""
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Capped(Generic[Item]):
    """The first rows of a table."""

    rows: tuple[Item, ...]
    left: int
    """Rows that are only in the JSON."""

    @property
    def total(self) -> int:
        """Rows there are."""
        return len(self.rows) + self.left


@dataclass(frozen=True, slots=True)
class Room:
    """Head-room of one tensor."""

    tensor: str
    before: Range | None
    after: Range | None
    """As stored by the repaired graph."""
    exponent: int
    pinned: bool
    least: float
    """The smaller of the two, in octaves."""


@dataclass(frozen=True, slots=True)
class OutputRow:
    """One output under one way of computing it."""

    label: str
    figures: Figures
    place: str
    """The worst sample and entry."""


@dataclass(frozen=True, slots=True)
class BySample:
    """One output in one sample, repaired."""

    output: str
    figures: SampleFigures
    entry: str
    """Whose SQNR it is: that of an entry of an axis, or of all elements."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A node that does not run in FP16."""

    node: str
    format: str
    why: str


@dataclass(frozen=True, slots=True)
class Folded:
    """A cause, with as many of its hazards as the page has room for."""

    cause: Cause
    rows: Capped[Disposition]
    first: int
    """Number of its first hazard on the page."""


@dataclass(frozen=True, slots=True)
class Charts:
    """Ranges before and after repair, on one axis."""

    before: Picture
    after: Picture
    ticks: tuple[Tick, ...]
    merged: bool
    """Columns hold more than one tensor."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything the template needs beside the outcome itself."""

    headline: str
    tone: str
    """Of the verdict: ``good``, ``warn`` or ``bad``."""
    screen: tuple[Told, ...]
    """The first screen."""
    problems: tuple[str, ...]
    cards: tuple[Card, ...]
    charts: Charts
    curve: Curve
    overview: Drawing | None
    """The graph in modules."""
    surroundings: tuple[Drawing, ...]
    """Of the furthest hazard of each cause."""
    causes: tuple[Folded, ...]
    """Hazards by cause."""
    steps: tuple[Step, ...]
    """From plain FP16 to the verdict."""
    repairs: Capped[Edit]
    late: int
    """Rewrites from this one on were made after rescaling."""
    saturated: Capped[str]
    """Tensors that leave an island through a Clip."""
    pins: Capped[Pin]
    refusals: Capped[Refusal]
    exponents: Capped[tuple[str, int]]
    derivation: Capped[Trial]
    groups: tuple[tuple[int, int, float], ...]
    """(exponent, tensors, percent of the largest group)."""
    rooms: tuple[Room, ...]
    outputs: tuple[tuple[str, tuple[OutputRow, ...]], ...]
    samples: Capped[BySample]
    bounds: Capped[Bounded]
    """Products and sums by how near their partial sums can come to 65504."""
    compiled: Capped[CompiledNode]
    """Nodes in the engine, those with something to say first."""
    stages: tuple[tuple[str, float, float], ...]
    """(name, seconds, percent of all)."""
    command: str


def view(outcome: Outcome) -> View:
    """The page's content."""
    recipe, found = outcome.recipe, causes(outcome)
    folds = folded(found)
    return View(
        headline=headline(outcome),
        tone=tone(outcome),
        screen=screen(outcome, found),
        problems=(*outcome.decisive.reasons, *outcome.engine.problems),
        cards=cards(outcome),
        charts=charts(outcome),
        curve=curve(outcome.along, births(outcome, folds), outcome.narrow),
        overview=overview(outcome),
        surroundings=surroundings(outcome, folds),
        causes=folds,
        steps=steps(outcome, before_words(outcome), after_words(outcome)),
        repairs=capped(recipe.rewrites),
        late=late(recipe),
        saturated=capped(sorted(recipe.saturated)),
        pins=capped(pins(outcome)),
        refusals=capped(outcome.refusals),
        exponents=capped(sorted(recipe.exponents.items())),
        groups=groups(recipe.exponents.values()),
        derivation=capped(outcome.derivation),
        rooms=rooms(outcome),
        outputs=outputs(outcome),
        samples=by_sample(outcome.engine.verdict or outcome.verdict),
        bounds=capped(outcome.certificate, ROOMS),
        compiled=capped(compiled_nodes(outcome)),
        stages=timed(outcome.stages),
        command=shlex.join(outcome.command),
    )


def folded(found: Sequence[Cause]) -> tuple[Folded, ...]:
    """Causes with ``CAP`` hazards in all; each shows one at least."""
    room, first, made = CAP, 1, []
    for cause in found:
        rows = capped(cause.hazards, max(room, 1))
        made.append(Folded(cause, rows, first))
        room, first = room - len(rows.rows), first + len(rows.rows)
    return tuple(made)


def births(outcome: Outcome, folds: Sequence[Folded]) -> dict[str, tuple[str, str, str]]:
    """What the error chart marks: hazards, of each cause the furthest first, and pins; each leads to its row."""
    placed = {step.node for step in outcome.along}
    rows = [(n, fold.first + n, each) for fold in folds for n, each in enumerate(fold.rows.rows) if each.end not in {"gone", "harmless"}]
    found: dict[str, tuple[str, str, str]] = {}
    for _, number, each in sorted(rows, key=lambda row: row[:2]):
        hazard = each.hazard
        if hazard.node in placed and hazard.node not in found and len(found) < MARKS:
            tone = "pin" if each.end == "pinned" else "born"
            found[hazard.node] = (tone, f"{hazard.node} ({hazard.op}): {hazard.kind.value}, {each.end}", f"#hazard-{number}")
    room = MARKS + len(found)
    for number, (node, kind) in enumerate(outcome.recipe.wide.items(), 1):
        if node in placed and node not in found and len(found) < room and number <= CAP:
            found[node] = ("pin", f"{node}: {kind.upper()}", f"#pin-{number}")
    return found


def surroundings(outcome: Outcome, folds: Sequence[Folded]) -> tuple[Drawing, ...]:
    """What surrounds the furthest hazard of each cause that matters."""
    rows = {each.hazard.node: f"#hazard-{fold.first + n}" for fold in folds for n, each in enumerate(fold.rows.rows)}
    nodes = dict.fromkeys(fold.cause.worst.hazard.node for fold in folds if fold.cause.end not in {"gone", "harmless"})
    found = (neighbourhood(outcome, node, rows) for node in list(nodes)[:DRAWN])
    return tuple(each for each in found if each is not None)


def before_words(outcome: Outcome) -> str:
    """What plain FP16 makes of the output that matters most."""
    shown = concern(outcome)
    return f"{shown.output}: {both(shown.before, shown.asked)}" if shown is not None and shown.before is not None else "not measured"


def after_words(outcome: Outcome) -> str:
    """What the verdict says of it."""
    shown, said = concern(outcome), headline(outcome)
    return f"{said}; {shown.output}: {both(shown.after, shown.asked)}" if shown is not None and shown.after is not None else said


def capped(rows: Sequence[Item], cap: int = CAP) -> Capped[Item]:
    """The first ``cap`` rows."""
    return Capped(tuple(rows[:cap]), max(len(rows) - cap, 0))


def timed(stages: Mapping[str, float]) -> tuple[tuple[str, float, float], ...]:
    """(name, seconds, percent of all) of every stage."""
    total = sum(stages.values())
    return tuple((name, spent, 100.0 * spent / total if total else 0.0) for name, spent in stages.items())


def charts(outcome: Outcome) -> Charts:
    """Two pictures whose columns and axes agree."""
    order = graph_order(outcome)
    axis = octave_axis((*outcome.ranges, *outcome.repaired_ranges))
    left = {**classed(outcome.hazards, frozenset({"refused"})), **fates(outcome)}
    return Charts(
        picture({each.tensor: each for each in outcome.ranges}, order, axis, classed(outcome.hazards), outcome.narrow),
        picture({each.tensor: each for each in outcome.repaired_ranges}, order, axis, left, outcome.narrow),
        limits(axis, outcome.narrow),
        len(order) > COLUMNS,
    )


def pins(outcome: Outcome) -> list[Pin]:
    """Pinned nodes with the reason each was pinned for."""
    reasons = outcome.recipe.reasons
    return [Pin(node, kind, reasons[node]) for node, kind in outcome.recipe.wide.items()]


def late(recipe: Recipe) -> int:
    """How many rewrites come before the exponents."""
    makers = [edit.by for edit in recipe.changes]
    return makers.index(RESCALE) if RESCALE in makers else len(makers)


def groups(exponents: Iterable[int]) -> tuple[tuple[int, int, float], ...]:
    """How many tensors have which exponent, ascending."""
    tally = Counter(exponents)
    most = max(tally.values(), default=1)
    return tuple((e, count, 100.0 * count / most) for e, count in sorted(tally.items()))


def rooms(outcome: Outcome) -> tuple[Room, ...]:
    """Tensors with the least head-room before or after repair, the least first."""
    narrow, before = outcome.narrow, {each.tensor: each for each in outcome.ranges}
    after = {each.tensor: each for each in outcome.repaired_ranges}
    exponents = {name.split("→")[0]: e for name, e in outcome.recipe.exponents.items()}
    pinned = {name for name, fate in fates(outcome).items() if fate == "wide"}
    tight = [name for found in (before, after) for name in sorted(found, key=lambda name: narrow.headroom(found[name].absmax))[:ROOMS]]

    def room(name: str) -> Room:
        left = [narrow.headroom(found[name].absmax) for found in (before, after) if name in found]
        return Room(name, before.get(name), after.get(name), exponents.get(name, 0), name in pinned, min(left))

    return tuple(sorted((room(name) for name in dict.fromkeys(tight)), key=lambda each: (each.least, each.tensor)))


def outputs(outcome: Outcome) -> tuple[tuple[str, tuple[OutputRow, ...]], ...]:
    """Every output under every way it was computed."""
    ways = (
        (f"plain {outcome.narrow}", outcome.before),
        (f"repaired, {outcome.verdict.profile} profile", outcome.verdict.outputs),
        (f"repaired, {outcome.pessimistic.profile} profile", outcome.pessimistic.outputs),
        ("repaired graph in FP32", outcome.equivalence),
    )
    names = dict.fromkeys(each.output for _, found in ways for each in found)

    def readings(name: str) -> tuple[OutputRow, ...]:
        return tuple(
            OutputRow(label, each, place(each).removeprefix(" in ").removeprefix(", "))
            for label, found in ways
            for each in found
            if each.output == name
        )

    return tuple((name, readings(name)) for name in names)


def compiled_nodes(outcome: Outcome) -> list[CompiledNode]:
    """What each node became, lost pins first, then what is wide."""
    found = outcome.engine.compiled
    return sorted(found.nodes, key=lambda each: (not each.narrowed, each.asked == outcome.narrow.name)) if found is not None else []


def by_sample(verdict: Verdict) -> Capped[BySample]:
    """Every output in every sample, the worst first."""
    rows = [BySample(each.output, one, of_entry(one.entry).removeprefix(", ") or "all") for each in verdict.outputs for one in each.samples]
    return capped(sorted(rows, key=lambda row: badness(row.figures)))


def judged(verdict: Verdict) -> str:
    """One line for a verdict that is information, not a gate."""
    found = verdict.worst
    tail = f"; worst output {found.output}{place(found)}: {decibels(found.sqnr_db)}" if found is not None else ""
    return f"{'passes' if verdict.verified else 'fails'} on {counted(verdict.samples, 'sample')}{tail}"
