"""Hazards → ``Draft``: rules first, exponents for what they left, then the smallest islands around what neither could mend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import numpy as np

from fp16fix import half
from fp16fix.errors import ModelError
from fp16fix.graph.model import Model
from fp16fix.graph.operators import MOVEMENT
from fp16fix.graph.ops import float_inputs, float_outputs, is_float_node, runs_in
from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.passes.changes import Changes, failure
from fp16fix.passes.place.islands import islands
from fp16fix.passes.place.pins import forced
from fp16fix.passes.place.placement import placements
from fp16fix.passes.place.share import wide_share
from fp16fix.passes.recipe import RESCALE, Edit, Promise, Recipe, Refusal, rescaling
from fp16fix.passes.rescale.scales import ScaleOptions, assign
from fp16fix.passes.rewrite.rule import Findings, Rule
from fp16fix.passes.rewrite.rules import answers_builder, guards, looks_again, mends_rounding, rules
from fp16fix.ranges.details import needs_detail
from fp16fix.ranges.measure import measure
from fp16fix.ranges.range import Range, Ranges

LEFT_OUT = "left out: with this the verdict fails, without it passes"
BEYOND_SAMPLES = frozenset({Kind.SWAMP, Kind.CONSTANT, Kind.COARSE})
"""Kinds that guard inputs which calibration may not hold: longer ones, fully masked ones, near ties."""
NEIGHBOUR = "beside wide nodes: two casts cost more than running it wide"
TIGHT = "no one exponent gives it the head-room asked for and keeps its small values"
ROUNDING = 0.01
"""Octaves by which a head-room may miss what was asked for."""

Acquit = Callable[[Model, Sequence[Hazard], Ranges], Mapping[Hazard, str]]
"""Which hazards of a model are proven harmless, and the proof in a sentence."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user decides about repairs."""

    headroom: float = 2.0
    headroom_down: float = 2.0
    only_exact: bool = False
    wide: half.Wide = half.Wide.AUTO
    pin: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    sums_in_half: bool = False
    """Sums inside operators are held in FP16, so what only they see must be repaired too."""
    io: str | None = None
    """See ``Recipe.io``."""
    apart: tuple[str, ...] = ()
    """See ``Recipe.apart``."""
    max_fp32_share: float = 1.0
    """Of the FLOPs: beyond it only what is forced stays wide, whatever the casts around it cost."""
    threads: int = 0
    scale_budget_s: float = 20.0
    calm: bool = False
    """Plain FP16 is right on every sample: only what guards inputs that samples may not hold is touched, and what no engine takes."""
    without: frozenset[str] = frozenset()
    """Edits to leave out, by key: they were tried and the verdict failed."""
    reaches: Mapping[str, float] = field(default_factory=dict)
    """How far partial sums of what makes a tensor go, where exponents are to keep those inside of FP16 too; in the model's own values."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe and what it was made from."""

    recipe: Recipe
    refusals: tuple[Refusal, ...]
    model: Model
    """``apply.prepared`` of the recipe: FP32, after rewrites and exponents."""
    ranges: Ranges
    """Of ``model``."""
    remaining: tuple[Hazard, ...]
    """Hazards of ``model`` that only pins can answer."""
    headroom: float = 2.0
    island_bytes: int = 0
    """Cost of the islands under the model of ``place.islands``."""
    muls: int = 0
    """Run-time multiplications by powers of two that the exponents need."""
    spared: frozenset[str] = frozenset()
    """Tensors that overflow without effect."""
    proofs: Mapping[Hazard, str] = field(default_factory=dict)
    """Of the model as it came: hazards that need nothing, and why."""
    options: Options = field(default_factory=Options)
    """What it was designed with."""

    def pinned(self, wide: Mapping[str, str], because: Mapping[str, str] | None = None) -> Recipe:
        """The recipe with other pins: node → format, and why."""
        said = {**self.recipe.reasons, **(because or {})}
        return self.recipe.typed(
            placements(self.model, self.ranges, wide, headroom=self.headroom, spared=self.spared, io=self.recipe.io, because=said)
        )


@dataclass(slots=True)
class Design:
    """The making of one draft; each step narrows what is left to do."""

    origin: Model
    """As it came."""
    ranges: Ranges
    samples: Iterable[Mapping[str, np.ndarray]]
    options: Options
    acquit: Acquit
    refusals: list[Refusal] = field(default_factory=list)
    muls: int = 0
    proofs: Mapping[Hazard, str] = field(default_factory=dict, init=False)
    """Of the hazards of the model as it came."""
    endless: tuple[Hazard, ...] = ()
    """Of those hazards the ones that no range shows: they last, whatever is rewritten."""
    changes: Changes = field(init=False)

    def __post_init__(self) -> None:
        self.changes = Changes(self.origin, self.samples, self.refuse, self.options.threads)

    @property
    def model(self) -> Model:
        """As it is by now."""
        return self.changes.model

    def draft(self, hazards: Sequence[Hazard], proofs: Mapping[Hazard, str]) -> Draft:
        """From the hazards of the model as it came (and the proofs already made) to a draft."""
        self.endless = tuple(hazard for hazard in hazards if hazard.kind is Kind.ENDLESS)
        self.proofs, live = proofs, self.live(hazards, proofs)
        if self.rewrite(rules(), live):
            live, proofs = self.look_again(frozenset())
        spared = spared_tensors(self.model, self.ranges, proofs)
        exponents = {} if self.options.calm and not self.options.reaches else self.rescale(spared)
        if exponents and self.changes.attempt([rescaling(exponents)]):
            live, proofs = self.look_again(frozenset(exponents))
            if self.rewrite([each for each in rules() if looks_again(each)], live):
                live, proofs = self.look_again(frozenset())
            spared = spared_tensors(self.model, self.ranges, proofs)
        return self.finished(live, spared, self.tight(exponents))

    def extended(self, draft: Draft, edits: Sequence[Edit]) -> Draft:
        """A draft of this model with more rewrites at the end of its changes."""
        self.ranges, self.muls, self.refusals, self.proofs = draft.ranges, draft.muls, list(draft.refusals), draft.proofs
        self.changes.change(draft.recipe.changes)
        self.changes.attempt(edits)
        live, proofs = self.look_again(frozenset())
        return self.finished(live, spared_tensors(self.model, self.ranges, proofs), self.tight(draft.recipe.exponents))

    def look_again(self, moved: frozenset[str]) -> tuple[list[Hazard], Mapping[Hazard, str]]:
        """Measure a changed model, in which ``moved`` tensors hold other values; the hazards that still need something, and proofs."""
        known = unmoved(self.ranges, moved, self.model.narrow)
        try:
            self.ranges = measure(self.model, self.samples, threads=self.options.threads, known=known)
        except ModelError:
            self.changes.prove_on_all()
            self.ranges = measure(self.model, self.samples, threads=self.options.threads)
        hazards = (*diagnose(self.model, self.ranges, frozenset(self.model.placed)), *self.endless)
        proofs = self.acquit(self.model, hazards, self.ranges)
        return self.live(hazards, proofs), proofs

    def live(self, hazards: Sequence[Hazard], proofs: Mapping[Hazard, str]) -> list[Hazard]:
        """Hazards that are not acquitted: by proof, by the user's ``allow``, or because engines sum in FP32."""
        found = []
        for hazard in hazards:
            if hazard in proofs or matches(hazard.node, self.options.allow) or (hazard.internal and not self.options.sums_in_half):
                continue
            if self.options.calm and hazard.kind not in BEYOND_SAMPLES:
                continue
            found.append(hazard)
        return found

    def rewrite(self, chosen: Iterable[Rule], hazards: Sequence[Hazard]) -> bool:
        """Let every rule look once, in order; whether anything was rewritten that stands."""
        before, chosen = list(self.changes.made), list(chosen)
        self.look(chosen, hazards)
        if not self.changes.prove(before):
            # What was taken back had stood in the way of other rules.
            self.changes.keep(before)
            self.look(chosen, hazards)
            self.changes.prove(before)
        return len(self.changes.made) > len(before)

    def look(self, chosen: Iterable[Rule], hazards: Sequence[Hazard]) -> None:
        """Carry out what each rule wants in turn."""
        for each in chosen:
            edits = self.proposed(each, hazards)
            if edits:
                self.changes.carry(edits)

    def proposed(self, rule: Rule, hazards: Sequence[Hazard]) -> list[Edit]:
        """What a rule wants to do and may; one that fails has refused."""
        findings = Findings(self.model, self.ranges, hazards, self.options.headroom, self.options.headroom_down)
        if self.model.narrow.has_fp32_range and not (mends_rounding(rule) or answers_builder(rule)):
            return []
        try:
            proposals = list(rule.propose(findings))
        except Exception as error:  # noqa: BLE001 - rules are many, other packages add theirs, and none may end a repair
            self.refuse(Refusal("*", rule.name, failure(error)))
            return []
        taken: set[str] = set()
        edits = []
        for proposal in proposals:
            if isinstance(proposal, Refusal):
                self.refuse(proposal)
            elif self.options.calm and not self.is_needed(rule, proposal, findings):
                continue
            elif self.permitted(proposal, taken):
                edits.append(proposal)
                taken |= {proposal.node, *proposal.covers}
        return edits

    def is_needed(self, rule: Rule, edit: Edit, findings: Findings) -> bool:
        """Whether an edit is worth making though plain FP16 is right on every sample."""
        return guards(rule) or answers_builder(rule) or bool(findings.hazards_at([edit.node, *edit.covers]))

    def permitted(self, edit: Edit, taken: set[str]) -> bool:
        """Whether the user's options and earlier edits of the same rule leave room for this one."""
        touched = {edit.node, *edit.covers}
        if touched & taken or edit.key in self.changes.fallen:
            return False
        why = ""
        if edit.key in self.options.without:
            why = LEFT_OUT
        elif self.options.only_exact and edit.promise is Promise.ALTERED:
            why = "would alter the FP32 function, and only exact repairs were asked for"
        elif any(matches(name, self.options.allow) for name in touched):
            why = f"the user allows this node in {self.model.narrow} as it is"
        elif any(name in self.model.placed for name in touched):
            why = "the model's author placed this node in a wider type already"
        if why:
            self.refuse(Refusal(edit.node, edit.by, why))
        return not why

    def refuse(self, refusal: Refusal) -> None:
        """Remember a refusal; the first word of a rule on a node stands, for some look twice."""
        if (refusal.node, refusal.by) not in {(each.node, each.by) for each in self.refusals if each.why != refusal.why}:
            self.refusals.append(refusal)

    def rescale(self, spared: frozenset[str]) -> dict[str, int]:
        """Exponents for the whole graph; none if everything fits as it is."""
        narrow = self.model.narrow
        if narrow.has_fp32_range:
            why = f"{narrow} has FP32's range: exponents, and the rewrites that mend a range, have nothing to do"
            self.refuse(Refusal("*", RESCALE, why))
            return {}
        if RESCALE in self.options.without:
            self.refuse(Refusal("*", RESCALE, LEFT_OUT))
            return {}
        wide = frozenset(self.model.placed) | {
            n.name for n in self.model.nodes() if matches(n.name, self.options.pin) or matches(n.name, self.options.allow)
        }
        ranges = {name: harmless_range(seen) if name in spared else seen for name, seen in self.ranges.items()}
        reaches = self.options.reaches.items()
        ranges |= {name: replace(ranges[name], high=max(ranges[name].high, reach)) for name, reach in reaches if name in ranges}
        asked = ScaleOptions(self.options.headroom, self.options.headroom_down, time_limit_s=self.options.scale_budget_s, wide=wide)
        try:
            found = assign(self.model, ranges, asked)
        except Exception as error:  # noqa: BLE001 - see ``proposed``
            self.refuse(Refusal("*", RESCALE, failure(error)))
            return {}
        self.muls = found.muls
        return {name: e for name, e in found.exponents.items() if e}

    def tight(self, exponents: Mapping[str, int]) -> frozenset[str]:
        """Rescaled tensors that one exponent could not give the head-room asked for: too wide a stream for FP16 at either end."""
        limit = self.options.headroom - ROUNDING
        return frozenset(name for name in exponents if name in self.ranges and self.ranges[name].headroom < limit)

    def finished(self, live: Sequence[Hazard], spared: frozenset[str], tight: frozenset[str]) -> Draft:
        """The draft, with islands around what is left, the user's pins and what does not fit in spite of its exponent."""
        force = forced(self.model, self.ranges, live, spared)
        asked = frozenset(n.name for n in self.model.nodes() if is_float_node(n) and matches(n.name, self.options.pin))
        allowed = frozenset(n.name for n in self.model.nodes() if matches(n.name, self.options.allow))
        force = replace(force, nodes=force.nodes | asked, tensors=force.tensors | (tight - spared))
        cut = islands(self.model, self.ranges, force, allowed)
        bare = Recipe(tuple(self.changes.made), self.options.io, self.options.apart, half.Base(self.model.narrow.name))
        draft = Draft(
            bare,
            tuple(self.refusals),
            self.model,
            self.ranges,
            tuple(live),
            headroom=self.options.headroom,
            island_bytes=cut.cost_bytes,
            muls=self.muls,
            spared=spared,
            proofs=self.proofs,
            options=self.options,
        )
        wide = self.formats(cut.nodes)
        if wide_share(self.model, self.ranges, wide) > self.options.max_fp32_share:
            wide = self.formats(cut.forced)
        return replace(draft, recipe=draft.pinned(wide, self.reasons(wide, live, asked, tight - spared)))

    def reasons(self, wide: Iterable[str], live: Sequence[Hazard], asked: frozenset[str], tight: frozenset[str]) -> dict[str, str]:
        """Why each node of the islands is wide."""
        hazards: dict[str, str] = {}
        for hazard in live:
            hazards.setdefault(hazard.node, hazard.why)
        narrow = [node.name for node in self.model.nodes() if tight & {tensor.name for tensor in node.outputs}]
        said = dict.fromkeys(wide, NEIGHBOUR) | dict.fromkeys(narrow, TIGHT) | hazards
        return said | dict.fromkeys(asked, "the user pins it") | dict.fromkeys(self.model.placed, "the model's author placed it")

    def formats(self, nodes: Iterable[str]) -> dict[str, str]:
        """Node → format of the islands, and of what the model's author placed."""
        format_ = half.BF16.name if self.options.wide is half.Wide.BF16 else half.FP32.name
        wide = dict.fromkeys(nodes, format_)
        if self.options.wide is half.Wide.BF16:
            wide |= {n.name: "fp32" for n in self.model.nodes() if n.name in wide and not runs_in(n, half.BF16.onnx, self.model.opset)}
        return wide | {name: fmt for name, fmt in self.model.placed.items() if name in self.model.node_map()}


def unmoved(ranges: Mapping[str, Range], moved: frozenset[str], narrow: half.Format) -> dict[str, Range]:
    """Ranges that still hold after a repair: of healthy tensors that keep their name.

    Repairs keep what a named tensor holds, and what they change on purpose (a mask, a rescaled tensor) was either out of the narrow type's
    range or is among ``moved``.
    """
    return {name: seen for name, seen in ranges.items() if name not in moved and not needs_detail(seen, narrow)}


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a node name is one of these, or matches one as a glob."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


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
