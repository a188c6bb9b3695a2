"""FP32 model + samples → ``Location``: what breaks FP16, in ONNX names, worst first, with each culprit's share and what would answer it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import onnx_graphsurgeon as gs

from fp16fix.analyse.measure import measure
from fp16fix.diagnose import diagnose
from fp16fix.diagnose.hazard import Hazard, Kind
from fp16fix.graph.model import Model, bodies, graphs_under
from fp16fix.graph.ops import float_inputs
from fp16fix.repair.lower import lower
from fp16fix.search.births import Birth, Source, births
from fp16fix.search.blame import blame
from fp16fix.search.segments import Sample
from fp16fix.search.shadow import shadow
from fp16fix.search.share import shares
from fp16fix.search.triage import Evidence, Triage, against_references, triage
from fp16fix.strict.oracle import StrictOracle
from fp16fix.verify.compare import Tolerance
from fp16fix.verify.verdict import Figures

if TYPE_CHECKING:
    from fp16fix.repair.design import Draft

MOST = 32
"""Culprits whose share is measured: each costs an FP32 pass."""
FEW = 2
"""Samples that shares are measured on."""
WRONG_DB = 50.0
"""A tensor below this counts as damaged: what the default tolerance asks of outputs."""
FAINT_DB = 0.5
"""If all-FP16 is wrong and no birth stands out, the worst of the nodes that lose this much are named."""

Tick = Callable[[], None]


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


@dataclass(frozen=True, slots=True)
class Step:
    """Error of one node's worst output in an all-FP16 run."""

    node: str
    op: str
    tensor: str
    sqnr_db: float
    """−inf with values lost."""
    born: bool


@dataclass(frozen=True, slots=True)
class Location:
    """The answer to "which layers, and why?"."""

    triage: Triage
    culprits: tuple[Culprit, ...]
    """Worst first."""
    along: tuple[Step, ...]
    """Every float node of the main graph, in graph order."""
    explained: float
    """Damage of all culprits together against that of all-FP16, 1 at most: how complete the list is."""
    ranking: tuple[str, ...]
    """Nodes in the order in which a search should pin them: each culprit's, worst first, then what lies before culprits that magnify."""

    @property
    def carried(self) -> tuple[str, ...]:
        """Nodes with damaged results that only pass on what was born before them, in graph order."""
        return tuple(step.node for step in self.along if step.sqnr_db < WRONG_DB and not step.born)

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` prints; numbers may be infinite (``report.outcome.portable`` writes those as words)."""
        return {
            "triage": {"fault": self.triage.fault.value, "verdict": self.triage.verdict, "evidence": list(self.triage.evidence)},
            "culprits": [self.culprit_json(culprit) for culprit in self.culprits],
            "carried": list(self.carried),
            "explained": self.explained,
        }

    def culprit_json(self, culprit: Culprit) -> dict[str, Any]:
        """One culprit."""
        keys = ("node", "op", "kind", "share", "sqnr_in_db", "sqnr_out_db", "repair", "tensor", "why")
        return {key: getattr(culprit, key) for key in keys} | {"born": True, "pins": list(culprit.pins), "inside": list(culprit.inside)}


def locate(
    model: Model,
    samples: Iterable[Sample],
    tolerance: Tolerance,
    *,
    hazards: Sequence[Hazard] | None = None,
    draft: Draft | None = None,
    references: Iterable[Mapping[str, Any]] | None = None,
    autocast: tuple[Figures, ...] = (),
    threads: int = 0,
    tick: Tick = lambda: None,
) -> Location:
    """Two shadow passes a sample, and one FP32 pass for each culprit on a few of them.

    Args:
        model: FP32.
        samples: re-iterable.
        tolerance: what counts as right.
        hazards: from ``diagnose``; found here if None.
        draft: what the repair stage would do, for ``Culprit.repair``; without one the answer is always a pin.
        references: the framework's outputs by name, one a sample.
        autocast: from ``pytorch.compare_autocast``.
        threads: ONNX Runtime threads.
        tick: called between the steps.

    Raises:
        ModelError: the model does not run.
        SampleError: references that do not fit.
    """
    hazards = diagnose(model, measure(model, samples, threads=threads)) if hazards is None else hazards
    typed = lower(model, model.placed)
    evidence = gather(model, typed, samples, tolerance, references, autocast, threads)
    tick()
    errors = shadow(model, typed, samples, threads=threads)
    tick()
    unstorable = frozenset(hazard.tensor for hazard in hazards if hazard.kind is Kind.OVERFLOW and not hazard.internal)
    faint = births(model, typed, samples, unstorable=unstorable, least_db=FAINT_DB, threads=threads)
    found = [birth for birth in faint if birth.is_real][:MOST]
    if not found and not evidence.strict.verified:
        found = faint[: MOST // 4]
    tick()
    some = list(islice(samples, FEW))
    damage = shares(model, typed, [birth.node for birth in found], some, unstorable=unstorable, threads=threads)
    found.sort(key=lambda birth: (-damage.alone[birth.node], -birth.drop_db, birth.node))
    clerk = Clerk(model, hazards, draft)
    culprits = tuple(clerk.culprit(birth, damage.share(birth.node)) for birth in found)
    named = {culprit.node for culprit in culprits}
    order = {node.name: index for index, node in enumerate(model.graph.nodes)}
    steps = (Step(b.node, b.op, b.tensor, b.sqnr_out_db, b.node in named) for b in blame(model, errors))
    along = tuple(sorted(steps, key=lambda step: order[step.node]))
    kinds: dict[Kind, float] = defaultdict(float)
    for culprit in culprits:
        kinds[Kind(culprit.kind)] += culprit.share
    first = dict.fromkeys(name for culprit in culprits for name in culprit.pins)
    ranking = (*first, *(name for name in upstream(model, [b.node for b in found if b.operands]) if name not in first))
    return Location(triage(evidence, kinds), culprits, along, explained(damage.together, damage.everything), ranking)


def upstream(model: Model, names: Sequence[str]) -> list[str]:
    """Float nodes of the main graph before the named ones, the nearest first."""
    nodes = {node.name: node for node in model.graph.nodes}
    found: dict[str, None] = {}
    pending = deque(names)
    while pending:
        for tensor in float_inputs(nodes[pending.popleft()]):
            fresh = [node.name for node in tensor.inputs if node.name in nodes and node.name not in found]
            found |= dict.fromkeys(fresh)
            pending += fresh
    return list(found)


def explained(together: float, everything: float) -> float:
    """1 where there is nothing to explain."""
    return min(1.0, together / everything) if everything > 0.0 else 1.0


def gather(
    model: Model,
    typed: Model,
    samples: Iterable[Sample],
    tolerance: Tolerance,
    references: Iterable[Mapping[str, Any]] | None,
    autocast: tuple[Figures, ...],
    threads: int,
) -> Evidence:
    """What triage looks at; the pessimistic run is made only where the strict one passes."""
    reference = None if references is None else against_references(model, samples, references, tolerance, threads=threads)
    with StrictOracle(model, samples, tolerance, threads=threads) as oracle:
        strict = oracle.verdict(typed)
        pessimistic = oracle.verdict(typed, profile="pessimistic") if strict.verified else None
    return Evidence(strict, pessimistic, reference, autocast)


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
