"""``Outcome`` → one self-contained page; rows of a batch → an index page. Everything a model or a user names is escaped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fp16fix.graph.save import write_atomically
from fp16fix.report.outcome import Outcome

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True, slots=True)
class Row:
    """One model of a batch."""

    name: str
    status: str
    """``verified``, ``not verified``, ``bad input``, ``backend failed`` or ``crashed``."""
    before: str
    """Error of plain FP16 at the worst output, in a few words."""
    after: str
    """Error after repair there."""
    fp32_nodes: str
    """``3 of 412``."""
    seconds: float
    error: str
    """Why it is not verified, or what went wrong; empty if all is well."""
    report: str
    """Path of the model's report relative to the index; empty if there is none."""


def templates() -> Environment:
    """Templates that stand beside this module; autoescape is on, an undefined name is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(loader=PackageLoader("fp16fix", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(outcome: Outcome) -> str:
    """The page of one repair."""
    return page("page.html", outcome=outcome, command=shlex.join(outcome.command))


def write_report(outcome: Outcome, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        InputError: the folder is not writable or full.
    """
    write_atomically(path, render(outcome).encode())


def write_index(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write the page of a batch: one line a model, with a link to its report.

    Raises:
        InputError: the folder is not writable or full.
    """
    write_atomically(path, page("index.html", rows=rows, title=title).encode())


def page(template: str, **values: Any) -> str:
    """A template with its values."""
    return templates().get_template(template).render(**values)
