"""Loops that end in FP32 and not in FP16: found by running the all-FP16 graph, for no range shows them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from fp16fix.errors import ModelError
from fp16fix.graph.loops import deciders
from fp16fix.graph.model import Constant, Model, Node
from fp16fix.graph.session import Session
from fp16fix.half import Format
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.strict.emulate import emulate
from fp16fix.strict.rounds import guard, limit_of, stopped

Sample = Mapping[str, np.ndarray]
SHOWN = 3
"""Deciding nodes that a sentence names."""


def hanging(model: Model, rounds: Mapping[str, int]) -> dict[str, int]:
    """Of Loops whose rounds were counted, those on whose floats it hangs when they end: no other can run on in FP16."""
    nodes = model.node_map()
    return {name: count for name, count in rounds.items() if deciders(nodes[name])}


def endless(model: Model, typed: Model, samples: Iterable[Sample], threads: int = 0) -> tuple[Hazard, ...]:
    """A hazard for every Loop of ``model.rounds`` that ``typed`` does not end.

    Args:
        model: FP32, its rounds counted.
        typed: the same graph in its narrow type.
        samples: on which it is run, strictly, if there is such a Loop.
        threads: ONNX Runtime threads.
    """
    found = unended(emulate(typed, guarded=True), samples, threads) if model.rounds else set()
    return tuple(hazard_of(node, model.rounds[name], model.narrow) for name, node in model.node_map().items() if name in found)


def unended(twin: Model, samples: Iterable[Sample], threads: int) -> set[str]:
    """Loops of an emulated graph that are stopped on some sample; behind each, the run goes on with what it had by then."""
    session, found = Session(twin, threads=threads), set[str]()
    for sample in samples:
        while (name := failing(session, twin, sample)) is not None:
            found.add(name)
            disarm(twin, name)
            session = Session(twin, threads=threads)
    return found


def failing(session: Session, twin: Model, sample: Sample) -> str | None:
    """The Loop that ends a run; None if the run ends well, or otherwise."""
    try:
        session.run(sample)
    except ModelError as error:
        return stopped(twin, error.what)
    return None


def disarm(twin: Model, loop: str) -> None:
    """Let the guard of a Loop fail no more, in place."""
    twin.node_map()[guard(loop)].inputs[1] = Constant(f"{loop}/first row", np.asarray(0, np.int64))


def hazard_of(loop: Node, rounds: int, narrow: Format) -> Hazard:
    """The hazard of a Loop that took so many rounds in FP32, at most."""
    names, limit = [node.name for node in deciders(loop)], limit_of(rounds)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    why = (
        f"Loop ends after {rounds:,} rounds at most in FP32 and had not after {limit:,} in {narrow}, where it was stopped: "
        f"{', '.join(names[:SHOWN])}{more} decided when"
    )
    condition = loop.attrs["body"].outputs[0].name
    return Hazard(loop.name, Kind.ENDLESS, condition, loop.op, 0.0, 1.0, 1.0, round(math.log2(limit / max(1, rounds)), 3), why)
