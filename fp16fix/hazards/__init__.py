"""Model + Ranges → Hazards, one file a kind."""

from __future__ import annotations

from collections.abc import Mapping

from fp16fix.graph.model import Model
from fp16fix.hazards import cancel, constant, overflow, swamp, vanish
from fp16fix.hazards.context import Context
from fp16fix.hazards.hazard import Hazard
from fp16fix.ranges.range import Range

KINDS = (overflow, vanish, swamp, cancel, constant)


def diagnose(model: Model, ranges: Mapping[str, Range], pinned: frozenset[str] = frozenset()) -> tuple[Hazard, ...]:
    """Every hazard of an FP32 model under FP16, in graph order.

    Args:
        model: FP32 graph.
        ranges: what calibration saw, by tensor.
        pinned: nodes that run wide whatever is found.
    """
    context = Context(model, ranges, pinned)
    place = {node.name: index for index, node in enumerate(model.nodes())}
    found = {hazard for kind in KINDS for hazard in kind.find(context)}
    return tuple(sorted(found, key=lambda h: (place[h.node], h.kind.value, h.tensor)))
