"""Which tensors are computed from positions alone: grids, counts, angles of rotary embeddings. A semantic fact, not a range.

Such tensors are right in FP16 at the length that calibration saw and wrong at the next one, so they stay wide at any length.
"""

from __future__ import annotations

import numpy as np

from fp16fix.graph.model import Constant, Node, is_float
from fp16fix.graph.operators import ADDITIONS, POSITIONAL
from fp16fix.graph.ops import float_inputs, float_outputs
from fp16fix.hazards.context import Context

FLAG = 2.0
"""A leaf that never passes this is a mask or a flag, not a count."""
GRID = 8
"""Fewer distinct steps than this are a mask, not a grid."""


def positional(context: Context) -> dict[str, str]:
    """Float tensors derived from positions → the source they come from (a Range, a Cast of integers, a CumSum, a stored grid)."""
    found: dict[str, str] = {}
    flags: set[str] = set()
    for node in context.model.nodes():
        outputs = float_outputs(node)
        if not outputs:
            continue
        source = source_of(node)
        if source is not None:
            seen = context.range_of(outputs[0])
            (flags.add(outputs[0].name) if seen is not None and seen.absmax <= FLAG else found.update({t.name: source for t in outputs}))
            continue
        if node.op not in POSITIONAL:
            continue
        inputs = float_inputs(node)
        known = [found[t.name] for t in inputs if t.name in found]
        known += [f"the grid {t.name!r}" for t in inputs if isinstance(t, Constant) and node.op in ADDITIONS and is_grid(t)]
        rest = [t for t in inputs if t.name not in found and not isinstance(t, Constant)]
        if known and not rest and any(t.name in found for t in inputs):
            found.update({t.name: known[0] for t in outputs})
    return found


def source_of(node: Node) -> str | None:
    """What makes ``node`` a source of positions, or None."""
    if node.op == "Range" and is_float(node.outputs[0]):
        return f"Range {node.name!r}"
    if node.op == "CumSum" and not float_inputs(node):
        return f"CumSum {node.name!r}"
    if node.op == "Cast" and not float_inputs(node) and counts(node):
        return f"integers cast by {node.name!r}"
    return None


def counts(node: Node) -> bool:
    """A Cast from whole numbers: positions, lengths, indices. Bytes are images and booleans are masks."""
    dtype = node.inputs[0].dtype
    return dtype is not None and np.dtype(dtype) in {np.dtype(np.int64), np.dtype(np.int32)}


def is_grid(tensor: Constant) -> bool:
    """A stored table of evenly spaced numbers that counts past a flag: anchor centres, pixel coordinates."""
    values = tensor.values
    if values.size < GRID or values.dtype.kind != "f" or not np.isfinite(values).all():
        return False
    steps = np.diff(np.unique(values))
    return len(steps) >= GRID - 1 and float(np.abs(values).max()) > GRID and bool(np.allclose(steps, steps[0], rtol=1e-3))
