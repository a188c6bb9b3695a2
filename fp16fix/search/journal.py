"""Measurements → an append-only file of JSON lines, synced one by one, so that a killed search measures nothing twice."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fp16fix.errors import InputError, ReplayError

if TYPE_CHECKING:
    from typing_extensions import Self

VERSION = 2
"""Of the file format, in its first line."""


class Journal:
    """One file, one search: the first line says of what, each later line is one measurement.

    Only one process writes at a time. A last line that was cut short by a crash is dropped; any other damage is refused.
    """

    def __init__(self, path: Path | str, subject: Mapping[str, str]) -> None:
        """Open or create the journal.

        Args:
            path: the file; its folder must exist.
            subject: what is measured (digests of model and samples, tolerance, oracle); a file of another subject is refused.

        Raises:
            ReplayError: the file belongs to another subject or is not a journal.
            InputError: it cannot be opened, or another process is writing it.
        """
        self.path = Path(path)
        self.subject = dict(sorted(subject.items()))
        try:
            self._file = self.path.open("a+b")
        except OSError as error:
            raise InputError(
                f"cannot open the journal ({error.strerror})", where=str(path), hint="name a file in a writable folder"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise InputError(
                "another process is writing this journal", where=str(path), hint="wait for it, or name another file"
            ) from error
        try:
            self.records: tuple[dict[str, Any], ...] = tuple(self._recover())
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the file up; nothing is pending, every record was synced when it was made."""
        self._file.close()

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one measurement; on return it is on disk."""
        line = json.dumps(record, sort_keys=True, allow_nan=False) + "\n"
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _recover(self) -> Iterator[dict[str, Any]]:
        """Whole lines of an earlier run; what a crash tore off is cut away."""
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._file.truncate(len(whole))
        lines = [self._parsed(number, line) for number, line in enumerate(whole.splitlines(), 1)]
        if not lines:
            self.append({"journal": VERSION, "subject": self.subject})
            return
        self._check(lines[0])
        yield from lines[1:]

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ReplayError(
                f"line {number} is not JSON", where=str(self.path), hint="this is not a journal, or it was edited; name another file"
            ) from error
        if not isinstance(record, dict):
            raise ReplayError(f"line {number} is not an object", where=str(self.path), hint="this is not a journal; name another file")
        return record

    def _check(self, head: Mapping[str, Any]) -> None:
        if head.get("journal") != VERSION:
            raise ReplayError(
                f"it does not begin like a journal of version {VERSION}", where=str(self.path), hint="name another file, or delete this one"
            )
        subject = head.get("subject")
        other = subject if isinstance(subject, dict) else {}
        wrong = sorted(key for key in {*other, *self.subject} if other.get(key) != self.subject.get(key))
        if wrong:
            said = "; ".join(f"{key}: there {short(other.get(key))}, here {short(self.subject.get(key))}" for key in wrong)
            raise ReplayError(
                f"the journal is of another search ({said})",
                where=str(self.path),
                hint="name another file, or delete this one to measure anew",
            )


def short(value: object) -> str:
    """A digest's beginning is enough to tell two apart."""
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 24 else text[:12] + "…"


def refuse_unusable(path: Path) -> None:
    """Find out before the work, not after it, as far as that can be seen without knowing the subject.

    Raises:
        InputError: no folder for it, or a folder itself.
        ReplayError: a file that is no journal.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        why = "it is a folder" if path.is_dir() else "its folder does not exist"
        raise InputError(f"cannot open the journal ({why})", where=str(path), hint="name a file in a writable folder")
    if path.exists():
        first = path.read_bytes().split(b"\n", 1)[0]
        try:
            is_journal = not first or "journal" in json.loads(first)
        except (ValueError, TypeError, RecursionError):
            is_journal = False
        if not is_journal:
            raise ReplayError("this is not a journal", where=str(path), hint="name another file")
