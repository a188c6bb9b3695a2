"""Samples in the JSON that ``polygraphy.json.save_json([{name: array}], path)`` writes; each is decoded only when asked for.

An array is ``{"array": <base64 of a .npy>, "polygraphy_class": "ndarray"}``; older versions wrote an .npz, in base64 or Latin-1.
"""

from __future__ import annotations

import base64
import io
import json
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fp16fix.errors import SampleError
from fp16fix.inputs.declared import Admit, anything
from fp16fix.inputs.files import ZIP, Stored, first, stored, unreadable

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
"""Strings are stepped over whole, so that brackets inside them do not count."""
_HINT = "write it with polygraphy.json.save_json([{input_name: array}, ...], path)"


@dataclass(frozen=True, slots=True)
class JsonSpan:
    """One sample: the bytes ``start`` to ``stop`` of a JSON file."""

    path: Path
    index: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.path.stem}[{self.index}]"

    @property
    def where(self) -> str:
        return f"{self.path}[{self.index}]"

    def read(self, admit: Admit = anything) -> dict[str, np.ndarray]:
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                raw = json.loads(file.read(self.stop - self.start))
        except (OSError, ValueError, RecursionError) as error:
            raise SampleError(f"is not valid JSON: {error}", where=self.where, hint=_HINT) from error
        stored = {name: _stored(value, f"{self.where}, input {name!r}") for name, value in raw.items()}
        admit({name: each.declared for name, each in stored.items()})
        return {name: each.array() for name, each in stored.items()}


def spans(path: Path) -> tuple[JsonSpan, ...]:
    """The samples of a file, found in one scan that keeps none of it in memory.

    Raises:
        SampleError: not a JSON list of objects, nor one object.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = tuple(_objects(data, path))
    except (OSError, ValueError) as error:  # mmap raises ValueError on an empty file
        raise SampleError(f"cannot be read: {error}", where=str(path), hint=_HINT) from error
    return tuple(JsonSpan(path, index, start, stop) for index, (start, stop) in enumerate(found))


def _objects(data: mmap.mmap, path: Path) -> Iterator[tuple[int, int]]:
    """Where each sample starts and stops; around them a list holds brackets and commas only."""
    depth, level, start, end = 0, 0, 0, 0
    for token in _TOKEN.finditer(data):
        sign = data[token.start()]
        if depth == 0 and end == 0 and sign == ord("["):
            level = 1
        if sign in b"{[":
            start = token.start() if depth == level and sign == ord("{") else start
            depth += 1
        elif sign in b"]}":
            depth -= 1
            if depth == level and sign == ord("}"):
                _expect(data[end:start], b"[" * level if end == 0 else b"," if level else b"nothing", path)
                end = token.end()
                yield start, end
    rest = b"".join(data[end:].split())
    _expect(rest, b"]" * level if end else b"[]", path)


def _expect(found: bytes, text: bytes, path: Path) -> None:
    if found.strip() != text:
        raise SampleError("is not a JSON list of samples, or is cut off", where=str(path), hint=_HINT)


def _stored(value: Any, where: str) -> Stored:
    if not isinstance(value, dict) or not isinstance(value.get("array"), str):
        kind = value.get("polygraphy_class", "object") if isinstance(value, dict) else type(value).__name__
        raise SampleError(f"expected a NumPy array as Polygraphy writes it, found {kind}", where=where, hint=_HINT)
    try:
        data = _payload(value["array"])
    except ValueError as error:
        raise unreadable(where, error) from error
    return first(data, where) if data.startswith(ZIP) else stored(lambda: io.BytesIO(data), len(data), where)


def _payload(text: str) -> bytes:
    """No file of NumPy's is base64 when read as Latin-1, for both kinds hold bytes outside that alphabet."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode("latin-1")
