"""``Figures`` of one output, ``Tolerance`` to hold them to, and the ``Verdict`` over held-out samples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """A candidate output against the FP32 reference, over all held-out samples."""

    output: str
    sqnr_db: float
    """10·log₁₀(Σ ref² / Σ (ref − x)²) over elements finite in both; inf if equal."""
    max_abs: float
    """Largest |ref − x|."""
    max_rel: float
    """Largest |ref − x| over the largest |ref|."""
    cosine: float
    """Cosine similarity of the flattened outputs, all samples together."""
    new_nonfinite: int
    """Elements finite in the reference and not in the candidate."""
    mismatches: int = 0
    """Integer or boolean outputs: elements that differ."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Pass or fail, by whom, and with what figures."""

    verified: bool
    oracle: str
    """Who computed the candidate: ``strict`` (emulator), ``tensorrt`` (an engine on a GPU), ``command``."""
    profile: str
    """Assumption on insides of ops: ``engine`` or ``pessimistic``."""
    outputs: tuple[Figures, ...]
    samples: int
    reasons: tuple[str, ...] = ()
    """Why it fails, one sentence each; empty when verified."""
