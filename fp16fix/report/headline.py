"""``Outcome`` → what stands on top of the page: the verdict's word and colour, four lines, and the big numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fp16fix.half import BF16
from fp16fix.report.causes import Cause, summed
from fp16fix.report.outcome import Outcome
from fp16fix.report.strain import Concern, both, breaking, concern, figure, strain, wanted
from fp16fix.report.words import counted, detail, duration, error, hardest, place, share, size, stress_words

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


@dataclass(frozen=True, slots=True)
class Told:
    """One line of the first screen."""

    label: str
    text: str
    tone: str


def tone(outcome: Outcome) -> str:
    """Colour of the verdict: what holds under conditions or beside warnings is no plain yes."""
    if not outcome.verified:
        return "bad"
    return "warn" if outcome.conditions or outcome.warnings or outcome.samples.made_up else "good"


def headline(outcome: Outcome) -> str:
    """The word on top; a condition belongs to it."""
    if not outcome.verified:
        return "Not verified"
    if outcome.conditions:
        return "Verified where products accumulate in FP32"
    if outcome.samples.made_up:
        return "Verified on made-up inputs only"
    return f"Verified, with {counted(len(outcome.warnings), 'warning')}" if outcome.warnings else "Verified"


def screen(outcome: Outcome, found: Sequence[Cause]) -> tuple[Told, ...]:
    """What was wrong, by what cause, what was done, what is left: for someone who will read no further."""
    shown = concern(outcome)
    return (wrong(outcome, shown), caused(outcome, found), Told("Done", done(outcome), "calm"), left(outcome, shown))


def wrong(outcome: Outcome, shown: Concern | None) -> Told:
    """Of the output that matters most, in plain FP16."""
    label = f"Wrong in plain {outcome.narrow}"
    if shown is None or shown.before is None:
        return Told(label, "Not measured.", "calm")
    asked = wanted(shown.asked)
    others = [name for name in breaking(outcome.before, outcome) if name != shown.output]
    said = f"{shown.output}{place(shown.before)}: {both(shown.before, shown.asked)}{f', wanted {asked}' if asked else ''}."
    if shown.output not in breaking(outcome.before, outcome) and not others:
        return Told(label, f"Nothing that breaks a bound. {said}", "good")
    more = f" Beyond their bounds, too: {listed(others)}." if others else ""
    return Told(label, said + more, "bad")


def caused(outcome: Outcome, found: Sequence[Cause]) -> Told:
    """The causes, those that matter."""
    said = "; ".join(summed(found))
    if not said:
        broken = breaking(outcome.before, outcome)
        none = "No single hazard stands out: rounding adds up along the graph." if broken else "No hazard that does harm was found."
        return Told("Cause", none, "calm")
    real = next(each for each in found if each.end != "harmless")
    return Told("Cause", f"{said[0].upper()}{said[1:]}. Furthest: {real.why}.".replace("..", "."), "calm")


def done(outcome: Outcome) -> str:
    """What was changed; that nothing was is no good news under a verdict that fails."""
    recipe = outcome.recipe
    said = [
        counted(len(recipe.rewrites), "rewrite") if recipe.rewrites else "",
        f"{counted(len(recipe.exponents), 'tensor')} rescaled by powers of two" if recipe.exponents else "",
        f"{counted(len(recipe.wide), 'node')} kept wide" if recipe.wide else "",
        f"FP32 sums asked of {counted(len(recipe.sums), 'product')}" if recipe.sums else "",
    ]
    if any(said):
        counts = outcome.counts
        return f"{', '.join(filter(None, said))}. {counts.fp32_nodes:,} of {counted(counts.float_nodes, 'float node')} run in FP32."
    if outcome.verified:
        return "Nothing had to be changed."
    tried = len(outcome.derivation)
    searched = f"{counted(tried, 'recipe')} tried, {counted(len(outcome.refusals), 'edit')} refused"
    return f"Nothing was changed: no edit was found that makes it right ({searched})."


def left(outcome: Outcome, shown: Concern | None) -> Told:
    """What of the error is left, and what the verdict hangs on."""
    said, verdict = [], outcome.decisive
    reasons = (*verdict.reasons, *outcome.engine.problems)
    if shown is not None and shown.after is not None:
        used = strain(shown.after, shown.asked)
        much = (
            ""
            if not 0.0 < used < math.inf
            else f", {used:.0%} of what is allowed"
            if used <= 1.0
            else f", {used:.3g} times what is allowed"
        )
        said.append(f"{shown.output}{place(shown.after)}: {both(shown.after, shown.asked)}{much}.")
    others = [each for each in verdict.failed if shown is None or each.output != shown.output]
    said += (
        [f"{listed([each.output for each in others])} beyond {'their bounds' if len(others) > 1 else 'its bound'}, too."] if others else []
    )
    asked = {each.output: each for each in outcome.asked}
    rest = [each for each in verdict.outputs if (shown is None or each.output != shown.output) and each not in others]
    nearest = max(rest, key=lambda each: strain(each, asked.get(each.output)), default=None)
    if nearest is not None and not others and strain(nearest, asked.get(nearest.output)) > 0.0:
        said.append(f"Of the other outputs {nearest.output} is nearest to its bound: {both(nearest, asked.get(nearest.output))}.")
    hard = min(hardest(verdict), key=lambda each: (-each.lost, each.sqnr_db), default=None)
    said += [f"{stress_words(hard)[0].upper()}{stress_words(hard)[1:]}."] if hard is not None else []
    if reasons and not verdict.failed:
        said.insert(0, f"{reasons[0]}.")
    open_ = sum(each.end == "refused" for each in outcome.hazards)
    said += [f"{counted(open_, 'hazard')} left as {'it is' if open_ == 1 else 'they are'}."] if open_ else []
    said += ["It holds only where products accumulate in FP32."] if outcome.conditions else []
    said += ["No real inputs were given."] if outcome.samples.made_up else []
    return Told("Left", " ".join(said) or "Nothing was compared.", tone(outcome))


def listed(names: Sequence[str], most: int = 4) -> str:
    """``a, b and 3 more``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def cards(outcome: Outcome) -> tuple[Card, ...]:
    """The big numbers."""
    counts, engine, verdict = outcome.counts, outcome.engine, outcome.decisive
    beside = 0 if outcome.narrow is BF16 else counts.bf16_nodes
    wide = counts.fp32_nodes + beside
    nodes = [f"{share(counts.flops_fp32, counts.flops_total)} of FLOPs, {share(counts.bytes_fp32, counts.bytes_total)} of activation bytes"]
    if beside:
        nodes.append(f"and {counted(beside, 'node')} in BF16")
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
    """Error of the output that matters most, before and after; another one may have the least SQNR afterwards."""
    shown, least = concern(outcome), outcome.decisive.worst
    if shown is None:
        return Card("Error", "–", "", (), "bad" if not outcome.verified else "calm")
    before, after = shown.before, shown.after
    many = max(len(outcome.before), len(outcome.decisive.outputs))
    notes = [f"{shown.output}, the one of {many} outputs that matters most" if many > 1 else f"output {shown.output}"]
    if before is not None and after is not None:
        notes.append(
            f"{detail(before)} → {detail(after)}"
            if shown.asked is None or shown.asked.max_abs is None
            else f"{error(before)} → {error(after)}"
        )
    if wanted(shown.asked):
        notes.append(f"wanted {wanted(shown.asked)}")
    if after is not None and place(after):
        notes.append(f"worst{place(after)}")
    if least is not None and least.output != shown.output:
        notes.append(f"least SQNR after repair: {least.output}{place(least)}, {error(least)}")
    was = figure(before, shown.asked) if before is not None else ""
    label = "Largest error" if shown.asked is not None and shown.asked.max_abs is not None else "Signal to error"
    return Card(label, figure(after, shown.asked), was, tuple(notes), "good" if outcome.decisive.verified else "bad")
