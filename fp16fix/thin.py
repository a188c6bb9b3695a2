"""A recipe that passes → one that passes with less: BF16 for islands that need range and not precision, fewer pins on request."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from fp16fix.config import Config
from fp16fix.diagnose.hazard import Hazard, Kind
from fp16fix.graph.model import Model
from fp16fix.graph.ops import runs_in
from fp16fix.half import BF16, Wide
from fp16fix.repair.design import matches
from fp16fix.repair.islands import flops
from fp16fix.search.judge import Candidate, Judge, Score
from fp16fix.search.minimise import best, by_pins, shrink
from fp16fix.verify.verdict import Verdict

Try = Callable[[Mapping[str, str]], Verdict]
"""Node → format of every pin, to a verdict."""


def thinned(model: Model, wide: Mapping[str, str], remaining: Sequence[Hazard], config: Config, try_: Try) -> dict[str, str]:
    """The pins to use; those given if nothing less passes.

    Islands around positions, angles and literals are left as they are: samples of one length cannot acquit them.

    Args:
        model: FP32, after rewrites and exponents.
        wide: pins that pass.
        remaining: the hazards that the pins answer.
        config: ``search.minimise`` and its budget; ``wide: auto`` allows BF16 on targets that have it.
        try_: judges other pins.
    """
    pins = dict(wide)
    asked = {name for name in pins if name in model.placed or matches(name, config.pin)}
    kept = asked | around(model, pins, {h.node for h in remaining if h.kind in BEYOND_SAMPLES})
    if config.search.minimise:
        pins = fewer(model, pins, kept, config, try_)
    if config.wide is Wide.AUTO and has_bf16(config):
        precise = {h.node for h in remaining if h.kind is not Kind.OVERFLOW}
        ranged = around(model, pins, {h.node for h in remaining if h.kind is Kind.OVERFLOW}) - around(model, pins, precise) - kept
        pins = narrower(model, pins, ranged, try_)
    return pins


BEYOND_SAMPLES = frozenset({Kind.SWAMP, Kind.CONSTANT})
"""Kinds that guard inputs which calibration may not hold."""


def around(model: Model, pins: Mapping[str, str], nodes: set[str]) -> set[str]:
    """The islands (connected pinned nodes) that hold any of ``nodes``."""
    by_name = model.node_map()
    pending, found = [name for name in sorted(nodes) if name in pins], set[str]()
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        node = by_name[name]
        neighbours = [*(p for t in node.inputs for p in t.inputs), *(c for t in node.outputs for c in t.outputs)]
        pending += [other.name for other in neighbours if other.name in pins]
    return found


def fewer(model: Model, pins: Mapping[str, str], kept: set[str], config: Config, try_: Try) -> dict[str, str]:
    """The smallest set that passes, costliest pins dropped first."""
    loose = [name for name in pins if name not in kept]
    if not loose:
        return dict(pins)

    def score(candidate: Candidate) -> Score:
        verdict = try_({name: fmt for name, fmt in pins.items() if name in kept or name in candidate.pins})
        return Score(verdict.verified, min((each.sqnr_db for each in verdict.outputs), default=math.nan))

    judge = Judge(score, budget_s=config.search.budget_s or math.inf)
    cost = {node.name: 1.0 + flops(node, {}) for node in model.nodes()}
    smallest = best(shrink(loose, by_pins(judge), cost=cost)).best
    return dict(pins) if smallest is None else {name: fmt for name, fmt in pins.items() if name in kept or name in smallest}


def narrower(model: Model, pins: Mapping[str, str], ranged: set[str], try_: Try) -> dict[str, str]:
    """Islands that need range and not precision in BF16 (half the traffic): all of them if that passes, else none."""
    nodes = model.node_map()
    willing = [name for name in sorted(ranged) if pins[name] == "fp32" and runs_in(nodes[name], BF16.onnx, model.opset)]
    if not willing:
        return dict(pins)
    candidate = {**pins, **dict.fromkeys(willing, "bf16")}
    return candidate if try_(candidate).verified else dict(pins)


def has_bf16(config: Config) -> bool:
    """Whether every target computes in BF16: compute capability 8.0 and later (CUDA documentation; sm75 does not).

    A graph for no named target may go anywhere, so it gets none.
    """
    if not config.build.targets and (config.output is None or config.output.suffix == ".onnx"):
        return False
    return all(int(target.removeprefix("sm")) >= 80 for target in config.build.targets)
