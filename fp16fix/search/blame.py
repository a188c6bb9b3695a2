"""Errors along the graph → which nodes they are born in, worst first: blame in one pass instead of a bisection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fp16fix.graph.model import Model
from fp16fix.graph.ops import float_inputs, float_outputs
from fp16fix.search.shadow import Error

CEILING_DB = 70.0
"""No tensor is credited with more than one FP16 rounding leaves (about 73 dB): an exact input makes no culprit of its reader."""
BORN_DB = 6.0
"""A node whose best output is this much worse than its worst input gives birth to error (one bit)."""


@dataclass(frozen=True, slots=True)
class Blame:
    """One node's part in the error."""

    node: str
    op: str
    tensor: str
    sqnr_in_db: float
    """Of its worst input (70 at most)."""
    sqnr_out_db: float
    """Of its worst output; −inf with new non-finite values."""
    carried: bool
    """The error came in with the inputs."""

    @property
    def drop_db(self) -> float:
        """How much is lost in this node; 200 for new non-finite values."""
        return 200.0 + self.sqnr_in_db if math.isinf(self.sqnr_out_db) and self.sqnr_out_db < 0 else self.sqnr_in_db - self.sqnr_out_db


def blame(model: Model, errors: Mapping[str, Error]) -> list[Blame]:
    """Every main-graph node whose output errs, births first, each group by what is lost."""
    found = []
    for node in model.graph.nodes:
        outputs = [errors[t.name] for t in float_outputs(node) if t.name in errors]
        if not outputs:
            continue
        worst = min(outputs, key=lambda e: e.damage_db)
        inside = min([CEILING_DB, *(errors[t.name].damage_db for t in float_inputs(node) if t.name in errors)])
        out = min(worst.damage_db, CEILING_DB)
        inside = max(inside, -300.0) if math.isfinite(inside) else -300.0
        found.append(Blame(node.name, node.op, worst.tensor, inside, out, carried=inside - max(out, -300.0) < BORN_DB))
    return sorted(found, key=lambda b: (b.carried, -b.drop_db, b.node))


def born(blames: list[Blame]) -> list[Blame]:
    """Only the nodes where error is born."""
    return [b for b in blames if not b.carried]
