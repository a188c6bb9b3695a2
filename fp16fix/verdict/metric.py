"""``Metric``: a task's own measure, beside the built-in figures: one of ``verdict.gauges``, another package's, or the user's file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from fp16fix.verdict.verdict import Reading, Verdict


@dataclass(frozen=True, slots=True)
class Measured:
    """What a metric says over all samples."""

    value: float
    limit: float
    passes: bool
    spare_db: float = math.inf
    """How far the error is below its limit, 6 dB is half of it; searches aim at the margin here, too. inf has no say in that."""


class Metric(Protocol):
    """A class with these members; one object a verdict, so that nothing is kept from one candidate to the next.

    What stands beside ``metric`` in ``tolerance.metrics`` is given to it by keyword when it is made.
    """

    name: ClassVar[str]
    """What ``tolerance.metrics`` calls it."""

    def add(self, reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        """One sample's outputs by name, the FP32 model's and the candidate's."""
        ...

    def result(self) -> Measured:
        """Over the samples added."""
        ...


class Gauge(Protocol):
    """A metric as a verdict asks it: under the name that reports give it."""

    label: str

    def add(self, reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        """As ``Metric.add``."""
        ...

    def result(self) -> Measured:
        """As ``Metric.result``."""
        ...


def times_to_spare(error: float, limit: float) -> float:
    """20·log₁₀(limit / error): dB by which an error may grow; inf of none."""
    if math.isnan(error) or error < 0 or limit < 0:
        return math.inf
    if limit == 0:
        return math.inf if error == 0 else -math.inf
    return math.inf if error == 0 else 20.0 * math.log10(limit / error) if math.isfinite(error) else -math.inf


def share_to_spare(share: float, limit: float) -> float:
    """The same of a share that is 1 without error."""
    return times_to_spare(1.0 - share, 1.0 - limit)


def measured(verdict: Verdict, metrics: Sequence[Gauge]) -> Verdict:
    """A verdict held to what metrics say too."""
    found = [(each.label, each.result()) for each in metrics]
    readings = tuple(Reading(label, said.value, said.limit, said.passes) for label, said in found)
    lost = tuple(f"metric {each.metric}: {each.value:.6g}, the limit is {each.limit:g}" for each in readings if not each.passes)
    spare, at = min(((said.spare_db, label) for label, said in found), default=(math.inf, ""))
    tighter = spare < verdict.spare_db
    return replace(
        verdict,
        verified=verdict.verified and not lost,
        reasons=(*verdict.reasons, *lost),
        metrics=readings,
        spare_db=spare if tighter else verdict.spare_db,
        spare_at=f"in metric {at}" if tighter else verdict.spare_at,
    )
