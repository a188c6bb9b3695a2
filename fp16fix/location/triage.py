"""First of all: is FP32 itself right, and is the fault one of FP16 rounding at all? Figures in, one plain sentence with evidence out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from fp16fix.hazards.hazard import Kind
from fp16fix.location import sentences
from fp16fix.location.hearing import Hearing, accounts_for
from fp16fix.verdict.verdict import Verdict


class Fault(str, Enum):
    """What kind of fault it is."""

    REFERENCE = "reference"
    """FP32 itself does not give the framework's outputs."""
    FP32_ENGINE = "fp32-engine"
    """The user's FP32 engine is wrong already."""
    RANGE = "range"
    """Values leave FP16's range, at the top or at the bottom."""
    PRECISION = "precision"
    """Values fit, but FP16 is too coarse for what is computed from them."""
    SUMS = "sums"
    """Right as long as sums inside operators are held in FP32, wrong if they are held in FP16."""
    PARTLY = "partly"
    """FP16 rounding does harm, but not as much as the engine shows."""
    ELSEWHERE = "elsewhere"
    """Strict FP16 is right: rounding explains no wrong engine. Measured if the engine's outputs were given."""
    ENGINE_RIGHT = "engine-right"
    """The engine is right on these samples."""


OF_RANGE = frozenset({Kind.OVERFLOW, Kind.VANISH, Kind.CONSTANT})


@dataclass(frozen=True, slots=True)
class Triage:
    """The answer."""

    fault: Fault
    verdict: str
    """One plain sentence."""
    evidence: tuple[str, ...]
    """One sentence for each thing measured."""


def triage(evidence: Hearing, kinds: Mapping[Kind, float]) -> Triage:
    """Decide.

    Args:
        evidence: what was measured.
        kinds: each kind's share of the final error, from the culprits.
    """
    fault = fault_of(evidence, kinds)
    mine = {kind: share for kind, share in kinds.items() if (kind in OF_RANGE) is (fault is Fault.RANGE)}
    by = sentences.causes(mine, sum(kinds.values()))
    return Triage(fault, SENTENCES[fault](evidence, by), tuple(sentences.said(evidence)))


def fault_of(evidence: Hearing, kinds: Mapping[Kind, float]) -> Fault:
    """The first question with an answer wins."""
    if evidence.reference is not None and not evidence.reference.verified:
        return Fault.REFERENCE
    if evidence.fp32_engine is not None and not evidence.fp32_engine.verified:
        return Fault.FP32_ENGINE
    if evidence.engine is not None:
        return of_engine(evidence, evidence.engine, kinds)
    if evidence.strict.verified:
        return Fault.SUMS if evidence.pessimistic is not None and not evidence.pessimistic.verified else Fault.ELSEWHERE
    return of_rounding(evidence.strict, kinds)


def of_engine(evidence: Hearing, engine: Verdict, kinds: Mapping[Kind, float]) -> Fault:
    """Which emulation, if any, goes as wrong as the engine does."""
    strict, pessimistic = evidence.strict, evidence.pessimistic
    if engine.verified:
        return Fault.ENGINE_RIGHT
    if not strict.verified and accounts_for(strict, engine):
        return of_rounding(strict, kinds)
    if pessimistic is not None and not pessimistic.verified and accounts_for(pessimistic, engine):
        return Fault.SUMS
    if accounts_for(strict, engine):  # both are at the tolerance, on either side of it
        return Fault.PRECISION
    return Fault.ELSEWHERE if strict.verified and (pessimistic is None or pessimistic.verified) else Fault.PARTLY


def of_rounding(strict: Verdict, kinds: Mapping[Kind, float]) -> Fault:
    """Range or precision: lost values come of range alone, else the culprits tell."""
    if any(figures.lost for figures in strict.outputs):
        return Fault.RANGE
    of_range = sum(share for kind, share in kinds.items() if kind in OF_RANGE)
    return Fault.RANGE if of_range >= 0.5 * sum(kinds.values()) and of_range > 0.0 else Fault.PRECISION


SENTENCES: dict[Fault, Callable[[Hearing, str], str]] = {
    Fault.REFERENCE: sentences.wrong_reference,
    Fault.FP32_ENGINE: sentences.wrong_fp32_engine,
    Fault.RANGE: sentences.range_fault,
    Fault.PRECISION: sentences.precision_fault,
    Fault.SUMS: sentences.fp16_sums,
    Fault.PARTLY: sentences.partly,
    Fault.ELSEWHERE: sentences.elsewhere,
    Fault.ENGINE_RIGHT: sentences.engine_right,
}
