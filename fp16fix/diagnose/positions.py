"""Which tensors are computed from positions alone: grids, counts, angles of rotary embeddings. A semantic fact, not a range.

Such tensors are right in FP16 at the length that calibration saw and wrong at the next one, so they stay wide at any length.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.diagnose.context import Context
from fp16fix.graph.model import is_float
from fp16fix.graph.ops import MOVEMENT, float_inputs, float_outputs

ARITHMETIC = frozenset(
    {
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "MatMul",
        "Gemm",
        "Einsum",
        "Neg",
        "Abs",
        "Floor",
        "Ceil",
        "Round",
        "Mod",
        "CumSum",
        "Cast",
        "Clip",
        "Max",
        "Min",
        "Sqrt",
    }
)
"""Operators through which a position stays a position."""
FLAG = 2.0
"""A leaf that never passes this is a mask or a flag, not a count."""
INDEX_SOURCES = frozenset({"Range", "NonZero", "ArgMax", "ArgMin", "TopK", "Shape", "Size"})


def positional(context: Context) -> dict[str, str]:
    """Float tensors derived from positions → the source they come from (a Range, a Cast of integers, a CumSum, a stored grid)."""
    found: dict[str, str] = {}
    flags: set[str] = set()
    for node in context.model.nodes():
        outputs = float_outputs(node)
        if not outputs:
            continue
        source = source_of(context, node)
        if source is not None:
            seen = context.range_of(outputs[0])
            (flags.add(outputs[0].name) if seen is not None and seen.absmax <= FLAG else found.update({t.name: source for t in outputs}))
            continue
        if node.op not in ARITHMETIC and node.op not in MOVEMENT:
            continue
        inputs = float_inputs(node)
        known = [found[t.name] for t in inputs if t.name in found]
        known += [f"the grid {t.name!r}" for t in inputs if isinstance(t, gs.Constant) and node.op in {"Add", "Sub"} and is_grid(t)]
        rest = [t for t in inputs if t.name not in found and not isinstance(t, gs.Constant)]
        if known and not rest and any(t.name in found for t in inputs):
            found.update({t.name: known[0] for t in outputs})
    return found


def source_of(context: Context, node: gs.Node) -> str | None:
    """What makes ``node`` a source of positions, or None."""
    if node.op == "Range" and is_float(node.outputs[0]):
        return f"Range {node.name!r}"
    if node.op == "CumSum" and not float_inputs(node):
        return f"CumSum {node.name!r}"
    if node.op == "Cast" and not float_inputs(node) and counts(node):
        return f"integers cast by {node.name!r}"
    del context
    return None


def counts(node: gs.Node) -> bool:
    """A Cast from an integer tensor that is not a comparison, a mask input of bytes, or an image."""
    dtype = node.inputs[0].dtype
    if dtype is None or np.dtype(dtype) not in {np.dtype(np.int64), np.dtype(np.int32)}:
        return False
    frontier = [node.inputs[0]]
    for _ in range(6):
        producers = [producer for tensor in frontier for producer in tensor.inputs]
        if any(producer.op in INDEX_SOURCES or producer.op == "CumSum" for producer in producers):
            return True
        frontier = [tensor for producer in producers for tensor in producer.inputs if isinstance(tensor, gs.Variable)]
        if not frontier:
            break
    return not node.inputs[0].inputs or any("position" in tensor.name.lower() for tensor in [node.inputs[0], *frontier])


def is_grid(tensor: gs.Constant) -> bool:
    """A stored table of whole numbers that counts past a flag: anchor centres, pixel coordinates."""
    values = tensor.values
    if values.size < 4 or values.dtype.kind != "f":
        return False
    largest = float(np.abs(values).max())
    return largest > 8.0 and bool(np.all(values * 2 == np.round(values * 2)))
