"""A recipe that fails its verdict → the pins that make it pass: those that one pass over exact inputs accuses first, 1-minimal.

A node that computes wide and still gives birth to error magnifies the rounding of its operands (a difference, a sine of a large
angle): then the producers of those operands are accused. The pass costs two graph runs a sample, each set of pins one strict verdict.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fp16fix.graph.model import Model, inner_nodes
from fp16fix.graph.ops import float_inputs
from fp16fix.search.shrink import Holds, Names, Result, best, shrink
from fp16fix.trace.births import NONE, Birth, births
from fp16fix.trace.segments import Sample

FAINT_DB = 0.5
"""What a node must lose to be accused at all; many small losses add up."""


@dataclass(frozen=True, slots=True)
class Refined:
    """Where refinement ended."""

    pins: tuple[str, ...]
    """To be added; empty if nothing was found."""
    because: dict[str, str]
    """Pinned node → why, in a sentence."""
    stopped: str
    """What stopped the search; empty if it came to its end."""


def refine(
    model: Model,
    typed: Model,
    samples: Iterable[Sample],
    holds: Holds,
    elements: Sequence[str],
    *,
    unstorable: Mapping[str, float] = NONE,
    cost: Mapping[str, float] | None = None,
    threads: int = 0,
) -> Refined:
    """Accuse, then search; every set that holds was tested.

    Args:
        model: FP32, after rewrites and exponents.
        typed: the same graph as it fails.
        samples: calibration samples for the accusation; held-out samples decide but never guide.
        holds: whether the verdict passes with these nodes pinned too.
        elements: nodes that may be pinned.
        unstorable: see ``births``.
        cost: of pinning a node.
        threads: ONNX Runtime threads.
    """
    found = births(model, typed, samples, unstorable=unstorable, least_db=FAINT_DB, threads=threads)
    because = reasons(model, found)
    result: Result[Names] = best(shrink(elements, holds, ranking=ranking(model, because, found), cost=cost))
    pins = tuple(name for name in elements if name in (result.best or ()))
    return Refined(pins, {name: because.get(name, "the verdict fails without it") for name in pins}, result.stopped)


def reasons(model: Model, found: Iterable[Birth]) -> dict[str, str]:
    """Every accused node with the reason, the most suspicious first."""
    nodes = model.node_map()
    accused: dict[str, str] = {}
    for birth in found:
        here = f"error is born here: {birth.sqnr_in_db:.0f} dB come in, {birth.sqnr_out_db:.0f} dB go out"
        inside = {inner.name: f"inside {birth.node}" for inner in inner_nodes(nodes[birth.node])}
        said = {birth.node: here, **inside}
        said |= {name: f"reads what {birth.node} makes and FP16 cannot hold" for name in birth.pins if name not in said}
        magnified = f"{birth.node} magnifies the FP16 rounding of what this node hands it"
        said |= {name: magnified for name in birth.operands if name not in said}
        accused |= {name: why for name, why in said.items() if name not in accused}
    return accused


def ranking(model: Model, accused: Iterable[str], found: Iterable[Birth]) -> tuple[str, ...]:
    """The accused, then what lies upstream of births that magnify."""
    first = dict.fromkeys(accused)
    return (*first, *(name for name in upstream(model, [birth.node for birth in found if birth.operands]) if name not in first))


def upstream(model: Model, names: Sequence[str]) -> list[str]:
    """Float nodes before the named ones, the nearest first."""
    nodes = model.node_map()
    found: dict[str, None] = {}
    pending = deque(names)
    while pending:
        for tensor in float_inputs(nodes[pending.popleft()]):
            fresh = [node.name for node in tensor.inputs if node.name in nodes and node.name not in found]
            found |= dict.fromkeys(fresh)
            pending += fresh
    return list(found)
