"""``Outcome`` or ``Located`` → one self-contained page. Everything a model or a user names is escaped."""

from __future__ import annotations

import os
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from fp16fix.graph.save import write_atomically
from fp16fix.report import words
from fp16fix.report.headline import headline
from fp16fix.report.located import Located
from fp16fix.report.located_view import located_view
from fp16fix.report.outcome import Outcome
from fp16fix.report.view import CAP, capped, judged, view


@cache
def templates() -> Environment:
    """Templates that stand beside this module; autoescape is on, an undefined name is an error."""
    environment = Environment(
        loader=PackageLoader("fp16fix", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plain = (words.counted, words.decibels, words.duration, words.number, words.octaves, words.power, words.size)
    for word in (*plain, words.beside, words.crossing, words.grounds, judged, cosine, link, scoped):
        environment.filters[word.__name__] = word
    # The one script of a page is named by its hash, so that a browser runs nothing else, whatever a model's names hold.
    script = environment.get_template("script.html").render()
    environment.globals["script"] = Markup(script)  # noqa: S704 - our own file, no value enters it
    environment.globals["script_hash"] = "sha256-" + b64encode(sha256(script.encode()).digest()).decode()
    return environment


def shown(value: Any) -> Any:
    """What a template prints: characters that could hide or reorder others are spelt out."""
    return words.visible(value) if type(value) is str else value


def cosine(value: float) -> str:
    """Enough digits to see what is missing to 1."""
    return f"{value:.8f}".rstrip("0").rstrip(".")


def scoped(name: str) -> Markup:
    """A name that may be broken behind its slashes, rather than within a word."""
    return Markup(escape(words.visible(name)).replace("/", Markup("/<wbr>")))  # noqa: S704 - escaped here


def link(path: str) -> str:
    """A relative path as a URL; a colon in it makes no scheme."""
    return quote(os.fsencode(Path(path).as_posix()))


def render(outcome: Outcome) -> str:
    """The page of one repair."""
    values = view(outcome)
    return page("page.html", outcome=outcome, view=values, pessimistic=judged(outcome.pessimistic), cap=CAP)


CELL_EDITS = 20
"""Edits that a notebook's cell lists; the page has more, the JSON all."""


def render_cell(outcome: Outcome) -> str:
    """The figures, edits and ranges of one repair as a frame, which a notebook shows and no style of which leaves it."""
    edits = capped(outcome.recipe.edits, CELL_EDITS)
    inner = page("cell.html", outcome=outcome, view=view(outcome), edits=edits)
    style = "width: 100%; height: 44rem; border: 0; background: transparent"
    return f'<iframe title="fp16fix: {headline(outcome).lower()}" sandbox style="{style}" srcdoc="{escape(inner)}"></iframe>'


def render_location(located: Located) -> str:
    """The page of one location."""
    return page("locate.html", located=located, view=located_view(located))


def write_location(located: Located, path: Path) -> None:
    """Write the page of a location, whole or not at all.

    Raises:
        InputError: the folder is not writable or full.
    """
    write_atomically(path, render_location(located).encode())


def write_report(outcome: Outcome, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        InputError: the folder is not writable or full.
    """
    write_atomically(path, render(outcome).encode())


def page(template: str, **values: Any) -> str:
    """A template with its values."""
    return templates().get_template(template).render(**values)
