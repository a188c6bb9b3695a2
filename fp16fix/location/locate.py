"""FP32 model + samples → ``Location``: what breaks FP16, in ONNX names, worst first, with each culprit's share and what would answer it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from fp16fix.graph.model import Model, inner_nodes
from fp16fix.graph.ops import float_outputs
from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard, Kind, overflowing
from fp16fix.location.culprit import ROUNDING, Clerk, Culprit
from fp16fix.location.hearing import Hearing, in_fp16
from fp16fix.location.triage import Fault, Triage, triage
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.passes.apply import apply
from fp16fix.passes.recipe import plain
from fp16fix.progress import Tick
from fp16fix.ranges.measure import measure
from fp16fix.ranges.range import Ranges
from fp16fix.search.refine import FAINT_DB, ranking
from fp16fix.trace.births import CEILING_DB, Birth, births, with_states
from fp16fix.trace.damage import Damage
from fp16fix.trace.segments import Sample
from fp16fix.trace.shadow import shadow
from fp16fix.trace.share import Shares, shares
from fp16fix.verdict.gates import Tolerance

if TYPE_CHECKING:
    from fp16fix.passes.design import Draft

MOST = 32
"""Culprits whose share is measured: each costs an FP32 pass."""
FEW = 2
"""Samples that shares are measured on."""
WRONG_DB = 50.0
"""A tensor below this counts as damaged: what the default tolerance asks of outputs."""
MINOR_SHARE = 0.01
"""A birth with a good result and less than this of the damage is minor."""


@dataclass(frozen=True, slots=True)
class AlongPlain:
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
    minor: tuple[Culprit, ...]
    """Births too small to matter by themselves, worst first."""
    along: tuple[AlongPlain, ...]
    """Every float node of the main graph, in graph order."""
    cures: bool | None
    """Whether pinning what all culprits name makes all-FP16 right on a few samples; None where it is right, or nothing was named."""
    explained: float
    """Damage of all culprits together against that of all-FP16, 1 at most: how complete the list is."""
    ranking: tuple[str, ...]
    """Nodes in the order in which a search should pin them: each culprit's, worst first, then what lies before culprits that magnify."""

    @property
    def carried(self) -> tuple[str, ...]:
        """Nodes with damaged results that only pass on what was born before them, in graph order."""
        return tuple(step.node for step in self.along if step.sqnr_db < WRONG_DB and not step.born)


def locate(
    model: Model,
    samples: Iterable[Sample],
    tolerance: Tolerance,
    *,
    ranges: Ranges | None = None,
    hazards: Sequence[Hazard] | None = None,
    draft: Draft | None = None,
    proofs: Collection[Hazard] = (),
    evidence: Hearing | None = None,
    threads: int = 0,
    tick: Tick = lambda: None,
) -> Location:
    """Two shadow passes a sample, and one FP32 pass for each culprit on a few of them.

    Args:
        model: FP32.
        samples: re-iterable.
        tolerance: what counts as right.
        ranges: of the model on the samples; measured here if None.
        hazards: from ``diagnose``; found here if None.
        draft: what the repair stage would do, for ``Culprit.repair``; without one the answer is always a pin.
        proofs: hazards that are proven to have no effect.
        evidence: for triage; only the emulations are looked at here if None.
        threads: ONNX Runtime threads.
        tick: called between the steps.

    Raises:
        ModelError: the model does not run.
    """
    ranges = measure(model, samples, threads=threads) if ranges is None else ranges
    hazards = diagnose(model, ranges) if hazards is None else hazards
    typed = apply(model, plain(model.placed))
    evidence = in_fp16(model, samples, tolerance, threads=threads) if evidence is None else evidence
    tick()
    errors = shadow(model, typed, samples, ranges=ranges, threads=threads)
    tick()
    unstorable = with_states(model, overflowing(hazards))
    found = suspects(births(model, typed, samples, unstorable=unstorable, least_db=FAINT_DB, threads=threads), evidence)
    tick()
    names = [birth.node for birth in found]
    few = list(islice(samples, FEW))
    damage = shares(model, typed, names, few, unstorable=unstorable, threads=threads) if names else Shares({}, 0.0, 0.0)
    found.sort(key=lambda birth: (-damage.alone[birth.node], -birth.drop_db, birth.node))
    clerk = Clerk(model, hazards, draft, proofs)
    named = [clerk.culprit(birth, damage.share(birth.node)) for birth in found]
    culprits, minor = weighed(named, evidence)
    said = triage(evidence, by_kind(culprits))
    if said.fault is Fault.SUMS:
        culprits = tuple(clerk.insides())
    return Location(
        triage=said,
        culprits=culprits,
        minor=minor,
        cures=None if evidence.strict.verified or not culprits else cures(model, culprits, few, tolerance, threads),
        along=steps(model, errors, set(names)),
        explained=damage.explained,
        ranking=ranking(model, (pin for each in named for pin in each.pins), found),
    )


def weighed(named: Sequence[Culprit], evidence: Hearing) -> tuple[tuple[Culprit, ...], tuple[Culprit, ...]]:
    """Culprits and minor births: all of them are minor where all-FP16 is right, none where none stands out and they add up."""
    if evidence.strict.verified:
        return (), tuple(named)
    heavy = tuple(each for each in named if each.sqnr_out_db < WRONG_DB or (each.share >= MINOR_SHARE and each.kind != ROUNDING))
    return (heavy, tuple(each for each in named if each not in heavy)) if heavy else (tuple(named), ())


def cures(model: Model, culprits: Sequence[Culprit], samples: Sequence[Sample], tolerance: Tolerance, threads: int) -> bool:
    """Whether all-FP16 is right once every pin of every culprit is FP32: where it is not, error also comes from further upstream."""
    pins = dict.fromkeys((pin for each in culprits for pin in each.pins), "fp32")
    with StrictOracle(model, samples, tolerance, threads=threads) as oracle:
        return oracle.verdict(apply(model, plain({**pins, **model.placed}))).verified


def suspects(found: Sequence[Birth], evidence: Hearing) -> list[Birth]:
    """Real births; the worst of the faint ones if there are none and all-FP16 is wrong all the same."""
    real = [birth for birth in found if birth.is_real][:MOST]
    return real if real or evidence.strict.verified else list(found[: MOST // 4])


def by_kind(culprits: Iterable[Culprit]) -> dict[Kind, float]:
    """Shares added up."""
    kinds: dict[Kind, float] = defaultdict(float)
    for culprit in culprits:
        if culprit.kind != ROUNDING:
            kinds[Kind(culprit.kind)] += culprit.share
    return kinds


def steps(model: Model, errors: Mapping[str, Damage], names: Collection[str]) -> tuple[AlongPlain, ...]:
    """The all-FP16 run in graph order."""
    found = []
    for node in model.graph.nodes:
        outputs = [errors[t.name] for t in float_outputs(node) if t.name in errors]
        if outputs:
            worst = min(outputs, key=lambda error: error.damage_db)
            born = node.name in names or any(inner.name in names for inner in inner_nodes(node))
            found.append(AlongPlain(node.name, node.op, worst.tensor, min(worst.damage_db, CEILING_DB), born))
    return tuple(found)
