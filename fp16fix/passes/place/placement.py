"""Formats of pinned nodes → the edits that type a graph: placements, and a Clip wherever an island hands on what may not fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fp16fix.graph.lower import exits
from fp16fix.graph.model import Model
from fp16fix.passes.recipe import Edit, placement, saturation
from fp16fix.ranges.range import Range


def placements(
    model: Model,
    ranges: Mapping[str, Range],
    wide: Mapping[str, str],
    *,
    headroom: float,
    spared: Collection[str] = (),
    io: str | None = None,
    because: Mapping[str, str] | None = None,
) -> tuple[Edit, ...]:
    """Placements and saturations, by name.

    Args:
        model: FP32, after rewrites and exponents.
        ranges: of ``model``.
        wide: node → ``fp32`` or ``bf16``.
        headroom: octaves that a tensor needs above what calibration saw to leave an island unclipped.
        spared: tensors that overflow without effect.
        io: see ``Recipe.io``.
        because: why a node is placed.
    """
    limit, reasons = model.narrow.largest * 2.0**-headroom, because or {}

    def fits(tensor: str) -> bool:
        seen = ranges.get(tensor)
        return tensor in spared or (seen is not None and seen.absmax <= limit)

    loose = sorted(name for name in exits(model, wide, io, model.narrow) if not fits(name))
    shapes = {name: tensor.shape or () for name, tensor in model.tensors().items()} if loose else {}
    # What has no element is not measured, and fits.
    loose = [name for name in loose if 0 not in shapes[name]]
    placed = [placement(name, wide[name], reasons.get(name, "")) for name in sorted(wide)]
    return (*placed, *(saturation(name, model.narrow) for name in loose))
