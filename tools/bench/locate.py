"""Planted culprits in graphs of 1,000 and 5,000 nodes → a table of oracle calls: fp16fix, ddmin alone, Polygraphy's own bisection.

A culprit is a BatchNormalization whose running variance FP16 flushes to zero, so its output is wrong in FP16 and nowhere else is.
The oracle is told which nodes are planted; fp16fix only sees the graph, through one shadow pass. ``python -m tools.bench.locate``
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fp16fix.graph.load import model_from_proto
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.oracles.oracle import Score
from fp16fix.passes.recipe import Recipe, placements_of
from fp16fix.search.judge import Judge
from fp16fix.search.shrink import Culprits, best, culprits
from fp16fix.trace.births import births

Names = frozenset[str]
WIDTH = 16
SEED = 7


@dataclass(frozen=True, slots=True)
class Planting:
    """A graph and what is wrong with it."""

    title: str
    nodes: int
    guilty: tuple[int, ...]
    """Positions."""
    passes: Callable[[Names, Names], bool]
    """From the pins and the guilty."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    title: str
    nodes: int
    ours: int
    found: str
    ddmin: int
    forward: int
    prefix: int
    """Layers that Polygraphy names."""
    shadow_s: float
    """CPU seconds of the shadow pass, both samples, compiling included."""


def graph(count: int, guilty: Sequence[int]) -> onnx.ModelProto:
    """A chain of blocks (BatchNormalization, MatMul, Add, Tanh, Mul), healthy but for the guilty."""
    rng = np.random.default_rng(SEED)
    nodes, weights, x = [], [], "x"

    def weight(name: str, values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    for index in range(count):
        op = "BatchNormalization" if index in guilty else ("BatchNormalization", "MatMul", "Add", "Tanh", "Mul")[index % 5]
        name, inputs = f"/stage.{index // 250}/block.{index // 5}/{op}_{index}", [x]
        if op == "BatchNormalization":
            variance = 1e-9 if index in guilty else 1.0
            scale = np.full(WIDTH, np.sqrt(variance + 1e-12))
            parts = {"scale": scale, "bias": np.zeros(WIDTH), "mean": np.zeros(WIDTH), "var": np.full(WIDTH, variance)}
            inputs += [weight(f"{name}.{part}", value) for part, value in parts.items()]
        elif op == "MatMul":
            inputs.append(weight(f"{name}.weight", np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]))
        elif op in {"Add", "Mul"}:
            values = 0.1 * rng.standard_normal(WIDTH) if op == "Add" else 1.3 + 0.1 * rng.standard_normal(WIDTH)
            inputs.append(weight(f"{name}.weight", values))
        x = f"t{index}"
        nodes.append(helper.make_node(op, inputs, [x], name=name))
        if op == "BatchNormalization":
            nodes[-1].attribute.append(helper.make_attribute("epsilon", 1e-12))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, WIDTH]) for name in ("x", x)]
    proto = helper.make_graph(nodes, "planted", ends[:1], ends[1:], initializer=weights)
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ranking(model: Model) -> list[str]:
    """What one shadow pass over two samples says."""
    rng = np.random.default_rng(SEED)
    samples = [{"x": rng.standard_normal((4, WIDTH)).astype(np.float32)} for _ in range(2)]
    return [birth.node for birth in births(model, lower(model, {}), samples)]


def ours(elements: Sequence[str], suspects: Sequence[str], passes: Callable[[Names], bool]) -> tuple[Culprits | None, int]:
    """Through the judge, calls counted by it."""
    judge = Judge(lambda recipe: Score(passes(frozenset(recipe.wide))))
    found = best(culprits(elements, suspects, lambda names: judge.good(Recipe(placements_of(dict.fromkeys(names, "fp32"))))))
    return found.best, judge.calls


def ddmin(elements: Sequence[str], passes: Callable[[Names], bool]) -> tuple[Names, int]:
    """Zeller and Hildebrandt's minimising algorithm (TSE 2002, figure 5) over the pinned set, tests remembered."""
    seen: dict[Names, bool] = {}

    def test(names: Sequence[str]) -> bool:
        key = frozenset(names)
        if key not in seen:
            seen[key] = passes(key)
        return seen[key]

    kept, parts = list(elements), 2
    while len(kept) >= 2:
        size = -(-len(kept) // parts)
        chunks = [kept[start : start + size] for start in range(0, len(kept), size)]
        chunk = next((chunk for chunk in chunks if test(chunk)), None)
        rests = (kept[:start] + kept[start + size :] for start in range(0, len(kept), size))
        rest = next((rest for rest in rests if test(rest)), None) if chunk is None else None
        if chunk is not None:
            kept, parts = chunk, 2
        elif rest is not None:
            kept, parts = rest, max(parts - 1, 2)
        elif parts >= len(kept):
            break
        else:
            parts = min(2 * parts, len(kept))
    return frozenset(kept), len(seen)


def polygraphy(elements: Sequence[str], passes: Callable[[Names], bool]) -> tuple[int, int]:
    """Polygraphy's ``debug precision`` marker, stepped as its tool does; builds, and the layers of the prefix it names."""
    from polygraphy.logger import G_LOGGER
    from polygraphy.tools.debug.subtool.precision import BisectMarker

    marker, builds, done = BisectMarker(len(elements), "forward"), 0, False
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        while not done:
            builds += 1
            done = marker.step(passes(frozenset(elements[index] for index in marker.select_layers())))
    return builds, marker.good


def row(planting: Planting) -> Row:
    """All three on one planting."""
    model = model_from_proto(graph(planting.nodes, planting.guilty))
    elements = [node.name for node in model.graph.nodes]
    guilty = frozenset(elements[index] for index in planting.guilty)

    def passes(pins: Names) -> bool:
        return planting.passes(pins, guilty)

    began = time.process_time()
    suspects = ranking(model)
    took = time.process_time() - began
    found, calls = ours(elements, suspects, passes)
    named = frozenset[str]() if found is None else found.pins.union(*found.faults)
    said = "all" if named == guilty else f"{len(named & guilty)} of {len(guilty)}, {len(named - guilty)} others"
    builds, prefix = polygraphy(elements, passes)
    return Row(planting.title, planting.nodes, calls, said, ddmin(elements, passes)[1], builds, prefix, took)


def plantings(sizes: Sequence[int]) -> list[Planting]:
    """One, five scattered, and two kinds of pairs, at positions drawn once."""
    found = []
    for size in sizes:
        rng = random.Random(SEED + size)

        def draw(count: int, rng: random.Random = rng, size: int = size) -> tuple[int, ...]:
            return tuple(sorted(rng.sample(range(size), count)))

        found += [
            Planting("one", size, draw(1), lambda pins, guilty: guilty <= pins),
            Planting("five scattered", size, draw(5), lambda pins, guilty: guilty <= pins),
            Planting("two, both must be mended", size, draw(2), lambda pins, guilty: guilty <= pins),
            Planting("two that only hurt together", size, draw(2), lambda pins, guilty: bool(guilty & pins)),
        ]
    return found


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| planted | nodes | fp16fix calls | named | ddmin calls | Polygraphy builds | Polygraphy names | shadow |",
        "|---|---:|---:|---|---:|---:|---|---:|",
    ]
    lines += [
        f"| {r.title} | {r.nodes:,} | {r.ours} | {r.found} | {r.ddmin} | {r.forward} | first {r.prefix:,} layers | {r.shadow_s:.1f} s |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table([row(planting) for planting in plantings((1000, 5000))]))
