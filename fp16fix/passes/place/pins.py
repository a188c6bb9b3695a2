"""Remaining hazards → which tensors must be stored wide and which nodes must compute wide. What is around them is ``islands``' business."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fp16fix import half
from fp16fix.graph.model import Constant, Model, Node
from fp16fix.graph.operators import MOVEMENT, SELECTION
from fp16fix.graph.ops import float_inputs, float_outputs
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.ranges.range import Range


@dataclass(frozen=True, slots=True)
class Forced:
    """What cannot be FP16."""

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
        if hazard.internal:
            pinned.add(node.name)
        elif hazard.kind is Kind.CANCEL:
            pinned.add(node.name)
            tensors |= noisy_operands(node, ranges)
        elif hazard.kind is Kind.CONSTANT:
            pinned.add(node.name)
        elif hazard.tensor in {t.name for t in node.inputs} and not is_constant(node, hazard.tensor):
            tensors |= same_values(node, hazard, ranges)
        else:
            tensors |= {t.name for t in float_outputs(node)}
            pinned.add(node.name)
    if any(hazard.kind is Kind.OVERFLOW for hazard in hazards) or tensors:
        tensors |= carried(model, ranges, tensors, spared)
    return Forced(frozenset(tensors), frozenset(pinned))


def is_constant(node: Node, name: str) -> bool:
    """Whether ``name`` is an initializer that ``node`` reads."""
    return any(isinstance(t, Constant) and t.name == name for t in node.inputs)


def noisy_operands(node: Node, ranges: Mapping[str, Range]) -> set[str]:
    """Operands of a difference: their rounding is what survives it."""
    return {t.name for t in float_inputs(node) if t.name in ranges}


def same_values(node: Node, hazard: Hazard, ranges: Mapping[str, Range]) -> set[str]:
    """The input at fault and, back through operators that only move or pick values, the tensors its small values come from."""
    found: set[str] = set()
    pending = [t for t in float_inputs(node) if t.name == hazard.tensor]
    while pending:
        tensor = pending.pop()
        found.add(tensor.name)
        for producer in tensor.inputs:
            if hazard.kind is Kind.VANISH and producer.op in MOVEMENT | SELECTION:
                small = [
                    t
                    for t in float_inputs(producer)
                    if t.name in ranges and t.name not in found and 0.0 < ranges[t.name].smallest <= half.SMALLEST
                ]
                pending += small
    return found


def carried(model: Model, ranges: Mapping[str, Range], tensors: set[str], spared: frozenset[str]) -> set[str]:
    """Tensors past FP16 that a forced node hands on: they cannot be stored either."""
    found: set[str] = set()
    for node in model.nodes():
        reads = {t.name for t in float_inputs(node)}
        if not reads & (tensors | found):
            continue
        for tensor in float_outputs(node):
            seen = ranges.get(tensor.name)
            if seen is not None and seen.absmax >= half.FP16.overflow and tensor.name not in spared:
                found.add(tensor.name)
    return found
