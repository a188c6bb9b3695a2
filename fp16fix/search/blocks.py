"""Node names → the blocks they are in, by path: how a search parts a graph."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


def path_of(name: str) -> tuple[str, ...]:
    """The blocks a node is in, outermost first: ``/encoder/layer.0/attn/MatMul`` → encoder, layer, 0, attn."""
    return tuple(part for part in re.split(r"[/.]", name) if part)[:-1]


def by_block(elements: Sequence[str], cost: Mapping[str, float]) -> list[str]:
    """Elements of a block together, blocks and elements by falling cost, ties in the order given."""
    total: dict[tuple[str, ...], float] = {}
    place: dict[tuple[str, ...], int] = {}
    for index, name in enumerate(dict.fromkeys(elements)):
        path = path_of(name)
        for depth in range(len(path) + 1):
            total[path[:depth]] = total.get(path[:depth], 0.0) + cost.get(name, 1.0)
            place.setdefault(path[:depth], index)

    def key(item: tuple[int, str]) -> list[tuple[float, int]]:
        index, name = item
        path = path_of(name)
        blocks = [path[:depth] for depth in range(1, len(path) + 1)]
        return [*((-total[block], place[block]) for block in blocks), (-cost.get(name, 1.0), index)]

    return [name for _, name in sorted(enumerate(dict.fromkeys(elements)), key=key)]


def middle(part: Sequence[str]) -> int:
    """Halves."""
    return len(part) // 2


def block_border(part: Sequence[str]) -> int:
    """The border between the outermost blocks within the middle half; the nearest to the middle among equals."""
    size = len(part)
    borders = range(max(1, size // 4), max(2, size - size // 4))
    return min(borders, key=lambda index: (shared_depth(part[index - 1], part[index]), abs(2 * index - size)))


def shared_depth(left: str, right: str) -> int:
    """How many blocks two neighbours have in common."""
    depth = 0
    for one, other in zip(path_of(left), path_of(right), strict=False):
        if one != other:
            break
        depth += 1
    return depth
