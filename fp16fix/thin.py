"""A recipe that passes → one that passes with less: BF16 for islands that need range and not precision, fewer pins on request."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from fp16fix.config import Config
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


def thinned(model: Model, wide: Mapping[str, str], config: Config, try_: Try) -> dict[str, str]:
    """The pins to use; those given if nothing less passes.

    Args:
        model: FP32, after rewrites and exponents.
        wide: pins that pass.
        config: ``search.minimise`` and its budget; ``wide: auto`` allows BF16 on targets that have it.
        try_: judges other pins.
    """
    pins = dict(wide)
    if config.search.minimise:
        pins = fewer(model, pins, config, try_)
    if config.wide is Wide.AUTO and has_bf16(config):
        pins = narrower(model, pins, config, try_)
    return pins


def fewer(model: Model, pins: Mapping[str, str], config: Config, try_: Try) -> dict[str, str]:
    """The smallest set that passes, costliest pins dropped first; the user's own pins and the author's placement stay."""
    fixed = {name for name in pins if name in model.placed or matches(name, config.pin)}
    loose = [name for name in pins if name not in fixed]
    if not loose:
        return dict(pins)

    def score(candidate: Candidate) -> Score:
        verdict = try_({name: fmt for name, fmt in pins.items() if name in fixed or name in candidate.pins})
        return Score(verdict.verified, min((each.sqnr_db for each in verdict.outputs), default=math.nan))

    judge = Judge(score, budget_s=config.search.budget_s or math.inf)
    cost = {node.name: 1.0 + flops(node, {}) for node in model.nodes()}
    kept = best(shrink(loose, by_pins(judge), cost=cost)).best
    return dict(pins) if kept is None else {name: fmt for name, fmt in pins.items() if name in fixed or name in kept}


def narrower(model: Model, pins: Mapping[str, str], config: Config, try_: Try) -> dict[str, str]:
    """FP32 pins that may as well be BF16 (half the traffic): all of them if that passes, else none."""
    nodes = model.node_map()
    fixed = {name for name in pins if name in model.placed or matches(name, config.pin)}
    willing = [name for name, fmt in pins.items() if fmt == "fp32" and name not in fixed and runs_in(nodes[name], BF16.onnx, model.opset)]
    if not willing:
        return dict(pins)
    candidate = {**pins, **dict.fromkeys(willing, "bf16")}
    return candidate if try_(candidate).verified else dict(pins)


def has_bf16(config: Config) -> bool:
    """Whether every target computes in BF16: compute capability 8.0 and later (CUDA documentation; sm75 does not)."""
    return all(int(target.removeprefix("sm")) >= 80 for target in config.build.targets)
