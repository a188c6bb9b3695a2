"""``Outcome`` → ``View``: what the page says, computed, ordered and capped; the template only lays it out."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fp16fix.analyse.ranges import Range
from fp16fix.report.chart import Curve, Picture, Tick, curve, fates, graph_order, limits, octave_axis, picture, vanishing
from fp16fix.report.outcome import Disposition, Outcome
from fp16fix.report.words import counted, decibels, detail, duration, error, share, size, worst
from fp16fix.repair.recipe import Refusal, Repair
from fp16fix.verify.verdict import Figures, Verdict

CAP = 300
"""Rows of a table; the JSON has the rest."""
ROOMS = 15
"""Tensors with the least head-room that are listed, before and after."""
ENDS = ("repaired", "rescaled", "pinned", "harmless", "gone", "refused")
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
class Card:
    """One big number."""

    label: str
    value: str
    was: str
    """What it was before repair; empty if that means nothing."""
    notes: tuple[str, ...]
    tone: str
    """``good``, ``bad`` or ``calm``."""


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
class Reading:
    """One output under one way of computing it."""

    label: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Pin:
    """A node that does not run in FP16."""

    node: str
    format: str
    why: str


@dataclass(frozen=True, slots=True)
class Charts:
    """Ranges before and after repair, on one axis."""

    before: Picture
    after: Picture
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class View:
    """Everything the template needs beside the outcome itself."""

    headline: str
    story: tuple[str, ...]
    problems: tuple[str, ...]
    cards: tuple[Card, ...]
    charts: Charts
    curve: Curve
    hazards: Capped[Disposition]
    repairs: Capped[Repair]
    pins: Capped[Pin]
    refusals: Capped[Refusal]
    exponents: Capped[tuple[str, int]]
    groups: tuple[tuple[int, int, float], ...]
    """(exponent, tensors, percent of the largest group)."""
    rooms: tuple[Room, ...]
    outputs: tuple[tuple[str, tuple[Reading, ...]], ...]
    stages: tuple[tuple[str, float, float], ...]
    """(name, seconds, percent of all)."""
    command: str


def view(outcome: Outcome) -> View:
    """The page's content."""
    recipe = outcome.recipe
    total = sum(outcome.stages.values())
    return View(
        headline="Verified" if outcome.verified else "Not verified",
        story=tuple(story(outcome)),
        problems=(*outcome.verdict.reasons, *outcome.engine.problems),
        cards=cards(outcome),
        charts=charts(outcome),
        curve=curve(outcome.along),
        hazards=capped(outcome.hazards),
        repairs=capped((*recipe.repairs, *recipe.finish)),
        pins=capped(pins(outcome)),
        refusals=capped(outcome.refusals),
        exponents=capped(recipe.exponents),
        groups=groups(recipe.exponents),
        rooms=rooms(outcome),
        outputs=outputs(outcome),
        stages=tuple((name, spent, 100.0 * spent / total if total else 0.0) for name, spent in outcome.stages.items()),
        command=shlex.join(outcome.command),
    )


def capped(rows: Sequence[Item], cap: int = CAP) -> Capped[Item]:
    """The first ``cap`` rows."""
    return Capped(tuple(rows[:cap]), max(len(rows) - cap, 0))


def story(outcome: Outcome) -> Iterable[str]:
    """What happened, in sentences for someone who will read no further."""
    ill, cured, recipe = worst(outcome.before), worst(outcome.verdict.outputs), outcome.recipe
    if ill is not None:
        yield f"In plain FP16, output {ill.output} is at {error(ill)}: {detail(ill)}."
    done = (
        (len(recipe.repairs) + len(recipe.finish), "rewrite"),
        (len(recipe.exponents), "tensor", "rescaled by a power of two"),
        (len(recipe.wide), "node", "pinned wide"),
    )
    said = [" ".join((counted(each[0], each[1]), *each[2:])) for each in done if each[0]]
    yield f"Done: {', '.join(said)}." if said else "Nothing had to be changed."
    if cured is not None:
        yield f"Now the worst output is {cured.output} with {error(cured)}: {detail(cured)}."


def cards(outcome: Outcome) -> tuple[Card, ...]:
    """The big numbers."""
    counts, engine, verdict = outcome.counts, outcome.engine, outcome.verdict
    wide = counts.fp32_nodes + counts.bf16_nodes
    nodes = [f"{share(counts.flops_fp32, counts.flops_total)} of FLOPs, {share(counts.bytes_fp32, counts.bytes_total)} of activation bytes"]
    if counts.bf16_nodes:
        nodes.append(f"and {counted(counts.bf16_nodes, 'node')} in BF16")
    built = f"{engine.backend} {engine.version}".strip()
    plan = (
        (f"{size(engine.plan_bytes)}, parsed in {duration(engine.parse_s)}, built in {duration(engine.build_s)}",)
        if engine.plan_bytes
        else ()
    )
    tally = Counter(each.end for each in outcome.hazards)
    ends = ", ".join(f"{tally[end]:,} {end}" for end in ENDS if tally[end])
    return (
        error_card(outcome),
        Card(
            "FP32 nodes",
            f"{counts.fp32_nodes:,}",
            "",
            (f"of {counted(counts.float_nodes, 'float node')}", *nodes),
            "calm" if wide else "good",
        ),
        Card("Casts", f"{counts.casts:,}", "", (f"{counted(counts.muls_added, 'multiplication')} added by rescaling",), "calm"),
        Card(
            "Hazards",
            f"{len(outcome.hazards):,}",
            "",
            (ends or "none found",),
            "bad" if tally["refused"] and not verdict.verified else "calm",
        ),
        Card("Engine", engine.status, "", tuple(each for each in (built, *plan) if each), "bad" if engine.problems else "calm"),
    )


def error_card(outcome: Outcome) -> Card:
    """Error of the output that plain FP16 gets worst, before and after; another output may be the worst afterwards."""
    before, after = worst(outcome.before), worst(outcome.verdict.outputs)
    shown = before or after
    name = shown.output if shown is not None else ""
    same = next((each for each in outcome.verdict.outputs if each.output == name), after)
    notes = [f"{name}, worst of {len(outcome.before)} outputs" if len(outcome.before) > 1 else f"output {name}"]
    if before is not None and same is not None:
        notes.append(f"{detail(before)} → {detail(same)}")
    if after is not None and same is not None and after.output != same.output:
        notes.append(f"worst after repair: {after.output}, {error(after)}")
    return Card("Signal to error", error(same), error(before), tuple(notes), "good" if outcome.verdict.verified else "bad")


def charts(outcome: Outcome) -> Charts:
    """Two pictures whose columns and axes agree."""
    order = graph_order(outcome)
    axis = octave_axis((*outcome.ranges, *outcome.repaired_ranges))
    left = {**vanishing(outcome.hazards, frozenset({"refused"})), **fates(outcome)}
    return Charts(
        picture({each.tensor: each for each in outcome.ranges}, order, axis, vanishing(outcome.hazards)),
        picture({each.tensor: each for each in outcome.repaired_ranges}, order, axis, left),
        limits(axis),
    )


def pins(outcome: Outcome) -> list[Pin]:
    """Pinned nodes with the reason each was pinned for."""
    hazards: dict[str, str] = {}
    for each in outcome.hazards:
        hazards.setdefault(each.hazard.node, each.hazard.why)
    neighbour = "between pinned nodes: two casts cost more than running it wide"
    return [Pin(node, kind, outcome.refinements.get(node) or hazards.get(node, neighbour)) for node, kind in outcome.recipe.wide]


def groups(exponents: Sequence[tuple[str, int]]) -> tuple[tuple[int, int, float], ...]:
    """How many tensors have which exponent, ascending."""
    tally = Counter(e for _, e in exponents)
    most = max(tally.values(), default=1)
    return tuple((e, count, 100.0 * count / most) for e, count in sorted(tally.items()))


def rooms(outcome: Outcome) -> tuple[Room, ...]:
    """Tensors with the least head-room before or after repair, the least first."""
    before = {each.tensor: each for each in outcome.ranges}
    after = {each.tensor: each for each in outcome.repaired_ranges}
    exponents = {name.split("→")[0]: e for name, e in outcome.recipe.exponents}
    pinned = {name for name, fate in fates(outcome).items() if fate == "wide"}
    tight = [name for found in (before, after) for name in sorted(found, key=lambda name: found[name].headroom)[:ROOMS]]

    def room(name: str) -> Room:
        left = [found[name].headroom for found in (before, after) if name in found]
        return Room(name, before.get(name), after.get(name), exponents.get(name, 0), name in pinned, min(left))

    return tuple(sorted((room(name) for name in dict.fromkeys(tight)), key=lambda each: (each.least, each.tensor)))


def outputs(outcome: Outcome) -> tuple[tuple[str, tuple[Reading, ...]], ...]:
    """Every output under every way it was computed."""
    ways = (
        ("plain FP16", outcome.before),
        (f"repaired, {outcome.verdict.profile} profile", outcome.verdict.outputs),
        (f"repaired, {outcome.pessimistic.profile} profile", outcome.pessimistic.outputs),
        ("repaired graph in FP32", outcome.equivalence),
    )
    names = dict.fromkeys(each.output for _, found in ways for each in found)
    return tuple((name, tuple(Reading(label, each) for label, found in ways for each in found if each.output == name)) for name in names)


def judged(verdict: Verdict) -> str:
    """One line for a verdict that is information, not a gate."""
    found = worst(verdict.outputs)
    tail = f"; worst output {found.output}: {decibels(found.sqnr_db)}" if found is not None else ""
    return f"{'passes' if verdict.verified else 'fails'} on {counted(verdict.samples, 'sample')}{tail}"
