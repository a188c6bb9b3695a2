"""``Outcome`` → what stands on top of the page: three sentences and the big numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fp16fix.report.outcome import Outcome
from fp16fix.report.words import counted, detail, duration, error, hardest, place, share, size, stress_words
from fp16fix.verdict.verdict import worst

ENDS = ("repaired", "rescaled", "pinned", "harmless", "gone", "refused")


@dataclass(frozen=True, slots=True)
class Card:
    """One big number."""

    label: str
    value: str
    was: str
    """What it was before repair; empty if that means nothing."""
    notes: tuple[str, ...]
    tone: str
    """``good``, ``bad`` or ``calm``."""


def story(outcome: Outcome) -> Iterable[str]:
    """What happened, in sentences for someone who will read no further."""
    ill, cured, recipe, counts = worst(outcome.before), outcome.verdict.worst, outcome.recipe, outcome.counts
    if ill is not None:
        yield f"In plain FP16 the worst output is {ill.output}{place(ill)}: {error(ill)}, {detail(ill)}."
    done = [
        counted(len(recipe.rewrites), "rewrite") if recipe.rewrites else "",
        f"{counted(len(recipe.exponents), 'tensor')} rescaled by powers of two" if recipe.exponents else "",
        f"{counted(len(recipe.wide), 'node')} kept wide" if recipe.wide else "",
    ]
    said = [each for each in done if each]
    yield f"Done: {', '.join(said)}." if said else "Nothing had to be changed."
    if cured is not None:
        yield f"Now the worst is {cured.output}{place(cured)}: {error(cured)}, {detail(cured)}."
    yield from (f"{stress_words(each)[0].upper()}{stress_words(each)[1:]}." for each in hardest(outcome.verdict))
    yield f"{counts.fp32_nodes:,} of {counted(counts.float_nodes, 'float node')} run in FP32."


def cards(outcome: Outcome) -> tuple[Card, ...]:
    """The big numbers."""
    counts, engine, verdict = outcome.counts, outcome.engine, outcome.verdict
    wide = counts.fp32_nodes + counts.bf16_nodes
    nodes = [f"{share(counts.flops_fp32, counts.flops_total)} of FLOPs, {share(counts.bytes_fp32, counts.bytes_total)} of activation bytes"]
    if counts.bf16_nodes:
        nodes.append(f"and {counted(counts.bf16_nodes, 'node')} in BF16")
    built = f"{engine.backend} {engine.version}".strip()
    plan = (size(engine.plan_bytes), f"parsed in {duration(engine.parse_s)}", f"built in {duration(engine.build_s)}")
    tally = Counter(each.end for each in outcome.hazards)
    ends = ", ".join(f"{tally[end]:,} {end}" for end in ENDS if tally[end])
    return (
        error_card(outcome),
        Card(
            "FP32 nodes",
            f"{counts.fp32_nodes:,}",
            "",
            (f"of {counted(counts.float_nodes, 'float node')}", *nodes),
            "calm" if wide else "good",
        ),
        Card("Casts", f"{counts.casts:,}", "", (f"{counted(counts.muls_added, 'multiplication')} added by rescaling",), "calm"),
        Card(
            "Hazards",
            f"{len(outcome.hazards):,}",
            "",
            (ends or "none found",),
            "bad" if tally["refused"] and not verdict.verified else "calm",
        ),
        Card("Engine", engine.status, "", (built, *plan) if engine.plan_bytes else (), "bad" if engine.problems else "calm"),
    )


def error_card(outcome: Outcome) -> Card:
    """Error of the output that plain FP16 gets worst, before and after; another output may be the worst afterwards."""
    before, after = worst(outcome.before), outcome.verdict.worst
    shown = before or after
    name = shown.output if shown is not None else ""
    same = next((each for each in outcome.verdict.outputs if each.output == name), after)
    notes = [f"{name}, worst of {len(outcome.before)} outputs" if len(outcome.before) > 1 else f"output {name}"]
    if before is not None and same is not None:
        notes.append(f"{detail(before)} → {detail(same)}")
    if same is not None and place(same):
        notes.append(f"worst{place(same)}")
    if after is not None and same is not None and after.output != same.output:
        notes.append(f"worst after repair: {after.output}{place(after)}, {error(after)}")
    return Card("Signal to error", error(same), error(before), tuple(notes), "good" if outcome.verdict.verified else "bad")
