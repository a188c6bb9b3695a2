"""``Metric``: a task's own measure, beside the built-in figures; other packages add theirs by entry points of ``fp16fix.metrics``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from fp16fix.errors import ConfigError
from fp16fix.plugins import offered
from fp16fix.verdict.verdict import Reading, Verdict

GROUP = "fp16fix.metrics"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a metric says over all samples."""

    value: float
    limit: float
    passes: bool


class Metric(Protocol):
    """A class with these members; one object a verdict, so that nothing is kept from one candidate to the next."""

    name: ClassVar[str]
    """What ``tolerance.metrics`` calls it."""

    def add(self, reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        """One sample's outputs by name, the FP32 model's and the candidate's."""
        ...

    def result(self) -> Measured:
        """Over the samples added."""
        ...


def metrics_named(names: Sequence[str]) -> tuple[type[Metric], ...]:
    """The metrics that a config names.

    Raises:
        ConfigError: there is none of that name, or it does not load.
    """
    kinds: Iterable[type[Metric]] = offered(GROUP, lambda kind: hasattr(kind, "add") and hasattr(kind, "result")) if names else ()
    known = {kind.name: kind for kind in kinds}
    for name in names:
        if name not in known:
            has = f"installed: {', '.join(sorted(known))}" if known else "no installed package offers one"
            raise ConfigError(f"there is no metric {name!r}", where="tolerance.metrics", hint=f"{has}; see notes/extending.md")
    return tuple(known[name] for name in names)


def measured(verdict: Verdict, metrics: Sequence[Metric]) -> Verdict:
    """A verdict held to what metrics say too."""
    readings = tuple(Reading(each.name, found.value, found.limit, found.passes) for each in metrics for found in (each.result(),))
    lost = tuple(f"metric {each.metric}: {each.value:.6g}, the limit is {each.limit:g}" for each in readings if not each.passes)
    return replace(verdict, verified=verdict.verified and not lost, reasons=(*verdict.reasons, *lost), metrics=readings)
