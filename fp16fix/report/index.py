"""``Batch`` → the index page: failures first, everything that must be known before a verdict is trusted in the row."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from fp16fix.config.urls import is_url
from fp16fix.report.batch import OUT_OF_MEMORY, TIMED_OUT, VERIFIED, Batch, Measure, Product, Row, worst
from fp16fix.report.html import page
from fp16fix.report.words import counted, size

TONES = {
    "verified": ("good", "✓"),
    "not verified": ("bad", "✗"),
    "crashed": ("bad", "✗"),
    TIMED_OUT: ("bad", "✗"),
    OUT_OF_MEMORY: ("bad", "✗"),
}
"""By status; any other is a warning."""
LINKED = {"plan": "plan", "onnx": "graph", "outcome": "outcome", "report": "page"}
"""Products that a row links to, and by what word."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row as the page shows it."""

    row: Row
    tone: str
    sign: str
    caveats: tuple[str, ...]
    """Conditions and made-up inputs, in words."""
    before: Measure | None
    after: Measure | None
    links: tuple[tuple[str, str], ...]
    """Word and place."""
    memory: str


def render_index(batch: Batch, folder: Path) -> str:
    """The page of a batch, which is to lie in ``folder``."""
    lines = [line(row, folder) for row in sorted(batch.rows, key=lambda row: rank(row, batch.fail_on))]
    words = (
        f"{sum(row.verified for row in batch.rows)} of {len(batch.rows)} verified",
        *(f"{n} {kind}" for kind, n in batch.counts().items()),
    )
    return page("index.html", batch=batch, lines=lines, title=counted(len(batch.rows), "model"), story=", ".join(words))


def rank(row: Row, fail_on: tuple[str, ...]) -> tuple[bool, bool, bool, bool, bool]:
    """No verdict first, then what is not verified, what fails the batch, what is worse than it was, what holds under conditions."""
    return row.judged, row.verified, not row.fails(fail_on), not row.worse, not (row.conditions or row.made_up)


def line(row: Row, folder: Path) -> Line:
    """One row."""
    tone, sign = TONES.get(row.status, ("warn", "!"))
    after = worst(row.after)
    before = next((each for each in row.before if after is not None and each.output == after.output), worst(row.before))
    links = [(word, place(row.products[kind], folder)) for kind, word in LINKED.items() if kind in row.products]
    return Line(row, tone, sign, caveats(row), before, after, tuple(links), size(row.peak_mib * 2**20) if row.peak_mib else "")


def caveats(row: Row) -> tuple[str, ...]:
    """What must be known beside the verdict, in words."""
    return replace(row, status=VERIFIED).causes


def place(product: Product, folder: Path) -> str:
    """A link that works wherever the whole folder is taken; what lies under another protocol, or the page does, by its name there."""
    if is_url(product.path) or is_url(folder):
        return Path(product.path).name
    return os.path.relpath(product.path, folder)
