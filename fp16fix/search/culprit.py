"""Births, hazards and what the repair stage decided → ``Culprit``: one node with its kind, share and answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from fp16fix.diagnose.hazard import Hazard, Kind
from fp16fix.graph.model import Model, inner_nodes
from fp16fix.search.births import Birth, Source

if TYPE_CHECKING:
    from fp16fix.repair.design import Draft


@dataclass(frozen=True, slots=True)
class Culprit:
    """One node that gives birth to error."""

    node: str
    op: str
    kind: str
    """Of ``diagnose.hazard.Kind``."""
    share: float
    """Of the damage that the culprits do to the outputs one at a time, everything else in FP32; see ``share.Shares``."""
    sqnr_in_db: float
    """Of its worst input as FP16 stores it, exact before that; 70 at most."""
    sqnr_out_db: float
    """Of its worst output, computed from that; −inf with values lost."""
    repair: str
    """The rule, exponent or pin that answers it; ``none: harmless`` where nothing need."""
    tensor: str
    pins: tuple[str, ...]
    """The nodes that would have to be FP32 if nothing cheaper answered it."""
    why: str = ""
    """What happens there, in a sentence."""
    within: str = ""
    """The If, Loop or Scan whose body the node is in; empty in the main graph."""


class Clerk:
    """Knows for each node its hazards and what was decided about them."""

    def __init__(self, model: Model, hazards: Sequence[Hazard], draft: Draft | None) -> None:
        self.nodes = model.node_map()
        self.holder = {inner.name: node.name for node in model.nodes() for inner in inner_nodes(node)}
        """Of a node in a body, the innermost node that holds it."""
        self.hazards: dict[str, list[Hazard]] = defaultdict(list)
        for hazard in hazards:
            self.hazards[hazard.node].append(hazard)
        self.draft = draft

    def culprit(self, birth: Birth, share: float) -> Culprit:
        """A birth with its kind, share and answer."""
        node = self.nodes[birth.node]
        inner = [each.name for each in inner_nodes(node)]
        own = [hazard for name in (birth.node, *inner) for hazard in self.hazards.get(name, ())]
        worst = max(own, key=lambda hazard: (not hazard.internal, hazard.bits, hazard.kind.value), default=None)
        kind, why = (worst.kind, worst.why) if worst is not None else guessed(birth)
        return Culprit(
            node=birth.node,
            op=birth.op,
            kind=kind.value,
            share=share,
            sqnr_in_db=birth.sqnr_in_db,
            sqnr_out_db=birth.sqnr_out_db,
            repair=self.answer(node, inner),
            tensor=birth.tensor,
            pins=tuple(dict.fromkeys((birth.node, *inner, *birth.pins, *(() if kind is Kind.CONSTANT else birth.operands)))),
            why=why,
            within=self.holder.get(birth.node, ""),
        )

    def answer(self, node: gs.Node, inner: Sequence[str]) -> str:
        """What the draft does about a node: the first of rule, exponent, pin, harmless."""
        if self.draft is None:
            return "pin fp32"
        names, recipe = {node.name, *inner}, self.draft.recipe
        rules = [repair.rule for repair in (*recipe.repairs, *recipe.finish) if names & {repair.node, *repair.covers}]
        if rules:
            return ", ".join(dict.fromkeys(rules))
        exponents = dict(recipe.exponents)
        moved = [exponents[t.name] for t in (*node.outputs, *node.inputs) if exponents.get(t.name)]
        if moved:
            return f"exponent {max(moved, key=abs):+d}"
        wide = sorted({fmt for name, fmt in recipe.wide if name in names})
        if wide:
            return f"pin {wide[0]}"
        refusals = [refusal for refusal in self.draft.refusals if refusal.node in names]
        if any(refusal.harmless for refusal in refusals):
            return "none: harmless"
        return f"none: {refusals[0].why}" if refusals else "none needed"


ADDING = frozenset({
    "Add", "Sub", "Sum", "Mean", "MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "ReduceSum", "ReduceMean", "GlobalAveragePool",
    "AveragePool", "CumSum",
})  # fmt: skip
"""Operators that lose by the difference of large terms."""
SUBNORMAL_DB = 60.0
"""An operand that keeps less than this when stored has values below FP16's normal range."""


def guessed(birth: Birth) -> tuple[Kind, str]:
    """A kind and its reason for a birth that diagnosis has no hazard for."""
    if birth.source is Source.RESULT and birth.is_lost:
        return Kind.OVERFLOW, "its exact result leaves FP16: values become infinite"
    if birth.source is Source.RESULT:
        return Kind.VANISH, f"of its exact result, stored in FP16, {birth.sqnr_out_db:.0f} dB are left"
    left = "values become infinite or NaN" if birth.is_lost else f"{birth.sqnr_out_db:.0f} dB are left"
    if birth.is_lost or birth.sqnr_in_db < SUBNORMAL_DB:
        return Kind.VANISH, f"what it reads is partly too small for FP16, and it magnifies that: {left}"
    if birth.op in ADDING:
        return Kind.CANCEL, f"large terms nearly cancel in it, and their rounding does not: {left}"
    return Kind.SWAMP, f"it magnifies the rounding of what it reads, which is too coarse for it: {left}"
