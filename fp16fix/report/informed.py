"""An answer → what is told beside its verdict and decides nothing: the other profile, how far FP32 moved, error along the graph.

Each part may fail; then it is empty, the outcome says which and why, and everything else stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from fp16fix.errors import first_line
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Stages
from fp16fix.search.answer import Answer
from fp16fix.search.trials import Trials
from fp16fix.trace.damage import Damage
from fp16fix.trace.shadow import Shadows
from fp16fix.verdict.verdict import Figures, Verdict

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Informed:
    """Measured for the reader."""

    pessimistic: Verdict
    """Of the same graph under the profile that does not decide, on the sample that the verdict is worst on."""
    before: tuple[Figures, ...] = ()
    """Of all-FP16."""
    equivalence: tuple[Figures, ...] = ()
    """The repaired graph in FP32 against the original, on that sample."""
    along_before: Mapping[str, Damage] = field(default_factory=dict)
    along_after: Mapping[str, Damage] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    """What could not be measured, a sentence each."""


def uninformed(trials: Trials, why: str) -> Informed:
    """Nothing measured yet."""
    return Informed(Verdict(verified=False, oracle="strict", profile=other_profile(trials), outputs=(), samples=0, reasons=(why,)))


def inform(trials: Trials, answer: Answer, typed: Model, stages: Stages) -> Informed:
    """Measure what only informs.

    Args:
        trials: its reference is compared with.
        answer: what is used.
        typed: the answer's typed graph.
        stages: for progress.
    """
    evidence, narrow = trials.evidence, trials.evidence.model.narrow
    model, some, threads = evidence.model, evidence.calibration.few(1), evidence.config.threads
    plain, other = trials.typed(evidence.plain), other_profile(trials)
    why = "it could not be measured" if narrow.narrow_sums else f"it is about FP16; {narrow} products add in FP32"
    missing, no_figures, no_damage = uninformed(trials, why), tuple[Figures, ...](), dict[str, Damage]()
    same, exponents = answer.recipe.digest == evidence.plain.digest, known_exponents(model, answer)
    parts = Parts()

    def session(recipe: Recipe) -> Session | None:
        return trials.strict.session_along(recipe.digest, evidence.config.profile)

    def on_worst(ask: Callable[[StrictOracle], T]) -> T:
        worst = answer.verdict.worst
        with trials.strict.alone("" if worst is None else worst.sample) as oracle:
            return ask(oracle)

    with stages.stage("pessimistic and FP32 checks", (0 if same else len(evidence.judged)) + 2) as tick:
        before = answer.verdict.outputs
        if not same:
            of_plain = partial(trials.strict.figures, plain, profile=evidence.config.profile, key=evidence.plain.digest, tick=tick)
            before = parts.part(f"Plain {narrow}", of_plain, no_figures)
        second = missing.pessimistic
        if narrow.narrow_sums:
            # Written out, a pass takes three times as long.
            asked = lambda oracle: oracle.verdict(typed, profile=other, tick=tick)
            second = parts.part(f"The {other} profile", partial(on_worst, asked), second)
        in_fp32 = lambda oracle: oracle.figures(answer.draft.model, strict=False, tick=tick)
        moved = parts.part("FP32 after repair", partial(on_worst, in_fp32), no_figures)
    along = Shadows(model, some, evidence.ranges, threads)
    with stages.stage("error along the graph"):
        ill = parts.part(f"Error along plain {narrow}", lambda: along.of(plain, strict=session(evidence.plain)), no_damage)
        mended = partial(along.of, typed, exponents)
        well = ill if same else parts.part("Error along the repaired graph", lambda: mended(session(answer.recipe)), no_damage)
    return Informed(second, before, moved, ill, well, tuple(parts.failed))


@dataclass(slots=True)
class Parts:
    """Measures one thing after another, whatever came of those before."""

    failed: list[str] = field(default_factory=list)

    def part(self, name: str, measure: Callable[[], T], instead: T) -> T:
        """What is measured, or ``instead`` and a sentence."""
        try:
            return measure()
        except Exception as error:  # noqa: BLE001 - nothing that only informs may cost a product
            self.failed.append(f"{name} could not be measured ({type(error).__name__}: {first_line(error)}); the verdict does not need it.")
            return instead


def other_profile(trials: Trials) -> str:
    """The profile that does not decide."""
    return "compiled" if trials.evidence.config.profile == "pessimistic" else "pessimistic"


def known_exponents(original: Model, answer: Answer) -> dict[str, int]:
    """Exponents of the tensors that both graphs have."""
    names = set(original.tensors())
    outputs = {tensor.name for tensor in original.graph.outputs}
    return {name: e for name, e in answer.recipe.exponents.items() if name in names and name not in outputs}
