"""Operators that draw random numbers: found, and in the graphs that measure made to draw the same numbers on both sides.

ONNX Runtime draws by the attribute ``seed`` of a node where there is one: each session begins the sequence anew, so that two sessions which
run the same samples in the same order get equal draws from nodes of equal seeds. Seeds are only in what is run, never in a graph that
is delivered.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import onnx_graphsurgeon as gs

from fp16fix.graph.model import Model, constant
from fp16fix.graph.operators import DRAWING

SEEDS = 1 << 23
"""Seeds are whole numbers below this, which the float attribute that some operators have holds exactly."""
SHOWN = 3
"""Names that a sentence lists."""


def is_random(node: gs.Node) -> bool:
    """Whether it draws; a Dropout does in training, which may only be known at run time."""
    if node.op != "Dropout":
        return node.op in DRAWING
    return len(node.inputs) > 2 and bool(node.inputs[2].name) and trains(node.inputs[2])


def trains(flag: gs.Tensor) -> bool:
    """What a Dropout's flag says; one that is computed may say yes."""
    values = constant(flag)
    return values is None or bool(values.any())


def random_nodes(model: Model) -> list[gs.Node]:
    """Those of every graph, in order."""
    return [node for node in model.nodes() if is_random(node)]


def seed(nodes: Iterable[gs.Node]) -> list[gs.Node]:
    """Give each random node without a seed one of its own, that follows from its name; in place. Returns those that got one."""
    free = [node for node in nodes if is_random(node) and "seed" not in node.attrs]
    for node in free:
        number = zlib.crc32(node.name.encode()) % SEEDS
        node.attrs["seed"] = number if node.op == "Dropout" else float(number)
    return free


@contextmanager
def seeded(nodes: Iterable[gs.Node]) -> Iterator[None]:
    """``seed`` for as long as a graph is exported."""
    free = seed(nodes)
    try:
        yield
    finally:
        for node in free:
            del node.attrs["seed"]


def warnings_of(model: Model) -> tuple[str, ...]:
    """The sentence that a verdict on a model with random operators needs."""
    found = random_nodes(model)
    if not found:
        return ()
    names = ", ".join(f"{node.name} ({node.op})" for node in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    several = "draws random numbers" if len(found) == 1 else "draw random numbers"
    said = (
        "FP32 and FP16 were given the same draws, by the nodes' names; an engine draws its own, and what depends on them cannot be compared"
    )
    return (f"{names}{more} {several}: {said}.",)
