"""``Hearing`` → what triage says: one sentence for each kind of fault, and one for everything measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from fp16fix.hazards.hazard import Kind
from fp16fix.location.hearing import Hearing
from fp16fix.verdict.verdict import Figures, Verdict, badness

PLAIN = {
    Kind.OVERFLOW: "overflow",
    Kind.VANISH: "values that vanish",
    Kind.CONSTANT: "constants outside FP16",
    Kind.SWAMP: "sums and coordinates too fine for FP16",
    Kind.CANCEL: "cancellation",
    Kind.COARSE: "arguments too coarse in FP16",
    Kind.ENDLESS: "a Loop that never ends",
    Kind.SWALLOW: "addends below FP16's spacing",
}
TIED = 0.8
"""Kinds whose share is at least this part of the largest are named beside it."""
CLOSER_DB = 6.0
"""Strict emulation that is this much closer to the engine than FP32 is shares three quarters of the engine's error."""
BEYOND_DB = 90.0
"""Rounding the outputs alone to FP16 leaves about 70 dB; what is this close to FP32 was hardly computed in FP16."""


def causes(kinds: Mapping[Kind, float], total: float) -> str:
    """``, mostly by overflow``: the kinds that lead, by their shares of ``total``; nothing where none is known."""
    most = max(kinds.values(), default=0.0)
    if most <= 0.0:
        return ""
    lead = sorted((kind for kind in kinds if kinds[kind] >= TIED * most), key=lambda kind: (-kinds[kind], kind.value))
    *rest, last = [PLAIN[kind] for kind in lead]
    named = f"{', '.join(rest)}{' and ' if rest else ''}{last}"
    return f", mostly by {named}" if sum(kinds[kind] for kind in lead) >= 0.5 * total else f", by {named} among others"


def wrong_reference(evidence: Hearing, _: str) -> str:
    """FP32 ONNX is not what the framework computes; a module was fed the same samples, so that preprocessing is not in question."""
    assert evidence.reference is not None
    figure = because(evidence.reference)
    if evidence.reference.oracle == "module":
        figure = figure.replace("FP32", "the module")
        return f"The FP32 model itself does not give the PyTorch module's outputs ({figure}): look at the export before FP16."
    figure = figure.replace("FP32", "the reference")
    return f"The FP32 model itself does not give the reference outputs ({figure}): look at the export and the preprocessing before FP16."


def wrong_fp32_engine(evidence: Hearing, _: str) -> str:
    """TF32 has FP32's range, so that it loses no values, and rounds no more than FP16 does."""
    assert evidence.fp32_engine is not None
    found = f"The FP32 engine is wrong already, before any FP16 ({because(evidence.fp32_engine)})"
    if any(figures.lost for figures in evidence.fp32_engine.outputs):
        return f"{found}: suspect a compiler bug, plugins or preprocessing, not TF32, which has FP32's range."
    if evidence.strict.verified:
        return f"{found}: suspect a compiler bug, plugins or preprocessing; TF32 rounds no more than FP16 does, and strict FP16 is right."
    return f"{found}: suspect TF32 (build it with --no-tf32 to see), then a compiler bug, plugins or preprocessing."


def range_fault(evidence: Hearing, by: str) -> str:
    """Values leave FP16."""
    return f"A range fault: strict FP16 emulation reproduces it ({because(evidence.strict)}{beside(evidence)}){by}."


def precision_fault(evidence: Hearing, by: str) -> str:
    """Values fit; or strict emulation just passes where the engine just fails."""
    if evidence.strict.verified:
        figure = f"{brief(evidence.strict.outputs)}{beside(evidence)}"
        return f"A precision fault at the edge of the tolerance: strict FP16 emulation is hardly better than the engine ({figure}){by}."
    figure = f"{because(evidence.strict)}{beside(evidence)}"
    return f"A precision fault, not one of range: strict FP16 emulation reproduces it ({figure}){by}."


def fp16_sums(evidence: Hearing, _: str) -> str:
    """The emulations differ in what sums inside operators are held in."""
    assert evidence.pessimistic is not None
    figure = f"{because(evidence.pessimistic)}{beside(evidence)}"
    if not evidence.strict.verified:
        return f"FP16 goes as wrong as the engine only with sums inside operators held in FP16 ({figure}): have it accumulate in FP32."
    return (
        "Strict FP16 is right as long as sums inside operators are held in FP32, and wrong if they are held in FP16 "
        f"({figure}): the runtime must accumulate in FP32."
    )


def partly(evidence: Hearing, _: str) -> str:
    """The emulation fails, and the engine fails by much more."""
    assert evidence.engine is not None
    worst = evidence.strict if evidence.pessimistic is None or not evidence.strict.verified else evidence.pessimistic
    return (
        f"FP16 rounding explains a part at most: emulated, it goes wrong ({because(worst)}), but by far not as wrong as the engine "
        f"({because(evidence.engine)}): mend what is named here, then suspect {suspects(evidence)}."
    )


def elsewhere(evidence: Hearing, _: str) -> str:
    """The emulation is right; whether the engine is wrong was measured or not."""
    emulated = f"strict FP16 emulation is right ({brief(evidence.strict.outputs)})"
    if evidence.engine is None:
        return f"Not a fault of FP16 rounding: {emulated}; if an engine is wrong, suspect {suspects(evidence)}."
    return (
        f"Not a fault of FP16 rounding, as measured: the engine is wrong ({because(evidence.engine)}) where {emulated}, "
        f"sums held in FP16 or not: suspect {suspects(evidence)}."
    )


def engine_right(evidence: Hearing, _: str) -> str:
    """Nothing is wrong with it here."""
    assert evidence.engine is not None
    return (
        f"The engine is right on these samples ({brief(evidence.engine.outputs)}): what was seen lies outside it, in preprocessing, "
        "postprocessing, or inputs unlike these."
    )


def suspects(evidence: Hearing) -> str:
    """What is left when it is not rounding; a right FP32 engine clears what both engines share."""
    if evidence.fp32_engine is not None:
        return "a compiler bug or a plugin in FP16, as the FP32 engine is right"
    if evidence.engine is not None and evidence.engine.oracle == "tensorrt":
        return "a compiler bug, plugins, or TF32 in layers left in FP32"
    return "a compiler bug, plugins, TF32 in layers left in FP32, or preprocessing"


def said(evidence: Hearing) -> Iterable[str]:
    """What was measured, sentence by sentence."""
    reference, fp32_engine = evidence.reference, evidence.fp32_engine
    if reference is not None:
        whose = "the PyTorch module" if reference.oracle == "module" else "the reference outputs"
        yield f"FP32 {agreement(reference, whose)}"
    if fp32_engine is not None:
        truth = "FP32" if reference is None else "the PyTorch module" if reference.oracle == "module" else "the reference outputs"
        yield f"the FP32 engine ({ran(fp32_engine)}) {agreement(fp32_engine, truth)}"
    if evidence.autocast is not None:
        yield from of_autocast(evidence.autocast, evidence.strict)
    yield f"all-FP16, strictly emulated, against FP32: {brief(evidence.strict.outputs)}"
    if evidence.pessimistic is not None:
        yield f"the same with sums held in FP16: {brief(evidence.pessimistic.outputs)}"
    if evidence.engine is not None:
        yield from of_engine(evidence, evidence.engine)


def of_autocast(autocast: Verdict, strict: Verdict) -> Iterable[str]:
    """What PyTorch's own mixed precision does, and what that tells of all-FP16."""
    yield f"PyTorch autocast to FP16 ({autocast.oracle}) {agreement(autocast, 'PyTorch FP32')}"
    if autocast.verified and not strict.verified:
        kept = "norms, softmax, powers, sums" if autocast.oracle == "cuda" else "whatever still reads FP32"
        yield f"autocast runs products in FP16 and leaves much else in FP32 (here {kept}); all-FP16 does not"


def of_engine(evidence: Hearing, engine: Verdict) -> Iterable[str]:
    """The engine's figures, and what they say of the emulation."""
    yield f"the engine ({ran(engine)}) {agreement(engine, 'FP32')}"
    if not engine.verified:
        yield from likeness(evidence, {figures.output: figures for figures in engine.failed})
    elif not evidence.strict.verified:
        yield "the engine is right where all-FP16 is wrong, so it holds something in FP32 that all-FP16 rounds"
    if all(figures.depth > BEYOND_DB for figures in engine.outputs):
        yield "the engine is closer to FP32 than FP16 rounding leaves (about 70 dB): see whether it computes in FP16 at all"


def likeness(evidence: Hearing, theirs: Mapping[str, Figures]) -> Iterable[str]:
    """Whether the engine's outputs, value by value, are nearer to those of strict emulation than to FP32's."""
    both = [(each, theirs[each.output]) for each in evidence.alike if each.output in theirs]
    closer = [(mine, engine) for mine, engine in both if mine.sqnr_db - engine.sqnr_db >= CLOSER_DB]
    if closer:
        shown = ", ".join(f"{mine.output} {decibels(mine.sqnr_db)} against {decibels(engine.sqnr_db)}" for mine, engine in closer[:3])
        yield f"strict emulation is closer to the engine than FP32 is: {shown}"
    elif not evidence.strict.verified:
        yield "strict emulation is no closer to the engine than FP32 is: they may be wrong alike, but not value by value"
    emulated = {figures.output: figures for figures in evidence.strict.outputs}
    lost = [name for name, engine in theirs.items() if engine.lost and not emulated[name].lost]
    if lost and not evidence.strict.verified:
        yield f"the engine loses values of {', '.join(lost[:3])} where strict emulation gives wrong ones: there may be a second fault"


def ran(engine: Verdict) -> str:
    """Where its outputs come from."""
    return "run here" if engine.oracle == "tensorrt" else "recorded outputs"


def because(verdict: Verdict) -> str:
    """What is wrong with the worst output, in the verdict's own words."""
    said = verdict.failed[0].broken if verdict.failed else verdict.reasons
    return said[0] if said else brief(verdict.outputs)


def beside(evidence: Hearing) -> str:
    """The engine's own figure, where there is one."""
    worst = () if evidence.engine is None else evidence.engine.failed
    return f"; the engine: {words(worst[0])}" if worst else ""


def agreement(verdict: Verdict, whom: str) -> str:
    """Against the tolerance; outputs that agree are not named among those that do not."""
    if verdict.verified:
        return f"agrees with {whom}: {brief(verdict.outputs)}"
    right = [each for each in verdict.outputs if not each.broken]
    beside = f", but does in {brief(right)}" if right and verdict.failed else ""
    return f"does not agree with {whom}: {brief(verdict.failed or verdict.outputs)}{beside}"


def brief(figures: Sequence[Figures]) -> str:
    """The three worst outputs in a few words."""
    return ", ".join(words(each) for each in sorted(figures, key=badness)[:3])


def words(figures: Figures) -> str:
    """One output."""
    parts = [] if figures.mismatches and math.isinf(figures.sqnr_db) else [decibels(figures.sqnr_db)]
    parts += [f"{figures.lost:,} values lost"] if figures.lost else []
    parts += [f"{figures.mismatches:,} values differ"] if figures.mismatches else []
    return f"{figures.output} {', '.join(parts)}"


def decibels(value: float) -> str:
    """``61.0 dB``, and the ends of the scale in words."""
    if math.isnan(value):
        return "not comparable"
    if math.isinf(value):
        return "equal" if value > 0.0 else "no signal left"
    return f"{value:.1f} dB"
