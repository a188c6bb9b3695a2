"""Ranges and errors in graph order → what the page draws: percentages and path strings, thinned so that extremes survive.

The drawings stretch to the width of the page: x runs from 0 to 1000 along the graph, y from 0 (top) to 100.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard, TypeVar

from fp16fix.half import FP16, Format
from fp16fix.ranges.range import Range
from fp16fix.report.outcome import Along, Disposition, Outcome
from fp16fix.report.words import counted, decibels, number, octaves

WIDTH = 1000.0
COLUMNS = 250
"""Columns of a chart: four units each, as narrow as a pointer can still hit."""
FLOOR, CEILING = -40, 40
"""Octaves shown at most; a bar that reaches an edge goes on beyond it, its tooltip has the number."""
LEAST = 1.2
"""Height in percent below which a bar would vanish (a constant tensor)."""
EQUAL_DB = 90.0
"""Top of the error chart: FP16 rounding alone is 60 to 75 dB, so whatever is better counts as equal."""
EDGE = 3.5
"""Percent of the error chart that a mark stays away from its top and bottom."""
TONES = ("fits", "harmless", "wide", "coarse", "small", "over")
"""How a tensor is drawn; of a column's, the last one of these."""
CLASSES = {"vanish": "small", "swamp": "coarse", "coarse": "coarse", "cancel": "coarse", "swallow": "coarse"}
"""Tones of tensors by the kind of a hazard: too small, or too far apart for what reads them. An overflow shows by itself."""
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Scale:
    """A vertical axis, ``high`` at the top."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Percent from the top; what lies outside is drawn at the edge."""
        inside = min(max(value, self.low), self.high)
        return round(100.0 * (self.high - inside) / (self.high - self.low), 2)


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled horizontal line."""

    label: str
    y: float
    limit: bool
    """One of the base's limits, not just a grid line."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One column: from RMS to the largest magnitude, and a whisker down to the smallest that was measured."""

    x: float
    width: float
    top: float
    height: float
    whisker: float
    """Lower end of the whisker; the bar's own lower end if there is none."""
    tone: str
    """One of ``TONES``."""
    title: str
    up: bool = False
    """It goes on above the chart."""
    down: bool = False
    """Or below it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Ranges of one graph."""

    bars: tuple[Bar, ...]
    over: int
    """Tensors past the largest value that the base would have to hold."""
    total: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A node that stands out on the error chart."""

    x: float
    y: float
    """Kept off the edges, so that all of a dot is seen."""
    tone: str
    title: str
    href: str = ""
    """The row that tells more; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Exit:
    """Where a curve leaves the chart, for as many columns as it stays outside."""

    x: float
    up: bool
    title: str


@dataclass(frozen=True, slots=True)
class Curve:
    """Error along the graph."""

    before: str
    after: str
    """Empty if nothing was repaired."""
    marks: tuple[Mark, ...]
    ticks: tuple[Tick, ...]
    hints: tuple[tuple[float, float, str], ...]
    """(x, width, tooltip) of columns that cover the plot."""
    lowest: Along | None
    """Where it is worst unrepaired."""
    total: int
    exits: tuple[Exit, ...] = ()


def buckets(items: Sequence[Item], most: int = COLUMNS) -> list[Sequence[Item]]:
    """At most ``most`` consecutive groups of nearly equal size, in order; none is empty."""
    groups = min(len(items), most)
    return [items[len(items) * k // groups : len(items) * (k + 1) // groups] for k in range(groups)]


def graph_order(outcome: Outcome) -> list[str]:
    """Every tensor of either graph, along the original graph; a tensor that only repairs made stands behind its neighbour."""
    place: dict[str, tuple[int, int]] = {}
    for index, step in enumerate(outcome.along):
        place.setdefault(step.tensor, (index, 0))
    for ranges in (outcome.ranges, outcome.repaired_ranges):
        cursor = (-1, 0)
        for order, seen in enumerate(ranges, start=1):
            cursor = place.setdefault(seen.tensor, (cursor[0], order))
    known = {seen.tensor for seen in (*outcome.ranges, *outcome.repaired_ranges)}
    return sorted(known, key=lambda name: (place[name], name))


def octave_axis(ranges: Iterable[Range]) -> Scale:
    """From FP16's smallest value, or less, to its largest, or more, whatever the base."""
    seen = [math.log2(value) for each in ranges for value in (each.absmax, each.rms) if 0.0 < value < math.inf]
    low = min([-26.0, *(math.floor(value) - 1.0 for value in seen)])
    high = max([18.0, *(math.ceil(value) + 1.0 for value in seen)])
    return Scale(max(low, FLOOR), min(high, CEILING))


RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def limits(axis: Scale, narrow: Format) -> tuple[Tick, ...]:
    """What the narrow type can hold, and 1; of BF16, whose limits lie off the chart, at its edges."""
    return (
        Tick(f"{narrow.largest:.5g}", axis.at(math.log2(narrow.largest)), limit=True),
        Tick("1", axis.at(0.0), limit=False),
        Tick(power(narrow.smallest_normal), axis.at(math.log2(narrow.smallest_normal)), limit=True),
        Tick(power(narrow.smallest), axis.at(math.log2(narrow.smallest)), limit=True),
    )


def power(value: float) -> str:
    """``2⁻¹⁴``: a power of two below 1."""
    return "2⁻" + f"{-math.log2(value):.0f}".translate(RAISED)


def fates(outcome: Outcome) -> dict[str, str]:
    """Tensor → why what its range says no longer matters: ``wide`` (not held in the base) or ``harmless``."""
    found = {each.hazard.tensor: "harmless" for each in outcome.hazards if each.end == "harmless" and not each.hazard.internal}
    wide = set(outcome.recipe.wide)
    pinned = [step.tensor for step in outcome.along if step.node in wide]
    pinned += [each.hazard.tensor for each in outcome.hazards if each.hazard.node in wide and not each.hazard.internal]
    return found | dict.fromkeys((*outcome.wide_tensors, *pinned), "wide")


def classed(hazards: Iterable[Disposition], ends: frozenset[str] | None = None) -> dict[str, str]:
    """Tensors that the base holds too coarsely, by hazards that ended in one of ``ends`` (None: however they ended)."""
    found: dict[str, str] = {}
    for each in hazards:
        said = CLASSES.get(each.hazard.kind.value)
        if said is not None and (ends is None or each.end in ends) and found.get(each.hazard.tensor) != "small":
            found[each.hazard.tensor] = said
    return found


def tone(seen: Range, fate: Mapping[str, str], narrow: Format) -> str:
    """How one tensor is drawn."""
    drawn, past = fate.get(seen.tensor, "fits"), seen.absmax >= narrow.overflow
    if drawn == "harmless":
        return drawn if past or seen.rms < narrow.smallest_normal else "fits"
    return "over" if past and drawn != "wide" else drawn


def picture(ranges: Mapping[str, Range], order: Sequence[str], axis: Scale, fate: Mapping[str, str], narrow: Format = FP16) -> Picture:
    """Bars at the columns of ``order``, which both graphs share, so that one picture can be held against the other."""
    columns = buckets(order)
    width = WIDTH / max(len(columns), 1)
    bars = []
    for index, names in enumerate(columns):
        seen = [ranges[name] for name in names if name in ranges and ranges[name].absmax > 0.0]
        if seen:
            bars.append(bar(seen, index * width, width, axis, fate, narrow))
    over = sum(tone(each, fate, narrow) == "over" for each in ranges.values())
    return Picture(tuple(bars), over, len(ranges))


def bar(seen: Sequence[Range], x: float, width: float, axis: Scale, fate: Mapping[str, str], narrow: Format) -> Bar:
    """One column for one or more tensors: their extremes, and the tone of the worst."""
    worst = max(seen, key=lambda each: (TONES.index(tone(each, fate, narrow)), each.absmax))
    highest = math.log2(max(each.absmax for each in seen))
    top = axis.at(highest)
    bottom = max(axis.at(math.log2(min((each.rms for each in seen if each.rms > 0.0), default=1.0))), min(top + LEAST, 100.0))
    small = [each.smallest for each in seen if 0.0 < each.smallest < math.inf]
    whisker = max([bottom, *(axis.at(math.log2(value)) for value in small)])
    gap = min(width * 0.25, 3.0)
    return Bar(
        round(x, 2),
        round(width - gap, 2),
        min(top, 100.0 - LEAST),
        round(max(bottom - top, LEAST), 2),
        whisker,
        tone(worst, fate, narrow),
        title(worst, len(seen), narrow),
        up=highest > axis.high,
        down=any(math.log2(value) < axis.low for value in (*small, *(each.rms for each in seen if each.rms > 0.0))),
    )


def title(worst: Range, count: int, narrow: Format) -> str:
    """Tooltip of a column."""
    rest = f" (and {counted(count - 1, 'tensor')} beside it)" if count > 1 else ""
    room = octaves(narrow.headroom(worst.absmax))
    return f"{worst.tensor}{rest}: largest {number(worst.absmax)}, RMS {number(worst.rms)}, head-room {room} octaves"


Births = Mapping[str, tuple[str, str, str]]
"""Node → tone, tooltip and link of its mark."""


def curve(steps: Sequence[Along], births: Births | None = None, narrow: Format = FP16) -> Curve:
    """Error before and after at every step; −inf lies on the floor, what is equal at the top, what was not measured is a gap.

    Args:
        steps: in graph order.
        births: nodes to mark.
        narrow: what it is repaired for.
    """
    values = [v for step in steps for v in (step.before_db, step.after_db) if v is not None and math.isfinite(v)]
    axis = Scale(min([-15.0, *(max(10.0 * math.floor(v / 10.0) - 5.0, -45.0) for v in values)]), EQUAL_DB)
    ticks = tuple(Tick(f"{db} dB", axis.at(db), limit=False) for db in range(0, 81, 20))
    columns = buckets(range(len(steps)))
    width = WIDTH / max(len(columns), 1)
    repaired = any(step.after_db is not None for step in steps)
    hints = tuple(
        (round(k * width, 2), round(width, 2), hint([steps[i] for i in group], narrow, repaired)) for k, group in enumerate(columns)
    )
    lowest = min(steps, key=depth, default=None)
    before, after = (path(line, columns, axis) for line in ([s.before_db for s in steps], [s.after_db for s in steps]))
    return Curve(
        before,
        after,
        marks(steps, births or {}, columns, axis),
        (*ticks, Tick("lost", 100.0, limit=True)),
        hints,
        lowest if lowest and known(lowest.before_db) else None,
        len(steps),
        exits(steps, columns, axis),
    )


def exits(steps: Sequence[Along], columns: Sequence[Sequence[int]], axis: Scale) -> tuple[Exit, ...]:
    """Where either line leaves the chart; what is exact or lost belongs to its edges and leaves nothing."""
    found = []
    for up in (True, False):
        outside = False
        for k, group in enumerate(columns):
            past = [pair for index in group for pair in beyond(steps[index], axis, up=up)]
            if past and not outside:
                value, step = max(past, key=lambda pair: pair[0]) if up else min(past, key=lambda pair: pair[0])
                found.append(Exit(round((k + 0.5) * WIDTH / len(columns), 1), up, f"{step.node}: {decibels(value)}, outside the chart"))
            outside = bool(past)
    return tuple(found)


def beyond(step: Along, axis: Scale, *, up: bool) -> list[tuple[float, Along]]:
    """Finite figures of a step above the axis, or below it."""
    seen = [value for value in (step.before_db, step.after_db) if value is not None and math.isfinite(value)]
    return [(value, step) for value in seen if (value > axis.high if up else value < axis.low)]


def marks(steps: Sequence[Along], births: Births, columns: Sequence[Sequence[int]], axis: Scale) -> tuple[Mark, ...]:
    """Where the nodes of ``births`` lie on the line of plain FP16; one that was not measured stands at the top."""
    found = []
    for k, group in enumerate(columns):
        for index in group:
            if steps[index].node in births:
                height = steps[index].before_db
                y = axis.at(height) if known(height) else 0.0
                found.append(Mark(round(across(k, index, columns), 1), min(max(y, EDGE), 100.0 - EDGE), *births[steps[index].node]))
    return tuple(found)


def known(value: float | None) -> TypeGuard[float]:
    """Measured, and against something."""
    return value is not None and not math.isnan(value)


def depth(step: Along) -> float:
    """Sorts the step where it is worst unrepaired first, what is not known last."""
    return step.before_db if known(step.before_db) else math.inf


def hint(steps: Sequence[Along], narrow: Format, repaired: bool) -> str:
    """Tooltip of a column: the step where it is worst unrepaired."""
    worst = min(steps, key=depth)
    after = f", repaired {decibels(worst.after_db)}" if repaired else ""
    return f"{worst.node} ({worst.op}): plain {narrow} {decibels(worst.before_db)}{after}"


def across(k: int, index: int, columns: Sequence[Sequence[int]]) -> float:
    """Where item ``index`` of column ``k`` lies on the x axis."""
    return (k + (columns[k].index(index) + 0.5) / len(columns[k])) * WIDTH / len(columns)


def path(line: Sequence[float | None], columns: Sequence[Sequence[int]], axis: Scale) -> str:
    """An SVG path through the lowest and the highest value of every column; a gap starts a new stroke."""
    strokes, pen = [], "M"
    for k, group in enumerate(columns):
        points = {i: value for i in group if known(value := line[i])}
        if not points:
            pen = "M"
            continue
        for index in sorted({min(points, key=points.__getitem__), max(points, key=points.__getitem__)}):
            strokes.append(f"{pen}{across(k, index, columns):.1f} {axis.at(points[index]):.1f}")
            pen = "L"
    # A stroke of one point has no length: "h0" makes its round cap visible.
    return "".join(
        f"{each}h0" if each[0] == "M" and (n + 1 == len(strokes) or strokes[n + 1][0] == "M") else each for n, each in enumerate(strokes)
    )
