"""Hazards → ``Draft``: rules first, exponents for what they left, then the smallest islands around what neither could mend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import numpy as np

from fp16fix import half
from fp16fix.graph.lower import Fits
from fp16fix.graph.model import Model
from fp16fix.graph.operators import MOVEMENT
from fp16fix.graph.ops import float_inputs, float_outputs, is_float_node, runs_in
from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.passes.apply import rewritten, scaled, tidy
from fp16fix.passes.place.islands import Islands, islands
from fp16fix.passes.place.pins import forced
from fp16fix.passes.recipe import Edit, Promise, Recipe, Refusal, repair_key
from fp16fix.passes.rescale.scales import ScaleOptions, assign
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules import rule, rules
from fp16fix.ranges.measure import measure, needs_detail
from fp16fix.ranges.range import Range, Ranges

FINISHING = "raise-eps"
"""The rule that gets a second look after the exponents."""

EXPONENTS = "exponents"
"""Stands for all exponents together where a search leaves repairs out."""

LEFT_OUT = "left out: with this the verdict fails, without it passes"
ROUNDING = 0.01
"""Octaves by which a head-room may miss what was asked for."""

Acquit = Callable[[Model, Sequence[Hazard]], Mapping[Hazard, str]]
"""Which hazards of a model are proven harmless, and the proof in a sentence."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user decides about repairs."""

    headroom: float = 2.0
    only_exact: bool = False
    wide: half.Wide = half.Wide.AUTO
    pin: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    pessimistic: bool = False
    """Sums inside operators are held in FP16, so what only they see must be repaired too."""
    threads: int = 0
    scale_budget_s: float = 20.0
    without: frozenset[str] = frozenset()
    """Repairs to leave out, by ``recipe.repair_key``, or ``EXPONENTS``: they were tried and the verdict failed."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe and what it was made from; ``recipe`` applied to the original model gives the typed graph."""

    recipe: Recipe
    refusals: tuple[Refusal, ...]
    model: Model
    """FP32, after rewrites and exponents: what is lowered."""
    ranges: Ranges
    """Of ``model``."""
    remaining: tuple[Hazard, ...]
    """Hazards of ``model`` that only pins can answer."""
    islands: Islands
    muls: int = 0
    """Run-time multiplications by powers of two that the exponents need."""
    spared: frozenset[str] = frozenset()
    """Tensors that overflow without effect."""

    def fits(self, headroom: float) -> Fits:
        """Whether a tensor is proven to leave an island within FP16."""
        limit = half.LARGEST * 2.0**-headroom

        def check(tensor: str) -> bool:
            seen = self.ranges.get(tensor)
            return tensor in self.spared or (seen is not None and seen.absmax <= limit)

        return check


@dataclass(slots=True)
class Design:
    """The making of one draft; each step narrows what is left to do."""

    model: Model
    ranges: Ranges
    samples: Iterable[Mapping[str, np.ndarray]]
    options: Options
    acquit: Acquit
    refusals: list[Refusal] = field(default_factory=list)
    repairs: list[Edit] = field(default_factory=list)

    def draft(self, hazards: Sequence[Hazard], proofs: Mapping[Hazard, str]) -> Draft:
        """From the hazards of the model as it came (and the proofs already made) to a draft."""
        live = self.live(hazards, proofs)
        if self.rewrite(live):
            self.ranges = measure(self.model, self.samples, threads=self.options.threads, known=unmoved(self.ranges, frozenset()))
            live, proofs = self.again()
        spared = spared_tensors(self.model, self.ranges, proofs)
        exponents, muls = self.rescale(spared)
        recipe = Recipe(tuple(self.repairs), exponents)
        if exponents:
            live, spared = self.settle(scaled(self.model, dict(exponents)), frozenset(name for name, _ in exponents))
            recipe = replace(recipe, finish=self.finish(live))
            if recipe.finish:
                live, spared = self.settle(rewritten(self.model, recipe.finish), frozenset())
        cut, wide = self.pins(live, spared, self.tight(exponents))
        return Draft(replace(recipe, wide=wide), tuple(self.refusals), self.model, self.ranges, tuple(live), cut, muls, spared)

    def settle(self, model: Model, moved: frozenset[str]) -> tuple[list[Hazard], frozenset[str]]:
        """Go on with a changed model, in which ``moved`` tensors hold other values: measure it and see what is left."""
        self.model = model
        self.ranges = measure(model, self.samples, threads=self.options.threads, known=unmoved(self.ranges, moved))
        live, proofs = self.again()
        return live, spared_tensors(model, self.ranges, proofs)

    def finish(self, live: Sequence[Hazard]) -> tuple[Edit, ...]:
        """An eps rescaled with its norm may have become smaller than FP16 holds: raise it where that moves nothing."""
        raise_eps = rule(FINISHING)
        evidence = Findings(self.model, self.ranges, live, self.options.headroom)
        taken: set[str] = set()
        found = []
        for proposal in raise_eps.propose(evidence):
            if isinstance(proposal, Edit) and self.permitted(proposal, taken):
                found.append(proposal)
                taken |= {proposal.node, *proposal.covers}
        return tuple(found)

    def again(self) -> tuple[list[Hazard], Mapping[Hazard, str]]:
        """Hazards that still need something, after the model changed."""
        hazards = diagnose(self.model, self.ranges, frozenset(self.model.placed))
        proofs = self.acquit(self.model, hazards)
        return self.live(hazards, proofs), proofs

    def live(self, hazards: Sequence[Hazard], proofs: Mapping[Hazard, str]) -> list[Hazard]:
        """Hazards that are not acquitted: by proof, by the user's ``allow``, or because engines sum in FP32."""
        found = []
        for hazard in hazards:
            if hazard in proofs or matches(hazard.node, self.options.allow) or (hazard.internal and not self.options.pessimistic):
                continue
            found.append(hazard)
        return found

    def rewrite(self, hazards: Sequence[Hazard]) -> bool:
        """Let every rule look once, in order; whether anything was rewritten."""
        model = self.model.copy()
        for each in rules():
            evidence = Findings(model, self.ranges, hazards, self.options.headroom)
            taken: set[str] = set()
            for proposal in list(each.propose(evidence)):
                if isinstance(proposal, Refusal):
                    self.refusals.append(proposal)
                elif self.permitted(proposal, taken):
                    each.apply(model, proposal)
                    self.repairs.append(proposal)
                    taken |= {proposal.node, *proposal.covers}
            if taken:
                tidy(model)
        if self.repairs:
            self.model = model
        return bool(self.repairs)

    def permitted(self, repair: Edit, taken: set[str]) -> bool:
        """Whether the user's options and earlier repairs of the same rule leave room for this one."""
        touched = {repair.node, *repair.covers}
        if touched & taken:
            return False
        why = ""
        if repair_key(repair) in self.options.without:
            why = LEFT_OUT
        elif self.options.only_exact and repair.promise is Promise.ALTERED:
            why = "would alter the FP32 function, and only exact repairs were asked for"
        elif any(matches(name, self.options.allow) for name in touched):
            why = "the user allows this node in FP16 as it is"
        elif any(name in self.model.placed for name in touched):
            why = "the model's author placed this node in a wider type already"
        if why:
            self.refusals.append(Refusal(repair.node, repair.by, why))
        return not why

    def rescale(self, spared: frozenset[str]) -> tuple[tuple[tuple[str, int], ...], int]:
        """Exponents for the whole graph; none if everything fits as it is."""
        if EXPONENTS in self.options.without:
            self.refusals.append(Refusal("*", EXPONENTS, LEFT_OUT))
            return (), 0
        wide = frozenset(self.model.placed) | {
            n.name for n in self.model.nodes() if matches(n.name, self.options.pin) or matches(n.name, self.options.allow)
        }
        ranges = {name: harmless_range(seen) if name in spared else seen for name, seen in self.ranges.items()}
        found = assign(
            self.model, ranges, ScaleOptions(headroom=self.options.headroom, time_limit_s=self.options.scale_budget_s, wide=wide)
        )
        return tuple(sorted((name, e) for name, e in found.exponents.items() if e)), found.muls

    def tight(self, exponents: Sequence[tuple[str, int]]) -> frozenset[str]:
        """Rescaled tensors that one exponent could not give the head-room asked for: too wide a stream for FP16 at either end."""
        limit = self.options.headroom - ROUNDING
        return frozenset(name for name, _ in exponents if name in self.ranges and self.ranges[name].headroom < limit)

    def pins(self, live: Sequence[Hazard], spared: frozenset[str], tight: frozenset[str]) -> tuple[Islands, tuple[tuple[str, str], ...]]:
        """Islands around what is left, the user's pins, and the author's placement."""
        force = forced(self.model, self.ranges, live, spared)
        asked = frozenset(n.name for n in self.model.nodes() if is_float_node(n) and matches(n.name, self.options.pin))
        allowed = frozenset(n.name for n in self.model.nodes() if matches(n.name, self.options.allow))
        force = replace(force, nodes=force.nodes | asked, tensors=force.tensors | (tight - spared))
        cut = islands(self.model, self.ranges, force, allowed)
        format_ = "bf16" if self.options.wide is half.Wide.BF16 else "fp32"
        wide = dict.fromkeys(cut.nodes, format_)
        if self.options.wide is half.Wide.BF16:
            wide |= {n.name: "fp32" for n in self.model.nodes() if n.name in wide and not runs_in(n, half.BF16.onnx, self.model.opset)}
        wide |= {name: fmt for name, fmt in self.model.placed.items() if name in self.model.node_map()}
        return cut, tuple(sorted(wide.items()))


def unmoved(ranges: Mapping[str, Range], moved: frozenset[str]) -> dict[str, Range]:
    """Ranges that still hold after a repair: of healthy tensors that keep their name.

    Repairs keep what a named tensor holds, and what they change on purpose (a mask, a rescaled tensor) was either out of FP16's range
    or is among ``moved``.
    """
    return {name: seen for name, seen in ranges.items() if name not in moved and not needs_detail(seen)}


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a node name matches any fnmatch pattern."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def spared_tensors(model: Model, ranges: Mapping[str, Range], proofs: Mapping[Hazard, str]) -> frozenset[str]:
    """Tensors whose overflow is proven harmless, and what movement operators make of them."""
    spared = {hazard.tensor for hazard in proofs if hazard.kind is Kind.OVERFLOW}
    for node in model.nodes():
        if spared and node.op in MOVEMENT and any(t.name in spared for t in float_inputs(node)):
            spared |= {t.name for t in float_outputs(node) if t.name in ranges}
    return frozenset(spared)


def harmless_range(seen: Range) -> Range:
    """What the exponent assignment is told of a tensor whose overflow does not matter: that it fits."""
    return replace(seen, low=max(seen.low, -1.0), high=min(seen.high, 1.0), energy=min(seen.energy, 1.0), octaves=())
