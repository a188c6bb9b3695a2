"""Model + Ranges → Hazards, one file a kind: each module of this folder that has a ``find`` is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from fp16fix.graph.model import Model
from fp16fix.hazards.context import Context
from fp16fix.hazards.hazard import Hazard
from fp16fix.ranges.range import Range


@cache
def finders() -> tuple[Callable[[Context], Iterator[Hazard]], ...]:
    """The ``find`` of every kind."""
    modules = [import_module(f"{__name__}.{name}") for name in sorted(info.name for info in iter_modules(__path__))]
    return tuple(module.find for module in modules if hasattr(module, "find"))


def diagnose(model: Model, ranges: Mapping[str, Range], pinned: frozenset[str] = frozenset()) -> tuple[Hazard, ...]:
    """Every hazard of an FP32 model in its narrow type, in graph order.

    Args:
        model: FP32 graph.
        ranges: what calibration saw, by tensor.
        pinned: nodes that run wide whatever is found.
    """
    context = Context(model, ranges, pinned)
    place = {node.name: index for index, node in enumerate(model.nodes())}
    found = {hazard for find in finders() for hazard in find(context)}
    return tuple(sorted(found, key=lambda h: (place[h.node], h.kind.value, h.tensor)))
