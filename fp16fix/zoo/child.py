"""``python -m fp16fix.zoo.child``: repair one model of a zoo; a crash here takes nobody else along.

The work is one JSON document on standard input; events go out as JSON lines: ``content`` first, then stages, at last ``row`` or ``error``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fp16fix.config import Entry
from fp16fix.config.urls import is_url
from fp16fix.errors import Fp16fixError, InputError, ModelError, ReplayError
from fp16fix.process.interrupts import terminable
from fp16fix.progress import Silent
from fp16fix.report.batch import Content
from fp16fix.report.delivery import retold, tell_again
from fp16fix.report.document import portable
from fp16fix.report.outcome import Outcome
from fp16fix.tasks.repair import repair
from fp16fix.zoo.cache import Cache
from fp16fix.zoo.content import content_of, sample_files, weights_of
from fp16fix.zoo.rows import products_of, row_of

OFTEN_S = 0.2
"""Ticks are told no more often."""


class Wire(Silent):
    """A watcher that tells whoever started this process."""

    def __init__(self, handle: int) -> None:
        self._out = os.fdopen(handle, "w", encoding="utf-8")
        self._ticks, self._told = 0, 0.0

    def tell(self, **event: Any) -> None:
        """One line."""
        self._out.write(json.dumps(portable(event)) + "\n")
        self._out.flush()

    def begin(self, stage: str, total: int | None) -> None:
        """A stage, and how many ticks it has."""
        self._ticks = 0
        self.tell(stage=stage, total=total)

    def tick(self) -> None:
        """How many there were in this stage, now and then."""
        self._ticks += 1
        if time.monotonic() - self._told > OFTEN_S:
            self._told = time.monotonic()
            self.tell(ticks=self._ticks)


def main() -> int:
    """Exit code as the command line's."""
    # Whatever a loader or a library prints goes to the error stream; events keep the real one.
    wire = Wire(os.dup(1))
    os.dup2(2, 1)
    work = json.loads(sys.stdin.buffer.read())
    entry = Entry.model_validate(work["entry"], context={"folder": Path()})
    try:
        with terminable():
            content = content_of(entry, weights_of(entry.model))
            wire.tell(content=asdict(content))
            stamp = stamps(entry, content)
            outcome = taken_up(entry, journal_of(entry, content, work["cache"]), wire, work["command"])
            if stamps(entry, content) != stamp:
                unmoved(content, content_of(entry, weights_of(entry.model)))
            outcome = said_of(outcome, work["places"])
    except Fp16fixError as error:
        wire.tell(error=str(error))
        return error.exit_code
    files = {kind: str(local) for kind, local in delivered(outcome, work["places"]).items()}
    wire.tell(row=asdict(row_of(work["name"], entry, outcome)), products={kind: asdict(each) for kind, each in products_of(files).items()})
    return 0 if outcome.verified else 1


def journal_of(entry: Entry, content: Content, cache: str) -> Path | None:
    """The journal that the next run of the same content takes up where this one is killed; None where the user has named one."""
    if is_url(cache) or entry.search.journal is not None:
        return None
    journal = Cache(Path(cache)).journal(content.key)
    journal.parent.mkdir(parents=True, exist_ok=True)
    return journal


def taken_up(entry: Entry, journal: Path | None, wire: Wire, command: Sequence[str]) -> Outcome:
    """Repair, with what the journal of a killed run holds.

    One that was damaged, or is of another search, begins anew; one that a row of the same content is writing is left to it.
    """
    if journal is None:
        return repair(entry, wire, command)
    remembering = entry.model_copy(update={"search": entry.search.model_copy(update={"journal": journal})})
    try:
        return repair(remembering, wire, command)
    except InputError as error:
        if error.where != str(journal):
            raise
        if not isinstance(error, ReplayError):
            return repair(entry, wire, command)
        journal.unlink()
        return repair(remembering, wire, command)


def stamps(entry: Entry, content: Content) -> list[tuple[int, int]]:
    """Size and time of every file that a row is made of."""
    assert entry.model is not None
    files = [*(entry.model.parent / name for name in content.model), *sample_files(entry)]
    return [(found.st_size, found.st_mtime_ns) for file in files if file.is_file() and (found := file.stat())]


def unmoved(began: Content, ended: Content) -> None:
    """A result of files that changed while they were worked on is nobody's.

    Raises:
        ModelError: they did.
    """
    if changed := ended.differs(began):
        raise ModelError(f"changed while it was worked on: {', '.join(changed)}", where=began.name, hint="run the batch again")


def said_of(outcome: Outcome, places: Mapping[str, str]) -> Outcome:
    """The outcome and its page as they are told elsewhere: ``places`` has folders of this machine and what stands for them."""
    if not places:
        return outcome
    told = retold(outcome, places)
    tell_again(told, outcome.files)
    return told


def delivered(outcome: Outcome, places: Mapping[str, str]) -> dict[str, Path]:
    """Where this machine holds what an outcome says it wrote."""

    def here(path: str) -> Path:
        return next((Path(path.replace(there, local, 1)) for local, there in places.items() if path.startswith(there)), Path(path))

    return {kind: here(path) for kind, path in outcome.files.items()}


if __name__ == "__main__":
    sys.exit(main())
