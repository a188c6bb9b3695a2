"""How the narrow type's spacing at the largest value of a row compares with the distance of its runner-up, where a softmax reads the row.

Of a row whose largest logits compete, an error δ of a logit is a relative error δ of the shares. Where its spacing s is below 1, that
is seen in every sample; past 1 the winner is right unless two logits fall into one step, which few samples show. So distances to 64 steps
are counted, and a 64th of them is taken for ties: what a distribution without holes would have.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from fp16fix.graph.model import Model, Node, Tensor
from fp16fix.graph.operators import EXPONENTIATING
from fp16fix.ranges.probe import BOOL, FLOAT, INT64, Probes
from fp16fix.ranges.range import Range

LOGIT = 64.0
"""Logits below this are 2⁻⁵ apart: rounding is 0.009 RMS, which passes 50 dB over rows of which half compete; nothing is measured."""
NEAR = 8.0
"""A runner-up this far below has e⁻⁸ of the share: it competes no more."""
STEPS = 64.0
"""Distances up to so many steps are counted for how many fall into one."""
SHARE_ERROR = 1.0 / 48
"""(δ·p·(1−p))² over p² at p = ½, of a rounding error δ with a variance of s²/12."""
COLUMNS = ("sum", "sum", "sum")
"""Σ error of rows with s < 1, Σ expected ties, count."""
MASKED = 4.0
"""Rows whose largest value is negative and this many times further down than the largest of all are masked: nothing competes in them."""
NOWHERE = -3e38
"""Where the runner-up of a single value is."""


class Rivalries:
    """Of what a softmax reads, where its logits are large: fills in ``wavering`` and ``ties``."""

    def __init__(self, model: Model, ranges: Mapping[str, Range], known: Collection[str]) -> None:
        """Of a model whose ranges are known, but for what is ``known`` already."""
        axes = {
            node.inputs[0].name: int(node.attrs.get("axis", -1))
            for node in model.nodes()
            if node.op in EXPONENTIATING and node.op != "Exp" and node.inputs[0].name in ranges and node.inputs[0].name not in known
        }
        self.names = {name: axis for name, axis in axes.items() if abs(ranges[name].high) >= LOGIT or ranges[name].low <= -LOGIT}
        """And the axis of each."""
        self.floors = {name: MASKED * min(0.0, ranges[name].high) for name in self.names}
        self.totals = {name: np.zeros(len(COLUMNS)) for name in self.names}

    def install(self, model: Model) -> None:
        """Probe them."""
        self.probes = Probes(model, COLUMNS, lambda made, tensor: row(made, tensor, self.names[tensor.name], self.floors[tensor.name]))
        self.probes.install(lambda tensor: tensor.name in self.names)

    def see(self, found: Mapping[str, np.ndarray]) -> None:
        """What one sample gives."""
        for name, matrix in self.probes.rows_of(found):
            self.totals[name] += matrix.astype(np.float64).sum(axis=0)

    def tell(self, ranges: dict[str, Range]) -> None:
        """Fill in what was seen."""
        for name, (error, ties, count) in self.totals.items():
            if count and math.isfinite(error + ties):
                ranges[name] = replace(ranges[name], wavering=float(error / count), ties=float(ties / count))


def row(probes: Probes, tensor: Tensor, axis: int, floor: float) -> Tensor:
    """The row of ``COLUMNS`` for one tensor; rows below ``floor`` have no winner."""
    narrow = probes.model.narrow
    best, distance = leaders(probes, tensor, axis)
    masked = probes.emit("Less", [best, probes.literal(floor)], BOOL)
    gap = probes.emit("Where", [masked, probes.literal(-NOWHERE), distance])
    octave = probes.emit("Floor", [probes.emit("Div", [probes.emit("Log", [probes.emit("Abs", [best])]), probes.literal(math.log(2.0))])])
    power = probes.emit("Sub", [probes.emit("Max", [octave, probes.literal(narrow.emin)]), probes.literal(narrow.digits - 1.0)])
    step = probes.emit("Pow", [probes.literal(2.0), power])
    wide = probes.emit("GreaterOrEqual", [step, probes.literal(1.0)], BOOL)
    near = probes.emit("Less", [gap, probes.literal(NEAR)], BOOL)
    within = probes.emit("Less", [gap, probes.emit("Mul", [step, probes.literal(STEPS)])], BOOL)
    none, square = probes.literal(0.0), probes.emit("Mul", [probes.emit("Mul", [step, step]), probes.literal(SHARE_ERROR)])
    error = probes.emit("Where", [wide, none, probes.emit("Where", [near, square, none])])
    ties = probes.emit("Where", [wide, probes.emit("Where", [within, probes.literal(1.0 / STEPS), none]), none])
    size = probes.emit("Reshape", [probes.emit("Size", [best], INT64), probes.literal([1], np.int64)], INT64)
    return probes.row([probes.scalars("ReduceSum", error), probes.scalars("ReduceSum", ties), probes.emit("Cast", [size], to=FLOAT)])


def leaders(probes: Probes, tensor: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The largest value of each row, and how far below it the next one is; out of reach where a row has one value."""
    length = probes.emit("Gather", [probes.emit("Shape", [tensor], INT64), probes.literal([axis], np.int64)], INT64)
    count = probes.emit("Min", [length, probes.literal([2], np.int64)], INT64)
    top, where = probes.edit.variable("probe/top", FLOAT), probes.edit.variable("probe/where", INT64)
    probes.nodes.append(Node("TopK", probes.edit.fresh("probe/TopK"), attrs={"axis": axis}, inputs=[tensor, count], outputs=[top, where]))
    best, next_ = (along(probes, op, top, axis) for op in ("ReduceMax", "ReduceMin"))
    alone = probes.emit("Cast", [probes.emit("Sub", [probes.literal([2], np.int64), count], INT64)], to=FLOAT)
    return best, probes.emit("Add", [probes.emit("Sub", [best, next_]), probes.emit("Mul", [alone, probes.literal(-NOWHERE)])])


def along(probes: Probes, op: str, tensor: Tensor, axis: int) -> Tensor:
    """A reduction over one axis, which is kept."""
    if probes.model.opset >= 18:
        return probes.emit(op, [tensor, probes.literal([axis], np.int64)], keepdims=1)
    return probes.emit(op, [tensor], axes=[axis], keepdims=1)
