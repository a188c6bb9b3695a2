"""Constant: a literal or weight that the narrow type cannot hold."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fp16fix.graph.model import Constant, Node
from fp16fix.graph.operators import BYSTANDERS, HIDES_SMALL, operator
from fp16fix.half import Format
from fp16fix.hazards.context import Context, hazard
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.hazards.vanish import STORAGE_DB
from fp16fix.ranges.range import Range


def find(context: Context) -> Iterator[Hazard]:
    """Initializers past the largest value or infinite, weights mostly lost at the small end; once per tensor and reader."""
    seen_pairs: set[tuple[str, str]] = set()
    for node in context.nodes():
        if node.op in BYSTANDERS:
            continue
        for tensor in node.inputs:
            if not isinstance(tensor, Constant) or (node.name, tensor.name) in seen_pairs:
                continue
            seen_pairs.add((node.name, tensor.name))
            seen = context.range_of(tensor)
            found = None if seen is None else judged(node, seen, context.narrow)
            if found is not None:
                yield found


def judged(node: Node, seen: Range, narrow: Format) -> Hazard | None:
    """The hazard of one initializer as ``node`` reads it."""
    size = math.prod(seen.shape)
    what = "literal" if size == 1 else f"weight of {size} values"
    if seen.nonfinite and seen.absmax < narrow.overflow:
        # An infinity that the model's author wrote is an infinity in any format.
        return None
    if seen.nonfinite:
        return hazard(node, Kind.CONSTANT, seen, math.inf, f"the {what} {seen.tensor!r} holds {seen.nonfinite} infinite values")
    if seen.absmax >= narrow.overflow:
        return hazard(
            node,
            Kind.CONSTANT,
            seen,
            math.log2(seen.absmax / narrow.largest),
            f"the {what} {seen.tensor!r} reaches {seen.absmax:.4g}; {narrow} ends at {narrow.largest:.6g}",
        )
    if seen.energy > 0.0 and seen.storage_db < STORAGE_DB - narrow.coarseness_db and not is_small_addend(node, seen):
        lost = math.log2(narrow.smallest_normal / seen.rms) if seen.rms < narrow.smallest_normal else 0.0
        return hazard(
            node,
            Kind.CONSTANT,
            seen,
            lost,
            f"the {what} {seen.tensor!r} has an RMS of {seen.rms:.3g}: stored in {narrow} it keeps {seen.storage_db:.0f} dB",
        )
    return None


def is_small_addend(node: Node, seen: Range) -> bool:
    """A tiny bias is lost beside what it is added to in any format; eps literals are ``vanish``'s business."""
    if node.op in HIDES_SMALL:
        return True
    index = operator(node.op).bias
    return index is not None and index < len(node.inputs) and node.inputs[index].name == seen.tensor
