"""Births, hazards and what the repair stage decided → ``Culprit``: one node with its kind, share and answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from fp16fix.diagnose.hazard import Hazard, Kind
from fp16fix.graph.model import Model, bodies, graphs_under
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
    inside: tuple[str, ...] = ()
    """For If, Loop and Scan: the nodes of its bodies that have hazards."""
    why: str = ""


class Clerk:
    """Knows for each node its hazards and what was decided about them."""

    def __init__(self, model: Model, hazards: Sequence[Hazard], draft: Draft | None) -> None:
        self.nodes = {node.name: node for node in model.graph.nodes}
        self.hazards: dict[str, list[Hazard]] = defaultdict(list)
        for hazard in hazards:
            self.hazards[hazard.node].append(hazard)
        self.draft = draft

    def culprit(self, birth: Birth, share: float) -> Culprit:
        """A birth with its kind, share and answer."""
        node = self.nodes[birth.node]
        inner = inner_nodes(node)
        own = [hazard for name in (birth.node, *inner) for hazard in self.hazards.get(name, ())]
        worst = max(own, key=lambda hazard: (not hazard.internal, hazard.bits, hazard.kind.value), default=None)
        constant = worst is not None and worst.kind is Kind.CONSTANT
        return Culprit(
            node=birth.node,
            op=birth.op,
            kind=(worst.kind if worst is not None else guessed(birth)).value,
            share=share,
            sqnr_in_db=birth.sqnr_in_db,
            sqnr_out_db=birth.sqnr_out_db,
            repair=self.answer(node, inner),
            tensor=birth.tensor,
            pins=tuple(dict.fromkeys((birth.node, *inner, *birth.pins, *(() if constant else birth.operands)))),
            inside=tuple(name for name in inner if self.hazards.get(name)),
            why=worst.why if worst is not None else "",
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


def inner_nodes(node: gs.Node) -> tuple[str, ...]:
    """Names of the nodes in a node's bodies."""
    return tuple(inner.name for body in bodies(node).values() for graph in graphs_under(body) for inner in graph.nodes)


def guessed(birth: Birth) -> Kind:
    """A kind for a birth that diagnosis has no hazard for."""
    if birth.source is Source.OPERANDS:
        return Kind.CANCEL
    return Kind.OVERFLOW if birth.is_lost else Kind.VANISH
