"""Remaining hazards → which tensors must be stored wide and which nodes must compute wide. What is around them is ``islands``' business."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fp16fix.graph.loops import deciders
from fp16fix.graph.model import Constant, Model, Node, Tensor
from fp16fix.graph.operators import EXPONENTIATING, MOVEMENT, SELECTION
from fp16fix.graph.ops import float_inputs, float_outputs
from fp16fix.graph.walk import walk
from fp16fix.half import Format
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.passes.place.reach import argument, deciding, moments, onward, squares
from fp16fix.ranges.range import Range


@dataclass(frozen=True, slots=True)
class Forced:
    """What cannot be narrow."""

    tensors: frozenset[str]
    """Their producers and all their readers compute wide."""
    nodes: frozenset[str]


def forced(model: Model, ranges: Mapping[str, Range], hazards: Iterable[Hazard], spared: frozenset[str] = frozenset()) -> Forced:
    """What the hazards force.

    Args:
        model: the graph that will be lowered.
        ranges: its ranges.
        hazards: those neither repaired nor harmless.
        spared: tensors that overflow without effect.
    """
    nodes = model.node_map()
    tensors: set[str] = set()
    pinned: set[str] = set()
    for hazard in hazards:
        node = nodes[hazard.node]
        found = needed(node, hazard, ranges, model.narrow)
        tensors |= found
        if hazard.kind is Kind.ENDLESS:
            continue
        if hazard.internal or hazard.kind is Kind.COARSE or not found or hazard.tensor not in {t.name for t in float_inputs(node)}:
            pinned.add(node.name)
    if any(hazard.kind is Kind.OVERFLOW for hazard in hazards) or tensors:
        tensors |= carried(model, ranges, tensors, spared)
    return Forced(frozenset(tensors), frozenset(pinned))


def needed(node: Node, hazard: Hazard, ranges: Mapping[str, Range], narrow: Format) -> set[str]:
    """Tensors that one hazard forces: as far back or on as its cause reaches."""
    if hazard.internal:
        return set()
    if hazard.kind is Kind.CANCEL:
        return moments(node, ranges, hazard.bits)
    if hazard.kind is Kind.CONSTANT:
        return set()
    if hazard.kind is Kind.ENDLESS:
        return set().union(*(argument(tensor, 1) for each in deciders(node) for tensor in float_inputs(each)))
    if hazard.kind is Kind.COARSE:
        return deciding(node, operand(node, hazard.tensor))
    own = {t.name for t in float_outputs(node)}
    if is_constant(node, hazard.tensor):
        return own.union(*(squares(t, ranges) for t in float_inputs(node) if t.name != hazard.tensor))
    if hazard.tensor in {t.name for t in node.inputs}:
        return same_values(node, hazard, ranges, narrow)
    if hazard.kind is Kind.SWALLOW:
        return own | {t.name for t in float_inputs(node) if t.name in ranges and t.inputs}
    if hazard.kind is Kind.SWAMP:
        return own | onward(float_outputs(node), ranges, narrow)
    if hazard.kind is Kind.OVERFLOW and node.op in EXPONENTIATING:
        return own | argument(node.inputs[0], 1)
    return own


def is_constant(node: Node, name: str) -> bool:
    """Whether ``name`` is an initializer that ``node`` reads."""
    return any(isinstance(t, Constant) and t.name == name for t in node.inputs)


def operand(node: Node, name: str) -> Tensor:
    """The input of that name."""
    return next(t for t in node.inputs if t.name == name)


def same_values(node: Node, hazard: Hazard, ranges: Mapping[str, Range], narrow: Format) -> set[str]:
    """The input at fault and, back through operators that only move or pick values, the tensors its small values come from."""

    def back(tensor: Tensor) -> list[Tensor]:
        picking = [producer for producer in tensor.inputs if hazard.kind is Kind.VANISH and producer.op in MOVEMENT | SELECTION]
        known = [(t, ranges[t.name].smallest) for producer in picking for t in float_inputs(producer) if t.name in ranges]
        return [t for t, smallest in known if 0.0 < smallest <= narrow.smallest]

    return {tensor.name for tensor in walk([t for t in float_inputs(node) if t.name == hazard.tensor], back)}


def carried(model: Model, ranges: Mapping[str, Range], tensors: set[str], spared: frozenset[str]) -> set[str]:
    """Tensors past the narrow type that a forced node hands on: they cannot be stored either."""
    found: set[str] = set()
    for node in model.nodes():
        reads = {t.name for t in float_inputs(node)}
        if not reads & (tensors | found):
            continue
        for tensor in float_outputs(node):
            seen = ranges.get(tensor.name)
            if seen is not None and seen.absmax >= model.narrow.overflow and tensor.name not in spared:
                found.add(tensor.name)
    return found
