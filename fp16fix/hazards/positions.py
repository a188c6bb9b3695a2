"""Which tensors are computed from positions alone: grids, counts, angles of rotary embeddings. A semantic fact, not a range.

Such tensors are right in 16 bits at the length that calibration saw and wrong at the next one, so they stay wide at any length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fp16fix.graph.model import Constant, Node, Tensor, is_float
from fp16fix.graph.operators import ADDITIONS, POSITIONAL, PRODUCTS, operator
from fp16fix.graph.ops import float_inputs, float_outputs
from fp16fix.graph.walk import readers, walk
from fp16fix.half import Format
from fp16fix.hazards.context import Context

FLAG = 2.0
"""A leaf that never passes this is a mask or a flag, not a count."""
GRID = 8
"""Fewer distinct steps than this are a mask, not a grid."""


SIZES = frozenset({"Shape", "Size"})
LENGTHENING = 16
"""Times longer than calibration's that an input may be before whole numbers that nothing is computed from pass 2048, or BF16's 256."""
ACCUMULATORS = frozenset({"MatMulInteger", "ConvInteger"})
"""Their whole numbers are sums of products on their way to a scale: no position."""
OUTSIDE = "an input"
"""Stands for a graph input among the operators that integers come from."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a tensor of positions comes from."""

    source: str
    """A Range, a Cast of integers, a CumSum, a stored grid."""
    size: bool = False
    """It is computed from nothing but sizes of tensors: the square root of a head's, the length of a row."""


def positional(context: Context) -> dict[str, Position]:
    """Float tensors derived from positions."""
    found: dict[str, Position] = {}
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
        known += [Position(f"the grid {t.name!r}") for t in inputs if isinstance(t, Constant) and node.op in ADDITIONS and is_grid(t)]
        rest = [t for t in inputs if t.name not in found and not isinstance(t, Constant)]
        if known and not rest and any(t.name in found for t in inputs):
            found.update({t.name: Position(known[0].source, all(each.size for each in known)) for t in outputs})
    return found


def is_one_size(position: Position, shape: tuple[int, ...], absmax: float, narrow: Format) -> bool:
    """A single number made of sizes: a scale, whose relative error is the type's, and no grid that grows finer than its spacing."""
    return position.size and math.prod(shape) == 1 and absmax <= narrow.integers


def source_of(node: Node) -> Position | None:
    """What makes ``node`` a source of positions, or None."""
    if node.op == "Range" and is_float(node.outputs[0]):
        return Position(f"Range {node.name!r}")
    if node.op == "CumSum" and not float_inputs(node):
        return Position(f"CumSum {node.name!r}")
    if node.op == "Cast" and not float_inputs(node) and counts(node):
        origins = integer_origins(node.inputs[0])
        if not origins & ACCUMULATORS:
            return Position(f"integers cast by {node.name!r}", bool(origins & SIZES) and not origins & {"Range", "CumSum", OUTSIDE})
    return None


def counts(node: Node) -> bool:
    """A Cast from whole numbers: positions, lengths, indices. Bytes are images and booleans are masks."""
    dtype = node.inputs[0].dtype
    return dtype is not None and np.dtype(dtype) in {np.dtype(np.int64), np.dtype(np.int32)}


def integer_origins(tensor: Tensor) -> set[str]:
    """Operators that whole numbers were computed by, back to where sizes, floats or inputs end the search."""

    def back(each: Tensor) -> list[Tensor]:
        deeper = [producer for producer in each.inputs if producer.op not in SIZES | ACCUMULATORS]
        return [t for producer in deeper for t in producer.inputs if t.name and not is_float(t)]

    found: set[str] = set()
    for each in walk([tensor], back):
        if not each.inputs and not isinstance(each, Constant):
            found.add(OUTSIDE)
        found |= {producer.op for producer in each.inputs}
    return found


def decides_a_shape(node: Node) -> bool:
    """Whether, behind sums and casts, the result says how long something is."""
    behind = walk([node], lambda each: [reader for reader in readers(each) if reader.op not in PRODUCTS])
    return any(is_shape_of(tensor, reader) for each in behind for tensor in each.outputs for reader in tensor.outputs)


def is_shape_of(tensor: Tensor, node: Node) -> bool:
    """Whether ``node`` reads ``tensor`` as a shape, a count or an end."""
    port = operator(node.op).shape
    return port is not None and port < len(node.inputs) and node.inputs[port] is tensor


def is_grid(tensor: Constant) -> bool:
    """A stored table of evenly spaced numbers that counts past a flag: anchor centres, pixel coordinates."""
    values = tensor.values
    if values.size < GRID or values.dtype.kind != "f" or not np.isfinite(values).all():
        return False
    steps = np.diff(np.unique(values))
    return len(steps) >= GRID - 1 and float(np.abs(values).max()) > GRID and bool(np.allclose(steps, steps[0], rtol=1e-3))
