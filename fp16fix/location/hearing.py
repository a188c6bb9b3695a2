"""FP32 model, samples and outputs computed elsewhere → ``Hearing``: every comparison that triage decides by, each made once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.location.recorded import Witness
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.passes.apply import apply
from fp16fix.passes.recipe import plain
from fp16fix.progress import Tick
from fp16fix.strict.emulate import emulate
from fp16fix.trace.segments import Sample
from fp16fix.verdict.channels import channels_of
from fp16fix.verdict.gates import Tolerance, judge
from fp16fix.verdict.metrics import Comparison
from fp16fix.verdict.verdict import Figures, Verdict

ALIKE_DB = 10.0
"""An emulation accounts for an engine's error if its own is at least a third of that."""
GARBAGE_DB = 10.0
"""Below this an output is garbage, and how much of it hardly matters."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What was measured; None was not."""

    strict: Verdict
    """All-FP16, strictly emulated, against FP32."""
    pessimistic: Verdict | None = None
    """The same with sums held in FP16."""
    reference: Verdict | None = None
    """FP32 against the framework's outputs; the oracle says whose: ``reference`` (recorded) or ``module``."""
    autocast: Verdict | None = None
    """PyTorch's autocast against PyTorch's FP32; the oracle is the device."""
    fp32_engine: Verdict | None = None
    """The user's FP32 engine against the framework's outputs where there are some, else against FP32."""
    engine: Verdict | None = None
    """The user's FP16 engine against FP32."""
    alike: tuple[Figures, ...] = ()
    """Strict emulation against that engine."""


def in_fp32(
    model: Model,
    samples: Iterable[Sample],
    tolerance: Tolerance,
    *,
    reference: Witness | None = None,
    engine: Witness | None = None,
    threads: int = 0,
    tick: Tick = lambda: None,
) -> tuple[Verdict | None, Verdict | None]:
    """FP32 against the framework's outputs, and an FP32 engine against those, or against FP32 where there are none; one pass.

    Raises:
        SampleError: outputs that do not fit.
    """
    if reference is None and engine is None:
        return None, None
    session = Session(model, threads=threads)
    for sample in samples:
        exact = session.run(sample)
        truth = reference.take(exact) if reference is not None else {}
        if reference is not None:
            reference.comparison.add(truth, exact)
        if engine is not None:
            told = engine.take(exact)
            engine.comparison.add({name: truth.get(name, exact[name]) for name in told}, told)
        tick()
    framework, told_by = (None if each is None else each.verdict(tolerance) for each in (reference, engine))
    return framework, told_by


def in_fp16(
    model: Model,
    samples: Iterable[Sample],
    tolerance: Tolerance,
    *,
    engine: Witness | None = None,
    names: Sequence[str] = (),
    threads: int = 0,
    tick: Tick = lambda: None,
) -> Hearing:
    """All-FP16, strictly emulated, and an FP16 engine, both against FP32 and against each other.

    Sums held in FP16 are tried only where the emulation is right or does not account for what the engine does.

    Args:
        model: FP32.
        samples: re-iterable.
        tolerance: what counts as right.
        engine: outputs of the user's FP16 engine.
        names: of the samples.
        threads: ONNX Runtime threads.
        tick: called after each sample.

    Raises:
        SampleError: outputs that do not fit.
    """
    typed = apply(model, plain(model.placed))
    strict, alike = (Comparison(channels_of(model), names) for _ in range(2))
    with StrictOracle(model, samples, tolerance, names=names, threads=threads) as oracle:
        session = Session(emulate(typed), threads=threads)
        for sample, exact in zip(samples, oracle.references(), strict=True):
            found = session.run(sample)
            strict.add(exact, found)
            if engine is not None:
                told = engine.take(exact)
                engine.comparison.add({name: exact[name] for name in told}, told)
                alike.add(told, found)
            tick()
        emulated = judge(strict.figures(), tolerance, "strict", "engine", oracle.count)
        ran = None if engine is None else engine.verdict(tolerance)
        doubtful = emulated.verified or (ran is not None and not accounts_for(emulated, ran))
        pessimistic = oracle.verdict(typed, profile="pessimistic") if doubtful else None
    return Hearing(emulated, pessimistic, engine=ran, alike=alike.figures())


def accounts_for(emulated: Verdict, engine: Verdict) -> bool:
    """Whether an emulation goes about as wrong as the engine in every output that the engine gets wrong."""
    mine = {figures.output: figures for figures in emulated.outputs}
    return all(mine[each.output].depth <= max(each.depth, GARBAGE_DB) + ALIKE_DB for each in engine.failed)
