"""The graph of an outcome → drawings: the neighbourhood of a hazard node by node, and the whole folded into modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fp16fix.report.chart import buckets
from fp16fix.report.layout import curves, placed
from fp16fix.report.outcome import Disposition, Outcome, Wired
from fp16fix.report.words import counted, number

NEAR, HOPS = 20, 3
"""Nodes of a neighbourhood, and how far they are from its middle, at most."""
MODULES = 40
"""Boxes that the whole graph is folded into, at most."""
BOX = (196.0, 66.0)
"""Pixels."""
LETTERS = 24
"""Of a name that a box has room for."""
PART = re.compile(r"(?<=\w)/")
"""Between the parts of a module path."""


@dataclass(frozen=True, slots=True)
class Box:
    """A node, or a module."""

    x: float
    y: float
    lines: tuple[str, ...]
    tone: str
    title: str
    href: str
    path: str
    """The module that a click filters by; empty for a node."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes and what flows between them."""

    name: str
    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[str, ...]


def flows(graph: Sequence[Wired]) -> list[tuple[int, int]]:
    """Maker and reader of every tensor that nodes exchange, by their places in the graph."""
    makers = {tensor: index for index, node in enumerate(graph) for tensor in node.makes}
    found = ((makers[tensor], index) for index, node in enumerate(graph) for tensor in node.reads if tensor in makers)
    return list(dict.fromkeys(pair for pair in found if pair[0] != pair[1]))


def around(middle: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    """A node and those nearest to it, in graph order; in one layer of distance the first ones."""
    near: dict[int, set[int]] = {}
    for a, b in edges:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    found, layer = [middle], [middle]
    for _ in range(HOPS):
        layer = sorted({other for index in layer for other in near.get(index, ())} - set(found))[: NEAR - len(found)]
        found += layer
    return sorted(found)


def neighbourhood(outcome: Outcome, node: str, rows: Mapping[str, str]) -> Drawing | None:
    """What surrounds a node, with types and largest magnitudes before and after; None where it is not of the main graph.

    Args:
        outcome: of a repair.
        node: in the middle.
        rows: node → link to what the page says of it.
    """
    graph = outcome.graph
    middle = next((index for index, each in enumerate(graph) if each.node == node), None)
    if middle is None:
        return None
    edges = flows(graph)
    kept = around(middle, edges)
    place = {index: n for n, index in enumerate(kept)}
    inner = [(place[a], place[b]) for a, b in edges if a in place and b in place]
    spot = placed(len(kept), inner, *BOX)
    told = Told.of(outcome)
    boxes = (told.box(graph[index], spot.corners[n], rows, here=index == middle) for n, index in enumerate(kept))
    return Drawing(node, spot.width, spot.height, tuple(boxes), curves(spot, inner, *BOX))


@dataclass(frozen=True, slots=True)
class Told:
    """What boxes of nodes say, by name."""

    before: Mapping[str, float]
    after: Mapping[str, float]
    wide: Mapping[str, str]
    rewritten: Mapping[str, str]
    ends: Mapping[str, Disposition]
    base: str

    @classmethod
    def of(cls, outcome: Outcome) -> Told:
        """Looked up once for a drawing."""
        ends: dict[str, Disposition] = {}
        for each in outcome.hazards:
            ends.setdefault(each.hazard.node, each)
        return cls(
            {each.tensor: each.absmax for each in outcome.ranges},
            {each.tensor: each.absmax for each in outcome.repaired_ranges},
            outcome.recipe.wide,
            {node: edit.by for edit in outcome.recipe.rewrites for node in (edit.node, *edit.covers)},
            ends,
            outcome.narrow.name,
        )

    def box(self, node: Wired, corner: tuple[float, float], rows: Mapping[str, str], *, here: bool) -> Box:
        """One node: its name, operator and type, and the largest magnitude of what it makes."""
        made = node.makes[0] if node.makes else ""
        before, after = self.before.get(made), self.after.get(made)
        kind = self.wide.get(node.node, self.base).upper()
        typed = f"{node.op}, {f'now {self.rewritten[node.node]}' if node.node in self.rewritten else kind}"
        was, now = ("–" if value is None else number(value) for value in (before, after))
        end = self.ends.get(node.node)
        tone = (
            "bad"
            if end is not None and end.end == "refused"
            else "warn"
            if node.node in self.wide
            else "good"
            if end is not None
            else "calm"
        )
        said = f"; {end.hazard.kind.value}, {end.end}" if end is not None else ""
        title = f"{node.node} ({node.op}), {kind}: largest {was} before, {now} after{said}"
        lines = (short(node.node), short(typed), f"{was} → {now}")
        return Box(*corner, lines, f"{tone}{' here' if here else ''}", title, rows.get(node.node, ""), "")


def short(name: str) -> str:
    """The end of a name, which tells it from its neighbours."""
    return name if len(name) <= LETTERS else f"…{name[1 - LETTERS :]}"


def modules(graph: Sequence[Wired]) -> list[tuple[str, list[int]]]:
    """Module → places of its nodes: the deepest folding that leaves no more than ``MODULES``; where none does, neighbours share a box."""
    parts = [PART.split(each.node)[:-1] for each in graph]
    for depth in range(max(map(len, parts), default=0), 0, -1):
        if len(found := folded(parts, depth)) <= MODULES:
            return found
    single = folded(parts, 1) if any(parts) else [(each.node, [index]) for index, each in enumerate(graph)]
    runs = buckets(single, MODULES)
    return [(run[0][0] if len(run) == 1 else f"{run[0][0]} … {run[-1][0]}", [i for _, some in run for i in some]) for run in runs]


def folded(parts: Sequence[Sequence[str]], depth: int) -> list[tuple[str, list[int]]]:
    """Nodes by the first ``depth`` parts of their paths, in the order in which they first come."""
    found: dict[str, list[int]] = {}
    for index, each in enumerate(parts):
        found.setdefault("/".join(each[:depth]), []).append(index)
    return list(found.items())


def overview(outcome: Outcome) -> Drawing | None:
    """The whole main graph in modules; None where the outcome does not have it."""
    found = modules(outcome.graph)
    if not found:
        return None
    home = {index: n for n, (_, some) in enumerate(found) for index in some}
    edges = list(dict.fromkeys((home[a], home[b]) for a, b in flows(outcome.graph) if home[a] != home[b]))
    spot = placed(len(found), edges, *BOX)
    told = Told.of(outcome)
    boxes = tuple(module_box(name, [outcome.graph[i] for i in some], spot.corners[n], told) for n, (name, some) in enumerate(found))
    return Drawing("all", spot.width, spot.height, boxes, curves(spot, edges, *BOX))


def module_box(name: str, nodes: Sequence[Wired], corner: tuple[float, float], told: Told) -> Box:
    """One module, with what happened in it."""
    ends = [told.ends[each.node] for each in nodes if each.node in told.ends]
    wide = sum(each.node in told.wide for each in nodes)
    tone = "bad" if any(each.end == "refused" for each in ends) else "warn" if wide else "good" if ends else "calm"
    many, sick = counted(len(nodes), "node"), counted(len(ends), "hazardous node")
    lines = (short(name or "no module"), many, f"{sick if ends else 'no hazard'}{f', {wide} wide' if wide else ''}")
    return Box(*corner, lines, tone, f"{name or 'no module'}: {many}, {sick}, {wide} kept wide", "#hazards" if ends else "", name)
