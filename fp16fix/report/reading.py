"""What pydantic made of a JSON tree, against that tree → the first place where they differ."""

from __future__ import annotations

from typing import Any

ABSENT = object()
"""Stands for a key that is not there; equal to nothing but itself."""


def fault_of(error: ValueError) -> str:
    """The first thing pydantic has to say, with the path to it."""
    faults = error.errors() if hasattr(error, "errors") else []
    if not faults:
        return str(error)
    return f"{'.'.join(str(part) for part in faults[0]['loc'])}: {faults[0]['msg']}"


def difference(raw: Any, known: Any, at: str = "") -> str:
    """Dotted path of the first key or value in which two JSON trees differ; empty if they are equal.

    pydantic ignores keys it does not know and reads "12" as 12; what it made of a file is therefore compared with the file.
    """
    if isinstance(raw, dict) and isinstance(known, dict):
        keys = [*raw, *(key for key in known if key not in raw)]
        pairs = [(f"{at}.{key}".lstrip("."), raw.get(key, ABSENT), known.get(key, ABSENT)) for key in keys]
    elif isinstance(raw, list) and isinstance(known, list) and len(raw) == len(known):
        pairs = [(f"{at}[{index}]", *both) for index, both in enumerate(zip(raw, known, strict=True))]
    else:
        return "" if raw == known and isinstance(raw, bool) == isinstance(known, bool) else at
    return next((found for place, left, right in pairs if (found := difference(left, right, place))), "")
