"""Hazards → causes: what one kind of fault does at how many places, and what answered it; and edits → the steps of a derivation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from fp16fix.passes.recipe import Edit, Promise
from fp16fix.report.outcome import Disposition, Outcome
from fp16fix.report.words import counted, decibels
from fp16fix.search.trial import Trial

ORDER = ("refused", "pinned", "repaired", "rescaled", "gone", "harmless")
"""What is left comes first."""
OPS = 4
"""Operators that a cause names."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Hazards of one kind that ended in one way."""

    number: int
    """From 1; its place on the page."""
    what: str
    """``overflow in Mul and ReduceMean``."""
    kinds: tuple[str, ...]
    end: str
    by: str
    """The rule, or a word for what else ended it."""
    places: int
    """Where it happens: matches of the rule, or nodes."""
    why: str
    """Of the hazard that is furthest out."""
    hazards: tuple[Disposition, ...]
    """Furthest out first."""

    @property
    def worst(self) -> Disposition:
        """The one that is furthest out."""
        return self.hazards[0]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way from plain FP16 to the answer."""

    done: str
    promise: str
    """Empty where nothing was edited."""
    gave: str
    tone: str
    href: str = ""
    """Where on the page the rest of it stands."""


def causes(outcome: Outcome) -> tuple[Cause, ...]:
    """All hazards by what they have in common, what is left over first, then the furthest out."""
    rule = {node: edit for edit in outcome.recipe.rewrites for node in (edit.node, *edit.covers)}
    groups: dict[tuple[str, ...], list[Disposition]] = {}
    for each in outcome.hazards:
        groups.setdefault(key(each, rule), []).append(each)

    def made(found: Sequence[Disposition]) -> Cause:
        kinds = tuple(dict.fromkeys(each.hazard.kind.value for each in found))
        first = found[0]
        edit = rule.get(first.hazard.node)
        matched = {
            rule[each.hazard.node].key if each.end == "repaired" and each.hazard.node in rule else each.hazard.node for each in found
        }
        ops = list(dict.fromkeys(each.hazard.op for each in found))
        named = ", ".join(ops[:OPS]) + (" and others" if len(ops) > OPS else "")
        by = edit.by if edit is not None and first.end == "repaired" else ""
        inside = " inside" if all(each.hazard.internal for each in found) else " in"
        return Cause(0, f"{' and '.join(kinds)}{inside} {named}", kinds, first.end, by, len(matched), first.hazard.why, tuple(found))

    found = [made(sorted(group, key=lambda each: -each.hazard.bits)) for group in groups.values()]
    found.sort(key=lambda each: (ORDER.index(each.end) if each.end in ORDER else 0, -each.worst.hazard.bits))
    return tuple(Cause(n, c.what, c.kinds, c.end, c.by, c.places, c.why, c.hazards) for n, c in enumerate(found, 1))


def key(found: Disposition, rule: dict[str, Edit]) -> tuple[str, ...]:
    """What two hazards of one cause have in common: the rule that answered them, else their kind and how they ended."""
    if found.end == "repaired" and found.hazard.node in rule:
        return found.end, rule[found.hazard.node].by
    return found.end, found.hazard.kind.value, str(found.hazard.internal)


def steps(outcome: Outcome, start: str, end: str) -> tuple[Step, ...]:
    """From plain FP16 to the verdict: what was done, and what it gave.

    Args:
        outcome: of a repair.
        start: what plain FP16 gives, in words.
        end: what the verdict says, in words.
    """
    recipe = outcome.recipe
    found = [Step(f"Plain {outcome.narrow}", "", f"{start}; {counted(len(outcome.hazards), 'hazard')}", "calm", "#hazards")]
    for by, some in groupby(recipe.changes, key=lambda edit: edit.by):
        found.append(change(by, list(some), outcome))
    for search, tries in groupby(outcome.derivation, key=lambda each: each.search):
        if search != "plain":
            found.append(searched(search, list(tries)))
    if recipe.wide:
        answered = sum(each.end == "pinned" for each in outcome.hazards)
        found.append(Step(f"{counted(len(recipe.wide), 'node')} kept wide", "exact", answers(answered), "warn", "#pins"))
    if recipe.sums:
        found.append(
            Step(f"FP32 sums asked of {counted(len(recipe.sums), 'product')}", "exact", "no partial sum passes 65504", "calm", "#sums")
        )
    if not recipe.edits:
        found.append(Step("Nothing was changed", "", f"{counted(len(outcome.refusals), 'edit')} considered and left alone", "calm"))
    found.append(Step("Verdict", "", end, "good" if outcome.verified else "bad", "#outputs"))
    return tuple(found)


def change(by: str, edits: Sequence[Edit], outcome: Outcome) -> Step:
    """Edits of one rule in a row, or the rescale."""
    if outcome.recipe.exponents and edits[0].values and not edits[0].node:
        answered = sum(each.end == "rescaled" for each in outcome.hazards)
        muls = counted(outcome.counts.muls_added, "multiplication")
        done = f"{counted(len(outcome.recipe.exponents), 'tensor')} × a power of two"
        return Step(done, "exact", f"{answers(answered)}; {muls} left at run time", "good", "#powers")
    covered = {node for edit in edits for node in (edit.node, *edit.covers)}
    answered = sum(each.end == "repaired" and each.hazard.node in covered for each in outcome.hazards)
    promise = next(
        each
        for each in (Promise.ALTERED, Promise.REORDERED, Promise.EXACT)
        if any(edit.promise is each for edit in edits) or each is Promise.EXACT
    )
    done = f"{by} × {len(edits)}" if len(edits) > 1 else by
    return Step(done, promise.value, answers(answered), "good", "#repairs")


def answers(count: int) -> str:
    """How many hazards an edit is the answer to."""
    return f"answers {counted(count, 'hazard')}" if count else "answers no hazard by itself"


def searched(search: str, tries: Sequence[Trial]) -> Step:
    """One search: how many recipes it asked about, and the last good one, which is what it gave."""
    if search == "draft":
        return Step("All that rules, exponents and islands do", "", gave(tries[-1]), "good" if tries[-1].good else "warn", "#derivation")
    good = [each for each in tries if each.good]
    asked = f"{search}: {counted(len(tries), 'recipe')} tried"
    if not good:
        return Step(asked, "", "none was good", "warn", "#derivation")
    last = good[-1]
    return Step(asked, "", f"{last.tried}: {gave(last)}, {counted(last.wide, 'wide node')}", "good", "#derivation")


def gave(trial: Trial) -> str:
    """The figure, and what the oracle had against it."""
    return f"{decibels(trial.figure)}{f' ({trial.why})' if trial.why else ''}"


def summed(found: Sequence[Cause], most: int = 3) -> Iterable[str]:
    """The causes that matter, in a few words each: ``overflow in Mul at 6 places``; what did no harm is left out."""
    real: Counter[str] = Counter()
    for each in found:
        real[each.what] += each.places if each.end != "harmless" else 0
    said = [f"{what} at {counted(places, 'place')}" for what, places in real.items() if places]
    yield from said[:most]
    if len(said) > most:
        yield f"and {len(said) - most} more"
