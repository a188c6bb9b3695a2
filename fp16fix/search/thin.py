"""A recipe that passes → one that passes with less: BF16 for islands that need range and not precision, fewer pins on request."""

from __future__ import annotations

from collections.abc import Mapping

from fp16fix.config import Config
from fp16fix.graph.model import Model
from fp16fix.graph.ops import runs_in
from fp16fix.half import BF16
from fp16fix.half import Wide as Formats
from fp16fix.hazards.hazard import Kind
from fp16fix.passes.design import Draft, matches
from fp16fix.passes.place.islands import costs
from fp16fix.search.shrink import best, shrink
from fp16fix.search.trials import Attempts, Wide


def thinned(tries: Attempts, draft: Draft, wide: Wide) -> dict[str, str]:
    """The pins to use; those given if nothing less passes.

    Islands around positions, angles and literals are left as they are: samples of one length cannot acquit them.

    Args:
        tries: judges other pins; ``search.minimise`` asks for fewer, ``wide: auto`` allows BF16 on targets that have it.
        draft: what the pins belong to.
        wide: pins that pass.
    """
    pins, model, config = dict(wide), draft.model, tries.found.config
    asked = {name for name in pins if name in model.placed or matches(name, config.pin)}
    kept = asked | around(model, pins, {h.node for h in draft.remaining if h.kind in BEYOND_SAMPLES})
    if config.search.minimise:
        pins = fewer(tries, draft, pins, kept)
    if config.wide is Formats.AUTO and has_bf16(config):
        precise = {h.node for h in draft.remaining if h.kind is not Kind.OVERFLOW}
        ranged = around(model, pins, {h.node for h in draft.remaining if h.kind is Kind.OVERFLOW}) - around(model, pins, precise) - kept
        pins = narrower(tries, draft, pins, ranged)
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


def fewer(tries: Attempts, draft: Draft, pins: Wide, kept: set[str]) -> dict[str, str]:
    """The smallest set that passes, costliest pins dropped first; stopped by Ctrl-C or the budget, the smallest so far."""

    def with_(names: frozenset[str]) -> dict[str, str]:
        return {name: fmt for name, fmt in pins.items() if name in kept or name in names}

    loose = [name for name in pins if name not in kept]
    cost = costs(draft.model.nodes(), draft.ranges)
    result = best(shrink(loose, tries.holds(draft, with_), cost=cost))
    tries.stopped = result.stopped or tries.stopped
    return dict(pins) if result.best is None else with_(result.best)


def narrower(tries: Attempts, draft: Draft, pins: Wide, ranged: set[str]) -> dict[str, str]:
    """Islands that need range and not precision in BF16 (half the traffic): all of them if that passes, else none."""
    nodes, opset = draft.model.node_map(), draft.model.opset
    willing = [name for name in sorted(ranged) if pins[name] == "fp32" and runs_in(nodes[name], BF16.onnx, opset)]
    candidate = {**pins, **dict.fromkeys(willing, "bf16")}
    return candidate if willing and tries.verdict(draft, candidate).verified else dict(pins)


def has_bf16(config: Config) -> bool:
    """Whether every target computes in BF16: compute capability 8.0 and later (CUDA documentation; sm75 does not).

    A graph for no named target may go anywhere, so it gets none.
    """
    if not config.build.targets and (config.output is None or config.output.suffix == ".onnx"):
        return False
    return all(int(target.removeprefix("sm")) >= 80 for target in config.build.targets)
