"""A recipe that fails its verdict → one that passes, guided by blame: pin where error is born, or what feeds it.

A node that computes wide and still gives birth to error amplifies the rounding of its operands (a difference, a sine of a large
angle): then the producers of those operands are pinned. Every round costs one shadow pass and one strict verdict, no engine build.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.model import FLOATS, Model, bodies, element_type
from fp16fix.graph.ops import float_inputs, is_float_node
from fp16fix.repair.lower import Fits, lower
from fp16fix.search.blame import Blame, blame, born
from fp16fix.search.shadow import shadow
from fp16fix.verify.verdict import Verdict

ROUNDS = 8
"""Each round may pin twice as many births as the one before."""

Judge = Callable[[Model], Verdict]
"""Typed graph → verdict on held-out samples."""


@dataclass(frozen=True, slots=True)
class Refined:
    """Where refinement ended."""

    wide: dict[str, str]
    typed: Model
    verdict: Verdict
    rounds: int
    because: dict[str, str]
    """Pinned node → why, in a sentence."""


def refine(
    model: Model,
    wide: Mapping[str, str],
    verdict: Verdict,
    judge: Judge,
    samples: Iterable[Mapping[str, np.ndarray]],
    *,
    fits: Fits | None,
    io: str | None = None,
    allow: Callable[[str], bool] = lambda _: False,
    rounds: int = ROUNDS,
    threads: int = 0,
) -> Refined:
    """Pin, judge, repeat, until the verdict passes, nothing is left to blame, or rounds run out.

    Args:
        model: FP32, after rewrites and exponents.
        wide: pins so far.
        verdict: the failing one.
        judge: see ``Judge``.
        samples: calibration samples for the shadow runs; held-out samples decide but never guide.
        fits: see ``lower``.
        io: see ``lower``.
        allow: nodes the user wants in FP16.
        rounds: at most this many.
        threads: ONNX Runtime threads.
    """
    pins = dict(wide)
    because: dict[str, str] = {}
    done = 0
    typed = lower(model, pins, io=io, fits=fits)
    nodes = {node.name: node for node in model.graph.nodes}
    while not verdict.verified and done < rounds:
        errors = shadow(model, typed, samples, threads=threads)
        fresh: dict[str, str] = {}
        for culprit in born(blame(model, errors))[: 2**done]:
            fresh |= {name: why for name, why in widened(culprit, nodes, pins).items() if not allow(name)}
        if not fresh:
            break
        pins |= dict.fromkeys(fresh, "fp32")
        because |= fresh
        done += 1
        typed = lower(model, pins, io=io, fits=fits)
        verdict = judge(typed)
    return Refined(pins, typed, verdict, done, because)


def widened(culprit: Blame, nodes: Mapping[str, gs.Node], pins: Mapping[str, str]) -> dict[str, str]:
    """What to pin for one culprit: the node, or once it is wide, the producers of what it reads."""
    node = nodes[culprit.node]
    if culprit.node not in pins:
        return {
            culprit.node: f"error is born here: {culprit.sqnr_in_db:.0f} dB come in, {culprit.sqnr_out_db:.0f} dB go out",
            **inside(node),
        }
    found: dict[str, str] = {}
    pending, seen = [node], {node.name}
    while pending:
        reader = pending.pop()
        for tensor in float_inputs(reader):
            for producer in tensor.inputs:
                if producer.name in seen or producer.name not in nodes or not is_float_node(producer):
                    continue
                seen.add(producer.name)
                if producer.name in pins:
                    pending.append(producer)
                else:
                    found[producer.name] = f"{culprit.node} magnifies the FP16 rounding of what this node hands it"
    return found


def inside(node: gs.Node) -> dict[str, str]:
    """A control node is pinned together with the float nodes of its bodies."""
    inner = [n for body in bodies(node).values() for n in body.nodes]
    return {n.name: f"inside {node.name}" for n in inner if any(element_type(t) in FLOATS for t in n.outputs if t.name)}
