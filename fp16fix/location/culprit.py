"""Births, hazards and what the repair stage decided → ``Culprit``: one node with its kind, share and answer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fp16fix.graph.model import Model, Node, inner_nodes
from fp16fix.graph.operators import ADDING
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.trace.births import Birth, Source

if TYPE_CHECKING:
    from fp16fix.passes.design import Draft


@dataclass(frozen=True, slots=True)
class Culprit:
    """One node that gives birth to error."""

    node: str
    op: str
    kind: str
    """Of ``diagnose.hazard.Kind``, or ``ROUNDING``."""
    share: float
    """Of the damage that the culprits do to the outputs one at a time, everything else in FP32; see ``share.Shares``."""
    sqnr_in_db: float
    """Of its worst input as FP16 stores it, exact before that; 70 at most. NaN where only the insides of the node are at fault."""
    sqnr_out_db: float
    """Of its worst output, computed from that; −inf with values lost. NaN like the other."""
    repair: str
    """The rule, pin or exponent that the repair stage tries first; ``none: harmless`` where nothing need."""
    tensor: str
    pins: tuple[str, ...]
    """The nodes that would have to be FP32 if nothing cheaper answered it."""
    why: str = ""
    """What happens there, in a sentence."""
    within: str = ""
    """The If, Loop or Scan whose body the node is in; empty in the main graph."""


class Clerk:
    """Knows for each node its hazards and what was decided about them."""

    def __init__(self, model: Model, hazards: Sequence[Hazard], draft: Draft | None, proofs: Collection[Hazard] = ()) -> None:
        self.nodes = model.node_map()
        self.holder = {inner.name: node.name for node in model.nodes() for inner in inner_nodes(node)}
        """Of a node in a body, the innermost node that holds it."""
        self.hazards: dict[str, list[Hazard]] = defaultdict(list)
        for hazard in hazards:
            self.hazards[hazard.node].append(hazard)
        self.draft = draft
        self.harmless = {hazard.node for hazard in proofs}
        """Nodes with a hazard that is proven to have no effect."""

    def culprit(self, birth: Birth, share: float) -> Culprit:
        """A birth with its kind, share and answer."""
        node = self.nodes[birth.node]
        inner = [each.name for each in inner_nodes(node)]
        own = [hazard for name in (birth.node, *inner) for hazard in self.hazards.get(name, ())]
        worst = max(own, key=lambda hazard: (not hazard.internal, hazard.bits, hazard.kind.value), default=None)
        kind, why = (worst.kind.value, worst.why) if worst is not None else guessed(birth)
        return Culprit(
            node=birth.node,
            op=birth.op,
            kind=kind,
            share=share,
            sqnr_in_db=birth.sqnr_in_db,
            sqnr_out_db=birth.sqnr_out_db,
            repair=self.answer(node, inner),
            tensor=birth.tensor,
            pins=tuple(dict.fromkeys((birth.node, *inner, *birth.pins, *(() if kind == Kind.CONSTANT.value else birth.operands)))),
            why=why,
            within=self.holder.get(birth.node, ""),
        )

    def insides(self) -> list[Culprit]:
        """Nodes whose sums leave FP16 though their operands and results do not, the worst first."""
        inner = [hazard for some in self.hazards.values() for hazard in some if hazard.internal]
        return [
            Culprit(
                node=each.node,
                op=each.op,
                kind=each.kind.value,
                share=math.nan,
                sqnr_in_db=math.nan,
                sqnr_out_db=math.nan,
                repair=self.answer(self.nodes[each.node], []),
                tensor=each.tensor,
                pins=(each.node,),
                why=each.why,
                within=self.holder.get(each.node, ""),
            )
            for each in sorted(inner, key=lambda each: (-each.bits, each.node))
        ]

    def answer(self, node: Node, inner: Sequence[str]) -> str:
        """What the draft does about a node: the first of rule, pin, exponent, harmless."""
        if self.draft is None:
            return "pin fp32"
        names, recipe = {node.name, *inner}, self.draft.recipe
        rules = [edit.by for edit in recipe.rewrites if names & {edit.node, *edit.covers}]
        if rules:
            return ", ".join(dict.fromkeys(rules))
        wide = sorted({fmt for name, fmt in recipe.wide.items() if name in names})
        if wide:
            return f"pin {wide[0]}"
        exponents = {name.partition("→")[0]: e for name, e in recipe.exponents.items()}
        moved = [exponents[t.name] for t in (*node.outputs, *node.inputs) if exponents.get(t.name)]
        if moved:
            return f"exponent {max(moved, key=abs):+d}"
        refusals = [refusal for refusal in self.draft.refusals if refusal.node in names]
        if self.harmless & names or any(refusal.harmless for refusal in refusals):
            return "none: harmless"
        return f"none: {refusals[0].why}" if refusals else "none needed"


SUBNORMAL_DB = 60.0
"""An operand that keeps less than this when stored has values below FP16's normal range."""


ROUNDING = "rounding"
"""Kind of a node that loses no more than FP16's rounding, magnified by less than a bit: many of these may add up."""


def guessed(birth: Birth) -> tuple[str, str]:
    """A kind and its reason for a birth that diagnosis has no hazard for."""
    if not birth.is_real or birth.sqnr_out_db >= SUBNORMAL_DB:
        return ROUNDING, f"nothing stands out here: rounding as FP16 does leaves {birth.sqnr_out_db:.0f} dB"
    kind, why = magnified(birth)
    return kind.value, why


def magnified(birth: Birth) -> tuple[Kind, str]:
    """The same for one that loses more than that."""
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
