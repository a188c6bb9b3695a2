"""What a pattern's names stand for in one match, how a match failed, and who reads the results inside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from fp16fix.graph.model import Node, Tensor, constant

Value: TypeAlias = Tensor | float | tuple[int, ...]
"""What a name can stand for."""


@dataclass(frozen=True, slots=True)
class Found:
    """What has matched so far."""

    values: Mapping[str, Value] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()

    def bind(self, name: str, value: Value) -> Found | None:
        """With ``name`` standing for ``value``; None if it stands for something else already."""
        if not name:
            return self
        if name not in self.values:
            return Found({**self.values, name: value}, self.nodes)
        old = self.values[name]
        same = old is value if isinstance(old, Tensor) else old == value
        return self if same else None

    def through(self, node: Node) -> Found:
        """With one more node."""
        return self if any(each is node for each in self.nodes) else Found(self.values, (*self.nodes, node))

    def tensor(self, name: str) -> Tensor:
        """The tensor that a name stands for."""
        found = self.values[name]
        assert isinstance(found, Tensor)
        return found

    def weight(self, name: str) -> np.ndarray:
        """The values of the constant that a ``Weight`` stands for."""
        found = constant(self.tensor(name))
        assert found is not None
        return found

    def number(self, name: str, default: float = 0.0) -> float:
        """The number that a name stands for; ``default`` where an alternative without it matched."""
        found = self.values.get(name, default)
        assert isinstance(found, (int, float))
        return float(found)

    def axes(self, name: str = "axes") -> tuple[int, ...]:
        """The axes that a name stands for."""
        found = self.values[name]
        assert isinstance(found, tuple)
        return found

    def has(self, name: str) -> bool:
        """Whether the matching alternative had this name."""
        return name in self.values

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the matched nodes, sorted: what a repair ``covers``."""
        return tuple(sorted(node.name for node in self.nodes))


@dataclass(slots=True)
class Misses:
    """The failure that came after the most nodes had matched: what a user would call a near miss."""

    depth: int = -1
    why: str = ""

    def note(self, found: Found, why: str) -> None:
        """Remember a failure if none came later."""
        if len(found.nodes) > self.depth:
            self.depth, self.why = len(found.nodes), why


def leaking(is_output: Callable[[Tensor], bool], found: Found, last: Node, spare: frozenset[str] = frozenset()) -> str:
    """Name of a matched node, ``last`` and those in ``spare`` aside, whose result is read outside the match; empty if none is."""
    own = {id(node) for node in found.nodes}
    for node in found.nodes:
        if node is last or node.name in spare:
            continue
        if any(is_output(out) or any(id(reader) not in own for reader in out.outputs) for out in node.outputs):
            return str(node.name)
    return ""
