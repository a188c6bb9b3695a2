"""An answer → what is told beside its verdict and decides nothing: the other profile, how far FP32 moved, error along the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fp16fix.graph.model import Model
from fp16fix.progress import Stages
from fp16fix.search.answer import Answer
from fp16fix.search.trials import Trials
from fp16fix.trace.shadow import Damage, shadow
from fp16fix.verdict.verdict import Figures, Verdict


@dataclass(frozen=True, slots=True)
class Informed:
    """Measured for the reader."""

    before: tuple[Figures, ...]
    """Of all-FP16."""
    pessimistic: Verdict
    """Of the same graph under the profile that does not decide."""
    equivalence: tuple[Figures, ...]
    """The repaired graph in FP32 against the original."""
    along_before: Mapping[str, Damage]
    along_after: Mapping[str, Damage]


def inform(trials: Trials, answer: Answer, typed: Model, stages: Stages) -> Informed:
    """Measure what only informs.

    Args:
        trials: its reference is compared with.
        answer: what is used.
        typed: the answer's typed graph.
        stages: for progress.
    """
    evidence = trials.evidence
    config, plain = evidence.config, trials.typed(evidence.plain)
    with stages.stage("pessimistic and FP32 checks", 3 * len(evidence.judged)) as tick:
        other = "compiled" if config.profile == "pessimistic" else "pessimistic"
        same = answer.recipe.digest == evidence.plain.digest
        before = answer.verdict.outputs if same else trials.strict.figures(plain, tick=tick)
        second = trials.strict.verdict(typed, profile=other, tick=tick)
        equivalence = trials.strict.figures(answer.draft.model, strict=False, tick=tick)
    with stages.stage("error along the graph"):
        some = evidence.calibration.few(1)
        ill = shadow(evidence.model, plain, some, threads=config.threads)
        well = shadow(evidence.model, typed, some, known_exponents(evidence.model, answer), threads=config.threads)
    return Informed(before, second, equivalence, ill, well)


def known_exponents(original: Model, answer: Answer) -> dict[str, int]:
    """Exponents of the tensors that both graphs have."""
    names = set(original.tensors())
    outputs = {tensor.name for tensor in original.graph.outputs}
    return {name: e for name, e in answer.recipe.exponents.items() if name in names and name not in outputs}
