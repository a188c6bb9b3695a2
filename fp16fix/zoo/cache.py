"""Results by content, in a folder here or elsewhere; whatever was cut short or changed there is noticed and counts as absent.

``objects/`` holds files by their SHA-256; ``results/``, ``weights/`` and ``rows/`` hold JSON under a seal, its own SHA-256. Files over
fsspec rather than a database: a whole folder may be copied, cached by a build service, or lie in a bucket; nothing in it is ever unpickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fp16fix.report.batch import digest_of
from fp16fix.zoo import storage


@dataclass(frozen=True, slots=True)
class Cache:
    """One folder."""

    folder: Path

    def note(self, kind: str, key: str, value: dict[str, Any]) -> None:
        """Keep a small document.

        Raises:
            InputError: it cannot be written.
        """
        sealed = {"seal": digest_of(value), "value": value}
        storage.write(self._document(kind, key), json.dumps(sealed, indent=1).encode())

    def noted(self, kind: str, key: str) -> dict[str, Any] | None:
        """A small document; None where there is none, or where it is not what was written."""
        found = storage.read(self._document(kind, key))
        try:
            sealed = json.loads(found or b"")
            value = sealed["value"]
            return dict(value) if sealed["seal"] == digest_of(value) else None
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def forget(self, kind: str, key: str) -> None:
        """Take a small document away."""
        storage.remove(self._document(kind, key))

    def keep(self, path: Path, digest: str) -> None:
        """Keep a copy of a file; one that is kept already, whole, stays."""
        if storage.digest(self.object(digest)) != digest:
            storage.send(path, self.object(digest))

    def holds(self, digest: str) -> bool:
        """Whether a whole copy is kept; what was damaged goes."""
        found = storage.digest(self.object(digest))
        if found and found != digest:
            storage.remove(self.object(digest))
        return found == digest

    def object(self, digest: str) -> Path:
        """Where the copy with this digest lies."""
        return self.folder / "objects" / digest[:2] / digest

    def journal(self, key: str) -> Path:
        """The journal of a search that is under way."""
        return self.folder / "journals" / f"{key}.jsonl"

    def _document(self, kind: str, key: str) -> Path:
        return self.folder / kind / f"{key}.json"
