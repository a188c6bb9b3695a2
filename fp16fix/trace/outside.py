"""FP32 and strict values compared by NumPy, where all of them fit into memory: sessions with a probe a tensor take long to open."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.ranges.probe import is_fp32
from fp16fix.ranges.range import Range
from fp16fix.trace.damage import OFF, Damage, Pair, error_of, errors_of
from fp16fix.trace.segments import Sample

HELD = 1 << 26
"""Bytes of values up to which they do."""


def takes(model: Model, ranges: Mapping[str, Range]) -> float:
    """Bytes of all FP32 values of the main graph on a sample; infinite where a shape is not known."""
    return sum(math.prod(ranges[name].shape) * 4 if name in ranges else math.inf for name in own_floats(model))


def own_floats(model: Model) -> list[str]:
    """The FP32 tensors that nodes of the main graph make, in its order."""
    return [tensor.name for node in model.graph.nodes for tensor in node.outputs if tensor.name and is_fp32(tensor)]


def in_both(reference: Model, strict: Model) -> list[str]:
    """Those of a strict model that have a twin: what widens its weights has none, and is as large as they are."""
    known = set(own_floats(reference))
    return [name for name in own_floats(strict) if name in known]


def outside(
    exact: Sequence[Mapping[str, np.ndarray]], strict: Session, samples: Iterable[Sample], exponents: Mapping[str, int]
) -> dict[str, Damage]:
    """``Shadows.of`` where all values fit into memory: compared by NumPy. Raises ModelError: the strict graph fails."""
    totals: dict[str, np.ndarray] = {}
    for wanted, sample in zip(exact, samples, strict=True):
        found = strict.run(sample, whole=True)
        for name in (name for name in wanted if name in found):
            row = pair_row(wanted[name], found[name], exponents.get(name, 0))
            totals[name] = totals.get(name, 0.0) + row
    return {name: error_of(name, row) for name, row in totals.items()}


def compare(host: Model, pairs: Sequence[Pair], samples: Iterable[Sample], threads: int) -> dict[str, Damage]:
    """Errors by label, element by element, of twins in the main graph of a host; what ``shadow.compare_in_graph`` says of them.

    Raises:
        ModelError: a twin fails.
    """
    names = dict.fromkeys(name for pair in pairs for name in (pair.reference, pair.twin.name))
    session, totals = Session(host, threads=threads, inner=names), dict[str, np.ndarray]()
    for sample in samples:
        found = session.run(sample, whole=True)
        for pair in pairs:
            reference, twin = found[pair.reference], found[pair.twin.name]
            row = np.concatenate([pair_row(reference, twin, pair.exponent), off_row(reference, twin, pair.exponent)])
            totals[pair.label] = totals.get(pair.label, 0.0) + row
    return errors_of(totals)


def pair_row(reference: np.ndarray, twin: np.ndarray, exponent: int) -> np.ndarray:
    """The row of ``pair_summary``, of one sample; all is lost where the shapes differ. The twin holds reference × 2^−exponent."""
    if reference.shape != twin.shape:
        return np.array([0.0, 0.0, reference.size])
    exact, own = reference.astype(np.float64), np.ldexp(twin.astype(np.float64), exponent)
    kept = np.isfinite(exact) & np.isfinite(own)
    same = (exact == own) | (np.isnan(exact) & np.isnan(own))
    exact, own = exact[kept], own[kept]
    return np.array([np.square(exact).sum(), np.square(exact - own).sum(), np.count_nonzero(~(kept | same))])


def off_row(reference: np.ndarray, twin: np.ndarray, exponent: int) -> np.ndarray:
    """Elements that are off, as in ``shadow.full_summary``, and all elements."""
    if reference.shape != twin.shape:
        return np.array([reference.size, reference.size])
    size, own = np.abs(reference), np.ldexp(twin, exponent)
    with np.errstate(invalid="ignore"):
        root = np.sqrt(size, dtype=np.float64).mean() if size.size else 0.0
        kept = np.abs(reference - own) <= OFF * (size + root**2)
    return np.array([reference.size - np.count_nonzero(kept), reference.size])


def takes_twice(pairs: Iterable[Pair], ranges: Mapping[str, Range]) -> float:
    """Bytes of pairs on a sample; infinite where a shape is not known."""
    named = (ranges.get(pair.reference) for pair in pairs)
    return sum(math.inf if seen is None else math.prod(seen.shape) * 8 for seen in named)
