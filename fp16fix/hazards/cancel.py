"""Cancel: a difference of large, nearly equal values keeps only their rounding errors."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fp16fix.graph.operators import ADDITIONS
from fp16fix.graph.ops import float_inputs
from fp16fix.hazards.context import Context, hazard
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.hazards.positions import positional

KEPT_DB = 40.0
"""A difference whose operands' FP16 rounding noise leaves it less than this is a hazard; of BF16's, 18 dB less."""
COORDINATES_DB = 60.0
"""The same of coordinates less coordinates, whose difference is what the model is asked for: 50 dB where it is a third of that."""
UNIFORM = math.sqrt(3)
"""Largest over RMS of what is uniform around zero: of a rounding to 11 bits, ±½ ulp, an ulp between 2⁻¹¹ and 2⁻¹⁰ of the value."""


def find(context: Context) -> Iterator[Hazard]:
    """Add, Sub and Sum whose result is far smaller than what goes in."""
    derived, narrow = positional(context), context.narrow
    noise = 2.0**-narrow.digits / UNIFORM
    for node in context.nodes():
        if node.op not in ADDITIONS:
            continue
        operands = [seen for tensor in float_inputs(node) if (seen := context.range_of(tensor)) is not None]
        result = context.range_of(node.outputs[0])
        if result is None or len(operands) < 2 or result.energy == 0.0:
            continue
        largest = max(seen.rms for seen in operands)
        kept = 20.0 * math.log10(result.rms / (largest * noise)) if largest > 0.0 and math.isfinite(largest) else math.inf
        on_grid = any(tensor.name in derived for tensor in float_inputs(node)) and node.outputs[0].name not in derived
        wanted = (COORDINATES_DB if on_grid else KEPT_DB) - narrow.coarseness_db
        if kept < wanted and result.rms < largest / 2 and largest < narrow.overflow:
            bits = math.log2(largest / result.rms)
            what = "coordinates" if on_grid else "values"
            left = f"{bits:.1f} bits cancel, {kept:.0f} dB survive {narrow}"
            why = f"{node.op} of {what} of RMS {largest:.3g} leaves {result.rms:.3g}: {left}"
            yield hazard(node, Kind.CANCEL, result, bits, why)
