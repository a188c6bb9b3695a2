"""``Rule``: one way to remove a hazard; says what it fires on, what it promises, and why it declines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from fp16fix.graph.model import Model
from fp16fix.hazards.hazard import Hazard
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.ranges.range import Range


@dataclass(frozen=True, slots=True)
class Findings:
    """What a rule may look at: the FP32 model, ranges by tensor name, and the hazards found in it."""

    model: Model
    ranges: Mapping[str, Range]
    hazards: Sequence[Hazard]
    headroom: float = 2.0
    """Octaves to leave above what calibration saw."""
    headroom_down: float = 2.0
    """The same below it, where small values matter."""

    def hazards_at(self, nodes: Iterable[str]) -> list[Hazard]:
        """Hazards whose node is among ``nodes``."""
        names = set(nodes)
        return [hazard for hazard in self.hazards if hazard.node in names]


class Rule(Protocol):
    """A rule file defines one class with these members; ``rules/__init__.py`` finds it."""

    name: ClassVar[str]
    """kebab-case; what reports and recipes call it."""
    order: ClassVar[int]
    """Rules of lower order are tried first."""
    promise: ClassVar[Promise]
    fires: ClassVar[tuple[str, ...]]
    """ONNX text models on which the rule must propose a repair; each really ill in strict FP16 and really cured, under the profile that the
    rule has as ``numerics`` if any, or, of one that is ``for_builder``, without the operator that ends the builder afterwards."""
    declines: ClassVar[tuple[str, ...]]
    """Near misses, on which it must propose nothing."""

    def propose(self, evidence: Findings) -> Iterable[Edit | Refusal]:
        """Repairs for what is ill (or better fused anyway), refusals with reasons for what it recognises but leaves."""
        ...

    def apply(self, model: Model, repair: Edit) -> None:
        """Carry ``repair`` out on ``model`` in place (the caller gives a copy).

        Raises:
            ReplayError: the model does not hold what the repair names.
        """
        ...
