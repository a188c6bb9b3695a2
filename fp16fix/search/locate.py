"""FP32 model + samples → ``Location``: what breaks FP16, in ONNX names, worst first, with each culprit's share and what would answer it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from fp16fix.analyse.measure import measure
from fp16fix.diagnose import diagnose
from fp16fix.diagnose.hazard import Hazard, Kind
from fp16fix.graph.model import Model
from fp16fix.graph.ops import float_inputs
from fp16fix.repair.lower import lower
from fp16fix.search.births import Birth, births
from fp16fix.search.blame import Blame, blame
from fp16fix.search.culprit import Clerk, Culprit
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
    blames = blame(model, shadow(model, typed, samples, threads=threads))
    tick()
    unstorable = frozenset(hazard.tensor for hazard in hazards if hazard.kind is Kind.OVERFLOW and not hazard.internal)
    found = suspects(births(model, typed, samples, unstorable=unstorable, least_db=FAINT_DB, threads=threads), evidence)
    tick()
    names = [birth.node for birth in found]
    damage = shares(model, typed, names, list(islice(samples, FEW)), unstorable=unstorable, threads=threads)
    found.sort(key=lambda birth: (-damage.alone[birth.node], -birth.drop_db, birth.node))
    clerk = Clerk(model, hazards, draft)
    culprits = tuple(clerk.culprit(birth, damage.share(birth.node)) for birth in found)
    return Location(
        triage(evidence, by_kind(culprits)), culprits, steps(model, blames, set(names)), damage.explained, ranking(model, culprits, found)
    )


def suspects(found: Sequence[Birth], evidence: Evidence) -> list[Birth]:
    """Real births; the worst of the faint ones if there are none and all-FP16 is wrong all the same."""
    real = [birth for birth in found if birth.is_real][:MOST]
    return real if real or evidence.strict.verified else list(found[: MOST // 4])


def by_kind(culprits: Iterable[Culprit]) -> dict[Kind, float]:
    """Shares added up."""
    kinds: dict[Kind, float] = defaultdict(float)
    for culprit in culprits:
        kinds[Kind(culprit.kind)] += culprit.share
    return kinds


def steps(model: Model, blames: Iterable[Blame], names: Collection[str]) -> tuple[Step, ...]:
    """The all-FP16 run in graph order."""
    order = {node.name: index for index, node in enumerate(model.graph.nodes)}
    found = (Step(each.node, each.op, each.tensor, each.sqnr_out_db, each.node in names) for each in blames)
    return tuple(sorted(found, key=lambda step: order[step.node]))


def ranking(model: Model, culprits: Iterable[Culprit], found: Iterable[Birth]) -> tuple[str, ...]:
    """Pins of the culprits, then what lies upstream of those that magnify."""
    first = dict.fromkeys(name for culprit in culprits for name in culprit.pins)
    return (*first, *(name for name in upstream(model, [birth.node for birth in found if birth.operands]) if name not in first))


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
