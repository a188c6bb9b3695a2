"""Who stands before whom → where to draw them, in layers from top to bottom (Sugiyama, by grandalf)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PAD = 12.0
"""Pixels around a drawing."""
APART, BELOW = 22.0, 34.0
"""Pixels between boxes of a layer, and between layers."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Boxes by their upper left corners, and what it takes to show them all."""

    corners: tuple[tuple[float, float], ...]
    width: float
    height: float


class Size:
    """A box, as grandalf wants it."""

    def __init__(self, width: float, height: float) -> None:
        """Of one size; ``xy`` is its middle once it is placed."""
        self.w, self.h = width, height
        self.xy = (0.0, 0.0)


def placed(count: int, edges: Iterable[tuple[int, int]], width: float, height: float) -> Placed:
    """Boxes of one size; parts that nothing connects stand beside each other.

    Args:
        count: of boxes.
        edges: pairs of them; circles are allowed, an edge to itself is not.
        width: of a box, in pixels.
        height: of a box.
    """
    from grandalf.graphs import Edge, Graph, Vertex
    from grandalf.layouts import SugiyamaLayout

    boxes = [Vertex(index) for index in range(count)]
    for box in boxes:
        box.view = Size(width, height)
    whole = Graph(boxes, [Edge(boxes[a], boxes[b]) for a, b in edges])
    corners, right, bottom = [(0.0, 0.0)] * count, PAD, 0.0
    for part in whole.C:
        layout = SugiyamaLayout(part)
        layout.xspace, layout.yspace = APART, BELOW
        layout.init_all()
        layout.draw()
        found = {box.data: (box.view.xy[0] - width / 2, box.view.xy[1] - height / 2) for box in part.sV}
        right, bottom = beside(found, corners, right, bottom, width, height)
    return Placed(tuple(corners), right - APART + PAD, bottom + PAD)


def beside(
    found: dict[int, tuple[float, float]], corners: list[tuple[float, float]], right: float, bottom: float, width: float, height: float
) -> tuple[float, float]:
    """Put one part to the right of what is there; what is taken up then."""
    left, top = min(x for x, _ in found.values()), min(y for _, y in found.values())
    for index, (x, y) in found.items():
        corners[index] = (round(x - left + right, 1), round(y - top + PAD, 1))
    wide, deep = max(corners[index][0] for index in found), max(corners[index][1] for index in found)
    return wide + width + APART, max(bottom, deep + height)


def bend(a: tuple[float, float], b: tuple[float, float], width: float, height: float) -> str:
    """An SVG path from under box ``a`` to over box ``b``."""
    x, y, to, end = a[0] + width / 2, a[1] + height, b[0] + width / 2, b[1]
    pull = max((end - y) / 2, 14.0)
    return f"M{x:.0f} {y:.0f}C{x:.0f} {y + pull:.0f} {to:.0f} {end - pull:.0f} {to:.0f} {end:.0f}"


def curves(spot: Placed, edges: Sequence[tuple[int, int]], width: float, height: float) -> tuple[str, ...]:
    """Paths of all edges."""
    return tuple(bend(spot.corners[a], spot.corners[b], width, height) for a, b in edges)
