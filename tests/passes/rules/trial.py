"""One rule on one model text: what it says, and the model after it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fp16fix.graph.model import Model
from fp16fix.passes.recipe import Edit, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules import rule as rule_named

from .evidence import Feeds, evidence_of, repaired, run, samples, strictly

HEADER = '<ir_version: 8, opset_import: ["" : 17]> '


@dataclass(slots=True)
class Trial:
    """The rule's proposals on ``text`` (opset 17 unless it brings a header), calibrated on seeded normal data."""

    rule: str
    text: str
    evidence: Findings = field(init=False)
    repairs: list[Edit] = field(init=False)
    refusals: list[Refusal] = field(init=False)

    def __post_init__(self) -> None:
        self.evidence = evidence_of(self.text if self.text.startswith("<ir") else HEADER + self.text)
        said = list(rule_named(self.rule).propose(self.evidence))
        self.repairs = [each for each in said if isinstance(each, Edit)]
        self.refusals = [each for each in said if isinstance(each, Refusal)]

    @property
    def feeds(self) -> list[Feeds]:
        return samples(self.evidence.model)

    @property
    def model(self) -> Model:
        """After the repairs."""
        return repaired(rule_named(self.rule), self.evidence, self.repairs)

    def truth(self, feeds: list[Feeds] | None = None) -> dict[str, np.ndarray]:
        """FP32, before."""
        return run(self.evidence.model, feeds or self.feeds)

    def after(self, feeds: list[Feeds] | None = None) -> dict[str, np.ndarray]:
        """FP32, after."""
        return run(self.model, feeds or self.feeds)

    def cured(self, feeds: list[Feeds] | None = None) -> dict[str, np.ndarray]:
        """Strict FP16, after."""
        return strictly(self.model, feeds or self.feeds)

    def ill(self, feeds: list[Feeds] | None = None) -> dict[str, np.ndarray]:
        """Strict FP16, before."""
        return strictly(self.evidence.model, feeds or self.feeds)

    def ops(self) -> list[str]:
        """Operators after the repairs, in order."""
        return [node.op for node in self.model.nodes()]
