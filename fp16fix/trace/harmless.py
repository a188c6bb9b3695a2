"""Acquittal that a hazard has no effect: the node and what follows it run strictly on exact inputs, and the error heals.

``tanh(inf)`` is 1, and ``x·sigmoid(x)`` is 0 far to the left: an overflow or underflow that the next operators absorb costs nothing,
and pinning it would cost speed. All proofs of a model run in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.errors import ModelError
from fp16fix.graph.lower import lower
from fp16fix.graph.model import FLOATS, Model, bodies, element_type
from fp16fix.graph.opset import raise_opset
from fp16fix.graph.splice import cut, splice
from fp16fix.graph.walk import walk
from fp16fix.half import Format
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.ranges.probe import PROBING
from fp16fix.ranges.range import Range
from fp16fix.strict.emulate import emulate
from fp16fix.trace.damage import Damage, Pair
from fp16fix.trace.outside import HELD, compare, takes_twice
from fp16fix.trace.shadow import compare_in_graph

DEPTH = 8
"""How many operators may pass before the error must have healed."""
HEALED_DB = 48.0
"""A tensor this close to FP32 counts as healed; one FP16 rounding alone leaves about 73 dB, eight in a row about 64 dB; in BF16 all
three are 18 dB less."""
HEALED_OFF = 1e-4
"""Share of elements that may still be off: a massive channel makes the SQNR blind to all others, this is not."""
AT_ONCE = 1 << 14
"""Nodes in the cones of proofs that run together: whatever their number, the model is copied and run once for all of them."""
MANY = 16
"""Hazards that are alike of which all are tried: of more, such as the norms of a diffusion model, only if some of these are harmless."""
PICKED = 4
"""Of those, spread over the graph."""
PASSES = "with it, as with everything in 16 bits, the outputs are right: strict emulation passes on every sample"
PROVABLE = frozenset({Kind.OVERFLOW, Kind.VANISH, Kind.CANCEL})
"""Kinds that a run can acquit. Literals, coordinates and an eps guard inputs that calibration may not hold."""


@dataclass(frozen=True, slots=True)
class Acquittal:
    """Why a hazard is harmless."""

    hazard: Hazard
    healed_at: tuple[str, ...]
    worst_db: float

    @property
    def why(self) -> str:
        """One sentence."""
        return f"run strictly, the error is gone at {', '.join(self.healed_at[:3])} ({self.worst_db:.0f} dB there)"


def harmless(
    model: Model,
    hazards: Sequence[Hazard],
    samples: Iterable[Mapping[str, np.ndarray]],
    *,
    ranges: Mapping[str, Range] | None = None,
    threads: int = 0,
) -> dict[Hazard, Acquittal]:
    """The hazards (of main-graph nodes) that are proven to have no effect on these samples.

    Args:
        model: the FP32 model.
        hazards: candidates; kinds that a run cannot acquit are passed over.
        samples: calibration samples.
        ranges: of the model; where they show that tensors are small, NumPy compares them.
        threads: ONNX Runtime threads.
    """
    model = raise_opset(model, PROBING)
    nodes = {node.name: node for node in model.graph.nodes}
    order = {node.name: index for index, node in enumerate(model.graph.nodes)}
    candidates = [
        h
        for h in hazards
        if not h.internal and h.node in nodes and (is_shown(h, {t.name for t in nodes[h.node].outputs}) or is_exponential(h, model.narrow))
    ]
    accused = frozenset(h.node for h in hazards if not h.internal)
    cones = {h.node: forward(nodes[h.node], order) for h in candidates}
    proofs: dict[Hazard, Acquittal] = {}

    def prove(some: Sequence[Hazard]) -> None:
        for batch in batches(some, lambda h: len(cones[h.node])):
            proofs.update(acquitted(lambda few: acquit(model, few, nodes, cones, samples, accused, ranges or {}, threads), batch))

    groups = alike(candidates, lambda h: tuple(nodes[name].op for name in sorted(cones[h.node], key=order.__getitem__)))
    prove([hazard for group in groups for hazard in picked(group)])
    prove([hazard for group in groups if any(each in proofs for each in group) for hazard in group if hazard not in picked(group)])
    return proofs | arguments(hazards, proofs)


def is_shown(hazard: Hazard, outputs: Collection[str]) -> bool:
    """Whether it is one of what the node makes, of a kind that a run can acquit."""
    return hazard.kind in PROVABLE and hazard.tensor in outputs


def is_exponential(hazard: Hazard, narrow: Format) -> bool:
    """Whether it is one of a bare exponential's argument where no overflow comes with it, as in FP16 it does from 11.1 on."""
    return hazard.kind is Kind.COARSE and hazard.op == "Exp" and narrow.has_fp32_range


def alike(hazards: Sequence[Hazard], cone: Callable[[Hazard], tuple[str, ...]]) -> list[list[Hazard]]:
    """Hazards of one kind at one operator with the same operators behind them, in order."""
    groups: dict[tuple[object, ...], list[Hazard]] = {}
    for hazard in hazards:
        groups.setdefault((hazard.kind, cone(hazard)), []).append(hazard)
    return list(groups.values())


def picked(group: Sequence[Hazard]) -> list[Hazard]:
    """Those of a group that are tried first: where none of them is harmless, the others are not tried and count as what they look like."""
    if len(group) <= MANY:
        return list(group)
    return [group[round(step * (len(group) - 1) / (PICKED - 1))] for step in range(PICKED)]


def batches(hazards: Sequence[Hazard], size: Callable[[Hazard], int]) -> Iterator[list[Hazard]]:
    """Hazards in order, as many together as their sizes allow."""
    batch, held = list[Hazard](), 0
    for hazard in hazards:
        if batch and held + size(hazard) > AT_ONCE:
            yield batch
            batch, held = [], 0
        batch.append(hazard)
        held += size(hazard)
    if batch:
        yield batch


def acquitted(prove: Callable[[Sequence[Hazard]], dict[Hazard, Acquittal]], hazards: Sequence[Hazard]) -> dict[Hazard, Acquittal]:
    """The proofs that can be made; a hazard whose proof does not run at all is not acquitted."""
    try:
        return prove(hazards)
    except ModelError:
        middle = len(hazards) // 2
        return acquitted(prove, hazards[:middle]) | acquitted(prove, hazards[middle:]) if middle else {}


def arguments(hazards: Iterable[Hazard], proofs: Mapping[Hazard, Acquittal]) -> dict[Hazard, Acquittal]:
    """Coarse arguments of what overflows without effect: the run that showed it rounded them too."""
    absorbed = {hazard.node: proof for hazard, proof in proofs.items() if hazard.kind is Kind.OVERFLOW}
    return {h: replace(absorbed[h.node], hazard=h) for h in coarse_at(hazards, absorbed)}


def coarse_at(hazards: Iterable[Hazard], nodes: Collection[str]) -> list[Hazard]:
    """Those of arguments that some nodes make."""
    return [hazard for hazard in hazards if hazard.kind is Kind.COARSE and hazard.node in nodes]


def presumed(hazards: Sequence[Hazard], narrow: Format) -> dict[Hazard, str]:
    """Which hazards need no proof where the whole model, all of them in it, is right in the narrow type; and why."""
    shown = [each for each in hazards if not each.internal and (each.kind in PROVABLE or is_exponential(each, narrow))]
    over = {hazard.node for hazard in shown if hazard.kind is Kind.OVERFLOW}
    return dict.fromkeys([*shown, *coarse_at(hazards, over)], PASSES)


def acquit(
    model: Model,
    hazards: Sequence[Hazard],
    nodes: Mapping[str, gs.Node],
    cones: Mapping[str, set[str]],
    samples: Iterable[Mapping[str, np.ndarray]],
    accused: frozenset[str],
    ranges: Mapping[str, Range],
    threads: int,
) -> dict[Hazard, Acquittal]:
    """Splice every hazard's strict cone beside the FP32 graph, run once, and see where errors end."""
    host, narrow = model.copy(), model.narrow
    pairs: list[Pair] = []
    labels: list[tuple[Hazard, dict[str, str]]] = []
    for number, hazard in enumerate(hazards):
        cone = cones[hazard.node]
        twins = splice(host, emulate(lower(cut(model, cone), {}, io=narrow.name, narrow=narrow)), f"proof{number}/")
        floats = [t.name for name in sorted(cone) for t in nodes[name].outputs if t.name and element_type(t) in FLOATS]
        names = {name: f"proof{number}/{name}" for name in floats}
        pairs += [Pair(label, name, twins[name]) for name, label in names.items()]
        labels.append((hazard, names))
    errors = compared(host, pairs, samples, ranges, threads)
    found = {}
    for hazard, names in labels:
        seen = {name: replace(errors[label], tensor=name) for name, label in names.items() if label in errors}
        proof = verdict(hazard, model, nodes, seen, accused)
        if proof is not None:
            found[hazard] = proof
    return found


def compared(
    host: Model, pairs: Sequence[Pair], samples: Iterable[Mapping[str, np.ndarray]], ranges: Mapping[str, Range], threads: int
) -> dict[str, Damage]:
    """Errors by label; by NumPy where few values are looked at. Raises ModelError: it is no twin that fails."""
    if takes_twice(pairs, ranges) <= HELD:
        with suppress(ModelError):
            return compare(host, pairs, samples, threads)
    return compare_in_graph(host, pairs, samples, threads=threads, elementwise=True)


def forward(node: gs.Node, order: Mapping[str, int]) -> set[str]:
    """Names of the nodes within ``DEPTH`` operators after ``node``, itself included; control flow ends a path."""
    cone, frontier = {node.name}, [node]
    for _ in range(DEPTH):
        following = {
            id(c): c for n in frontier for t in n.outputs for c in t.outputs if c.name in order and c.name not in cone and not bodies(c)
        }
        frontier = list(following.values())
        cone |= {n.name for n in frontier}
    return cone


def verdict(
    hazard: Hazard, model: Model, nodes: Mapping[str, gs.Node], errors: Mapping[str, Damage], others: frozenset[str] = frozenset()
) -> Acquittal | None:
    """Follow the error forward; None if any path reaches the end of the cone or a graph output unhealed, or breaks out again.

    Args:
        hazard: the accused.
        model: the FP32 model.
        nodes: its main-graph nodes by name.
        errors: of the tensors in the cone.
        others: nodes with hazards of their own: an error behind them is theirs.
    """
    finals = {tensor.name for tensor in model.graph.outputs}
    healed: list[Damage] = []
    pending = [t for t in nodes[hazard.node].outputs if t.name and element_type(t) in FLOATS]
    visited: set[str] = set()
    while pending:
        tensor = pending.pop()
        if tensor.name in visited:
            continue
        visited.add(tensor.name)
        error = errors.get(tensor.name)
        if error is None:
            return None
        if is_healed(error, model.narrow):
            if not stays_healed(tensor, nodes, errors, others, model.narrow):
                return None
            healed.append(error)
            continue
        if tensor.name in finals or not tensor.outputs:
            return None
        for consumer in tensor.outputs:
            if consumer.name not in nodes:
                return None
            floats = [t for t in consumer.outputs if t.name and element_type(t) in FLOATS]
            if not floats:
                return None
            pending += floats
    ends = sorted(healed, key=lambda e: e.sqnr_db)
    return Acquittal(hazard, tuple(e.tensor for e in ends), ends[0].sqnr_db) if ends else None


def is_healed(error: Damage, narrow: Format) -> bool:
    """Close to FP32 as a whole, and element by element."""
    return error.damage_db >= HEALED_DB - narrow.coarseness_db and error.off <= HEALED_OFF


def stays_healed(
    tensor: gs.Tensor, nodes: Mapping[str, gs.Node], errors: Mapping[str, Damage], others: frozenset[str], narrow: Format
) -> bool:
    """Whether nothing behind a healed tensor errs again: a zero where 0.004 was is small until it is multiplied by a massive channel."""

    def behind(each: gs.Tensor) -> list[gs.Tensor]:
        own = [consumer for consumer in each.outputs if consumer.name in nodes and consumer.name not in others]
        return [output for consumer in own for output in consumer.outputs if output.name in errors]

    return all(is_healed(errors[each.name], narrow) for each in walk(behind(tensor), behind))
