"""Text → the terminal: names come from files that anybody may have written, and a terminal obeys what it is sent."""

from __future__ import annotations

import unicodedata

import typer

from fp16fix.console.manner import manner
from fp16fix.report.words import INVISIBLE, visible


def out(text: str, tone: str | None = None) -> None:
    """A line on standard output, with what would move the cursor or hide its neighbours spelt out, unless only errors are wanted.

    ``tone`` is a colour where there are colours.
    """
    how, line = manner(), visible(text)
    how.noted(line)
    if not how.quiet:
        stream = how.stdout
        colored = how.colored(stream)
        typer.echo(typer.style(line, fg=tone, bold=True) if tone and colored else line, file=stream, color=colored)


def document(text: str) -> None:
    """What was asked for as a document, as it is: quiet or not."""
    stream = manner().stdout
    stream.write(text)
    stream.flush()


def escaped(document: str) -> str:
    """A JSON document that says the same without such characters: they only occur in strings, where they may be escaped."""
    return "".join(each if each == "\n" or unicodedata.category(each) not in INVISIBLE else _units(each) for each in document)


def _units(character: str) -> str:
    """JSON's escape, a pair of surrogates past U+FFFF."""
    data = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[k : k + 2].hex()}" for k in range(0, len(data), 2))
