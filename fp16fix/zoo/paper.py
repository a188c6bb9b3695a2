"""Rows as they come → ``summary.json``, the index page and JUnit XML, on disk while the batch still goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

import fp16fix
from fp16fix.config import ZooConfig
from fp16fix.config.urls import is_url, url_of
from fp16fix.process.interrupts import placed
from fp16fix.process.versions import versions
from fp16fix.report.batch import DOCUMENT, TAG, Batch, Row
from fp16fix.report.index import render_index
from fp16fix.zoo import storage
from fp16fix.zoo.junit import junit
from fp16fix.zoo.plan import own_paths

SHARE = 20
"""Writing takes one part in so many of the time: a batch of thousands is not spent on telling of itself."""


@dataclass(slots=True)
class Paper:
    """The summary that grows."""

    zoo: ZooConfig
    command: tuple[str, ...]
    fail_on: tuple[str, ...]
    names: Sequence[str]
    """Of all rows, in the order in which they are told."""
    locked: str = ""
    _rows: dict[str, Row] = field(default_factory=dict)
    _began: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    _clock: float = field(default_factory=time.monotonic)
    _next: float = 0.0

    def add(self, row: Row) -> None:
        """One more; written now, or soon."""
        self._rows[row.name] = row
        if time.monotonic() >= self._next:
            self.write()

    def write(self, *, whole: bool = False) -> Batch:
        """Write what there is; all files where it is ``whole``.

        Raises:
            InputError: the folder is not writable or full.
        """
        began = time.monotonic()
        batch, paths = self.batch(ended=whole), own_paths(self.zoo)
        # A file name that is not Unicode reaches Python as lone surrogates; spelt out in a JSON string they read back as they were.
        storage.write(paths["summary"], DOCUMENT.to_json(batch).encode("utf-8", "backslashreplace"))
        if whole:
            storage.write(paths["index"], render_index(batch, self.zoo.output_dir).encode())
            storage.write(paths["junit"], junit(batch))
        if not is_url(paths["summary"]):
            placed(paths["summary"])
        self._next = time.monotonic() + SHARE * (time.monotonic() - began)
        return batch

    def batch(self, *, ended: bool) -> Batch:
        """As it stands."""
        rows = tuple(self._rows[name] for name in self.names if name in self._rows)
        waiting = tuple(name for name in self.names if name not in self._rows)
        paths = own_paths(self.zoo)
        return Batch(
            document=TAG,
            tool=fp16fix.__version__,
            versions=versions(),
            command=self.command,
            zoo=str(self.zoo.path),
            began=stamp(self._began),
            ended=stamp(datetime.now(timezone.utc)) if ended else "",
            seconds=round(time.monotonic() - self._clock, 3),
            fail_on=self.fail_on,
            failed=any(row.fails(self.fail_on) for row in rows),
            verified=not waiting and all(row.verified for row in rows),
            rows=rows,
            waiting=waiting,
            locked=self.locked,
            files={kind: url_of(paths[kind]) for kind in ("summary", "index", "junit")},
        )


def stamp(moment: datetime) -> str:
    """``2026-11-28T20:00:00Z``."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
