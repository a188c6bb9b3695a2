"""Numbers → short text for people; every figure of the report is written by one of these."""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING

from fp16fix.half import FORMATS
from fp16fix.verdict.verdict import Figures, SampleFigures, Stressed, Verdict, of_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fp16fix.engines.compiled import Compiled
    from fp16fix.report.outcome import Cost

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that change how their neighbours look: controls, direction overrides, line and paragraph separators."""


def decibels(value: float | None) -> str:
    """``56.6 dB``; ``exact`` for equal, ``lost`` when nothing is left."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "exact" if value > 0 else "lost"
    return f"{value:.1f} dB".replace("-", "−")


def error(figures: Figures | SampleFigures | None) -> str:
    """One output in two or three words: what is worst about it."""
    if figures is None:
        return "–"
    if figures.lost:
        return f"{figures.lost:,} lost"
    if figures.mismatches:
        return f"{figures.mismatches:,} differ"
    return decibels(figures.sqnr_db)


def detail(figures: Figures) -> str:
    """What stands behind ``error``: how many values, or by how much."""
    if figures.lost:
        return f"{counted(figures.lost, 'element')} lost"
    if figures.mismatches:
        return f"{counted(figures.mismatches, 'element')} changed"
    return f"off by at most {number(figures.max_abs)}"


def place(figures: Figures) -> str:
    """Which of several samples is the worst, and which entry: `` in sample day-3, entry 1 of axis 1``; nothing where there is no choice."""
    if len(figures.samples) < 2 or not (figures.lost or figures.mismatches or math.isfinite(figures.sqnr_db)):
        return of_entry(figures.entry)
    if figures.lost or figures.mismatches:
        return f", most in sample {figures.sample}"
    return f"{f' in sample {figures.decides}' if figures.decides else ' over all samples'}{of_entry(figures.entry)}"


def hardest(verdict: Verdict) -> list[Stressed]:
    """The worst of each kind of stress: the blends, and one seed of the jitter."""
    kinds: dict[str, Stressed] = {}
    for each in verdict.stressed:
        kind = each.where.partition(",")[0]
        if kind not in kinds or (-each.lost, each.sqnr_db) < (-kinds[kind].lost, kinds[kind].sqnr_db):
            kinds[kind] = each
    return list(kinds.values())


def stress_words(found: Stressed) -> str:
    """``on inputs blended from those given, 16 of them, the worst is boxes in sample 3 + 5: 57.1 dB``."""
    figure = f"{found.lost:,} lost" if found.lost else decibels(found.sqnr_db)
    at = f" in sample {found.sample}" if found.sample else " over all of them"
    return f"{found.where}, {found.samples:,} of them, the worst is {found.output}{at}: {figure}"


def number(value: float) -> str:
    """Three significant digits: ``0.00213``, ``9.6e+05``."""
    return f"{value:.3g}".replace("inf", "∞").replace("nan", "–").replace("-", "−")


def octaves(value: float) -> str:
    """``−3.9``, ``+2.1``; ∞ for a tensor of zeros."""
    return number(value) if math.isinf(value) else f"{value:+.1f}".replace("-", "−")


def power(exponent: int) -> str:
    """``2⁻¹⁴``."""
    return f"2{str(exponent).translate(SUPERSCRIPTS)}"


def duration(seconds: float) -> str:
    """``8.73 s``, ``41 ms``, ``3 min 20 s``."""
    if seconds >= 120.0:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{seconds:.3g} s" if seconds >= 1.0 else f"{seconds * 1000.0:.0f} ms"


def size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024.0:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024.0
    return f"{count:.1f} GiB"


def grounds(found: Compiled) -> str:
    """On what it rests that an engine computes as the graph says."""
    return {"plan": "by the compiled plan", "inspector": "by the engine inspector"}.get(
        found.source, "by the parsed network, before fusion"
    )


def crossing(found: Compiled) -> str:
    """``1.2 MiB in FP16, 0.1 MiB in FP32``: what kernels read and write of floats."""
    parts = [f"{size(count)} in {name.upper()}" for name, count in found.crossing.items() if name in FORMATS]
    return (", ".join(parts) or "no floats of known size") + (
        f" and {counted(found.unsized, 'tensor')} of open size" if found.unsized else ""
    )


def beside(costs: Sequence[Cost]) -> str:
    """``1.02 of all-FP16, 0.55 of FP32``: the bytes that the first engine moves against the others'."""
    first, *others = costs
    return ", ".join(f"{first.bytes / other.bytes:.2f} of {other.engine}" for other in others if other.bytes)


def share(part: float, total: float) -> str:
    """``0.08 %`` of a total; 0 % of nothing."""
    percent = 100.0 * part / total if total else 0.0
    return f"{percent:.2g} %" if percent < 10.0 else f"{percent:.0f} %"


def percent(fraction: float) -> str:
    """``88%``; what is next to nothing or next to all is not rounded to it: ``<1%``, ``>99%``."""
    if math.isnan(fraction):
        return "–"
    if 0.0 < fraction < 0.01:
        return "<1%"
    return ">99%" if 0.99 < fraction < 1.0 else f"{fraction:.0%}"


def counted(count: int, noun: str) -> str:
    """``1 node``, ``2,048 nodes``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def visible(text: str) -> str:
    """Characters that could hide or reorder others are spelt out, so that a name shows as what it is."""
    return "".join(each if each in "\n\t" or unicodedata.category(each) not in INVISIBLE else f"\\u{ord(each):04x}" for each in text)
