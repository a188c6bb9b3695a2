"""A ``Subject`` → ``Row``: repaired by the real pipeline from files, then judged anew on every sample there is, seen or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fp16fix.config import Config
from fp16fix.config.sections import Tolerance
from fp16fix.graph.load import load
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model, element_type
from fp16fix.graph.ops import float_inputs, float_outputs
from fp16fix.graph.session import Session
from fp16fix.half import FP16
from fp16fix.hazards.hazard import Kind
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.oracles.reference import Sample
from fp16fix.passes.apply import prepared
from fp16fix.passes.design import spared_tensors
from fp16fix.passes.recipe import Promise
from fp16fix.ranges.range import Range
from fp16fix.report.outcome import Outcome
from fp16fix.tasks.repair import repair
from fp16fix.verdict.metrics import Comparison
from fp16fix.verdict.verdict import Figures, Verdict
from tools.bench.subjects import Subject


@dataclass(frozen=True, slots=True)
class Score:
    """Figures of a graph over all samples, worst output first."""

    db: float
    """Least SQNR of any output; −inf if integers differ."""
    nonfinite: int
    right: bool

    @classmethod
    def of(cls, verdict: Verdict) -> Score:
        """The worst of a verdict."""
        worst = min(-math.inf if each.mismatches else each.sqnr_db for each in verdict.outputs)
        return cls(worst, sum(each.lost for each in verdict.outputs), verdict.verified)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table, for our side."""

    subject: Subject
    plain: Score
    """Everything in FP16, what the author of a mixed model placed in FP32 included."""
    strict: Score
    pessimistic: Score
    fp32_nodes: int
    bf16_nodes: int
    """Not FP16 either, and held to the same promises."""
    placed: int
    """FP32 and BF16 nodes that the model's author asked for, part of the counts above."""
    float_nodes: int
    casts: int
    run_muls: int
    """Multiplications by powers of two inside the graph."""
    border_muls: int
    """The same at FP32 inputs and outputs."""
    headroom: tuple[float, float]
    """Least octaves over FP16 tensors that matter, before and after."""
    equivalence: float
    """Largest |repaired − original| in FP32, over the range of its output."""
    rules: tuple[str, ...]
    exact: bool
    """Every repair promises bit-equality."""
    outcome: Outcome

    @property
    def ours(self) -> int:
        """Nodes that are not FP16 by our decision."""
        return self.fp32_nodes + self.bf16_nodes - self.placed

    @property
    def faults(self) -> tuple[str, ...]:
        """What the row does not keep of the promises, in words; empty for a good row."""
        checks = (
            (not self.strict.right, "wrong"),
            (not self.subject.harmless and self.plain.right, "plain FP16 is right: the case shows nothing"),
            (self.subject.free and self.ours > 0, f"{self.ours} wide nodes on a row that must have none"),
            (self.subject.harmless and self.ours > 0, f"{self.ours} wide nodes on a harmless row"),
            (self.equivalence > 1e-5, f"FP32 function moved by {self.equivalence:.1e}"),
            (self.exact and self.equivalence > 0.0, f"exact repairs, but FP32 moved by {self.equivalence:.1e}"),
        )
        return tuple(words for broken, words in checks if broken)


def row(subject: Subject, folder: Path) -> Row:
    """Repair a subject and judge the result; ``folder`` holds the files and must be empty."""
    path, inputs = subject.write(folder)
    output = folder / "repaired" / path.name
    output.parent.mkdir()
    # Most have one or two products, of whose FLOPs the share in FP32 says little; needless FP32 is what the table counts.
    outcome = repair(Config(model=path, inputs=str(inputs), output=output, keep_unverified=True, max_fp32_share=1.0))
    typed = load(Path(outcome.files.get("onnx") or outcome.files["onnx (unverified)"]), simplified=False, widened=False)
    original, file = load(path), load(path, simplified=False)
    seen = list(subject.samples())
    with StrictOracle(file, [*seen, *subject.beyond()], Tolerance().of) as oracle:
        plain = Score.of(oracle.verdict(lower(file, {})))
        strict = Score.of(oracle.verdict(typed))
        pessimistic = Score.of(oracle.verdict(typed, profile="pessimistic"))
    counts = outcome.counts
    steps = outcome.recipe.rewrites
    return Row(
        subject=subject,
        plain=plain,
        strict=strict,
        pessimistic=pessimistic,
        fp32_nodes=counts.fp32_nodes,
        bf16_nodes=counts.bf16_nodes,
        placed=sum(name in original.placed for name in outcome.recipe.wide),
        float_nodes=counts.float_nodes,
        casts=counts.casts,
        run_muls=max(counts.muls_added - counts.border_muls, 0),
        border_muls=counts.border_muls,
        headroom=headroom(outcome, original, lower(original, {}), typed),
        equivalence=max(each.max_rel for each in equivalence(original, prepared(original, outcome.recipe), seen)),
        rules=tuple(sorted({step.by for step in steps})),
        exact=all(step.promise is Promise.EXACT for step in steps),
        outcome=outcome,
    )


def equivalence(original: Model, changed: Model, samples: Sequence[Sample]) -> tuple[Figures, ...]:
    """Two FP32 graphs, both run as they are written: ONNX Runtime's own fusions would differ between them by rounding."""
    first, second = Session(original, optimise=False), Session(changed)
    comparison = Comparison()
    for sample in samples:
        comparison.add(first.run(sample), second.run(sample))
    return comparison.figures()


def headroom(outcome: Outcome, original: Model, plain: Model, repaired: Model) -> tuple[float, float]:
    """Least octaves to 65504 over FP16 tensors, before and after; tensors whose overflow is proven harmless do not count."""
    before = {seen.tensor: seen for seen in outcome.ranges}
    after = {seen.tensor: seen for seen in outcome.repaired_ranges}
    proofs = {end.hazard: end.by for end in outcome.hazards if end.end == "harmless" and end.hazard.kind is Kind.OVERFLOW}
    spared = spared_tensors(original, before, proofs)
    return least(before, half_tensors(plain) - spared), least(after, half_tensors(repaired) - spared)


def half_tensors(typed: Model) -> set[str]:
    """Names, in the FP32 graph, of the tensors that a typed graph holds in FP16."""
    return {
        tensor.name.removesuffix("/fp16")
        for node in typed.nodes()
        for tensor in (*float_inputs(node), *float_outputs(node))
        if element_type(tensor) == FP16.onnx
    }


def least(ranges: dict[str, Range], names: set[str]) -> float:
    """The smallest head-room among ``names``; inf if there are none."""
    return min((ranges[name].headroom for name in names if name in ranges), default=math.inf)
