"""Walks over a graph: from where one starts, everything that a step leads to, each once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from fp16fix.graph.model import Node

T = TypeVar("T")


def walk(start: Iterable[T], step: Callable[[T], Iterable[T]]) -> Iterator[T]:
    """``start`` and what ``step`` leads to from there, the nearest first.

    Each object once: nodes and tensors of a graph are told apart by identity.
    """
    seen: set[int] = set()
    pending = deque(start)
    while pending:
        each = pending.popleft()
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            pending += step(each)


def makers(node: Node) -> list[Node]:
    """The nodes that make what ``node`` reads."""
    return [maker for tensor in node.inputs for maker in tensor.inputs]


def readers(node: Node) -> list[Node]:
    """The nodes that read what ``node`` makes."""
    return [reader for tensor in node.outputs for reader in tensor.outputs]
