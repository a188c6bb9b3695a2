"""A frozen dataclass ↔ versioned JSON on disk; both documents of fp16fix, outcome and location, are written and read by this."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fp16fix.errors import ReplayError
from fp16fix.graph.save import write_atomically
from fp16fix.report.reading import difference, fault_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from pydantic import TypeAdapter

Content = TypeVar("Content", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class Document(Generic[Content]):
    """One kind of document; what is read back is what was written, and anything else is an error that names the key."""

    content: type[Content]
    name: str
    """What it is called, ``outcome`` or ``location``."""
    version: int
    """The only one that is read."""
    hint: str
    """What to do about a file that is none."""
    again: str
    """What to do about one of another version."""
    tag: str | None = None
    """Its key ``document``, which tells it from others; None for one without that key."""

    def to_json(self, content: Content) -> str:
        """Stable, indented JSON: keys in the order of the fields, ``dict`` entries in theirs."""
        return json.dumps(portable(asdict(content)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, content: Content, path: Path) -> None:
        """Write the JSON, whole or not at all.

        Raises:
            InputError: the folder is not writable or full.
        """
        # A file name that is not Unicode reaches Python as lone surrogates; spelt "\udce9" in a JSON string they read back as they were.
        write_atomically(path, self.to_json(content).encode("utf-8", "backslashreplace"))

    def load(self, path: Path) -> Content:
        """Read a file.

        Raises:
            ReplayError: not this document, or of a version this fp16fix does not know; says which key is at fault.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ReplayError(f"not a readable file ({error})", where=str(path), hint=self.hint) from error
        return self.from_json(text, where=str(path))

    def from_json(self, text: str, *, where: str = "") -> Content:
        """The inverse of ``to_json``; a key that is unknown, missing or of another type is an error.

        Raises:
            ReplayError: see ``load``.
        """
        where = where or self.name
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ReplayError(f"not JSON ({error})", where=where, hint=self.hint) from error
        self.refuse_others(raw, where)
        try:
            content: Content = adapter(self.content).validate_python(raw)
        except ValueError as error:  # pydantic's ValidationError is one
            raise ReplayError(f"no {self.name}: {fault_of(error)}", where=where, hint=self.hint) from error
        if at := difference(raw, portable(asdict(content))):
            raise ReplayError(f"{at} is unknown, missing or of another type", where=where, hint=self.again)
        return content

    def refuse_others(self, raw: Any, where: str) -> None:
        """What is no document at all, another one, or of another version."""
        version = raw.get("version") if isinstance(raw, dict) else None
        if version is None:
            raise ReplayError(f"no {self.name}: it has no version", where=where, hint=self.hint)
        if raw.get("document") != self.tag:
            raise ReplayError(f"no {self.name}: its key document is {raw.get('document', 'missing')!r}", where=where, hint=self.hint)
        if version != self.version or isinstance(version, bool):
            said = f"{self.name} version {version!r}, this fp16fix reads version {self.version}"
            raise ReplayError(said, where=where, hint=self.again)


@cache
def adapter(content: Any) -> TypeAdapter[Any]:
    """Pydantic's reader of one class; imported when first needed."""
    from pydantic import TypeAdapter

    return TypeAdapter(content)


def portable(value: Any) -> Any:
    """Plain types; non-finite numbers as strings."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {str(key): portable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(each) for each in value]
    return value


def tag_of(path: Path) -> str | None:
    """The key ``document`` of a file; None where there is none, or no JSON (reading the file says what is wrong with it)."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    tag = raw.get("document") if isinstance(raw, dict) else None
    return tag if isinstance(tag, str) else None
