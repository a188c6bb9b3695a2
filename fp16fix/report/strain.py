"""Figures against what was asked of an output → how much of a tolerance an error takes up, and which output matters most."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fp16fix.report.outcome import Asked, Outcome
from fp16fix.report.words import decibels, error, number
from fp16fix.verdict.verdict import Figures


@dataclass(frozen=True, slots=True)
class Concern:
    """The output that the first screen is about."""

    output: str
    asked: Asked | None
    before: Figures | None
    after: Figures | None


def strain(found: Figures, asked: Asked | None) -> float:
    """How many times its tolerance an error is, by the bound that it strains most: 1 is all of it, inf is lost; 0 without any bound."""
    if found.lost or found.mismatches or found.sqnr_db == -math.inf:
        return math.inf
    return max([0.0, *strains(found, asked)]) if asked is not None else 0.0


def strains(found: Figures, asked: Asked) -> Iterable[float]:
    """One bound after the other, each as a factor of the error's size."""
    if asked.sqnr_db is not None and not math.isnan(found.sqnr_db):
        yield float(10.0 ** ((asked.sqnr_db - found.sqnr_db) / 20.0))
    for error_, bound in ((found.max_abs, asked.max_abs), (found.max_rel, asked.max_rel)):
        if bound is not None:
            yield error_ / bound if bound else math.inf if error_ else 0.0
    if asked.cosine is not None:
        missing = max(1.0 - asked.cosine, 0.0)
        yield math.sqrt(max(1.0 - found.cosine, 0.0) / missing) if missing else math.inf if found.cosine < 1.0 else 0.0


def concern(outcome: Outcome) -> Concern | None:
    """What fails most; if nothing does, the output with a bound in its own units, then the one that plain FP16 strained most."""
    asked = {each.output: each for each in outcome.asked}
    before, after = ({each.output: each for each in some} for some in (outcome.before, outcome.decisive.outputs))

    def rank(name: str) -> tuple[float, bool, float, float]:
        now = strain(after[name], asked.get(name)) if name in after else 0.0
        was = strain(before[name], asked.get(name)) if name in before else 0.0
        own = name in asked and asked[name].max_abs is not None
        broken = name in after and bool(after[name].broken)
        return now if broken or now > 1.0 else 0.0, own, was, now

    names = list(dict.fromkeys((*before, *after)))
    if not names:
        return None
    name = max(names, key=rank)
    return Concern(name, asked.get(name), before.get(name), after.get(name))


def breaking(figures: Sequence[Figures], outcome: Outcome) -> list[str]:
    """The outputs whose errors pass their tolerances."""
    asked = {each.output: each for each in outcome.asked}
    return [each.output for each in figures if each.broken or strain(each, asked.get(each.output)) > 1.0]


def figure(found: Figures | None, asked: Asked | None) -> str:
    """How far off, in the output's own unit where it has a bound there: ``1.05 px``; else as ``words.error``."""
    if found is None or found.lost or found.mismatches or asked is None or asked.max_abs is None:
        return error(found)
    return f"{number(found.max_abs)}{f' {asked.unit}' if asked.unit else ''}"


def both(found: Figures, asked: Asked | None) -> str:
    """``figure``, with decibels behind a figure in units, and the unit's figure behind decibels."""
    if found.lost or found.mismatches:
        return error(found)
    if asked is not None and asked.max_abs is not None:
        return f"off by up to {figure(found, asked)} ({decibels(found.sqnr_db)})"
    return f"{decibels(found.sqnr_db)} (off by at most {number(found.max_abs)})"


def wanted(asked: Asked | None) -> str:
    """``at most 0.25 px and at least 50 dB``; empty without a bound."""
    if asked is None:
        return ""
    unit = f" {asked.unit}" if asked.unit else ""
    said = [
        "" if asked.max_abs is None else f"at most {number(asked.max_abs)}{unit}",
        "" if asked.max_rel is None else f"at most {number(asked.max_rel)} of the largest value",
        "" if asked.sqnr_db is None else f"at least {number(asked.sqnr_db)} dB",
        "" if asked.cosine is None else f"a cosine of at least {asked.cosine:g}",
    ]
    return " and ".join(filter(None, said))
