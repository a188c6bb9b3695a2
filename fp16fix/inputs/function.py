"""Samples from the user's own code: ``file.py:function`` is run once and what it yields is written to a scratch folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fp16fix.errors import SampleError
from fp16fix.inputs.files import write_npz
from fp16fix.inputs.spool import Spool, Spooled
from fp16fix.plugins.code import named, user_code

LIMIT = 4096
"""Samples; a generator that yields more is taken for one that never ends."""
_HINT = "yield one dict of arrays by input name for each sample"


def run(path: Path, function: str) -> tuple[Spooled, ...]:
    """Call ``function`` of ``path`` and keep on disk what it yields, so that samples can be read again, in any order, the same.

    Raises:
        SampleError: the code fails (with the user's file and line), has no such function, or yields something other than arrays.
    """
    source, spool = f"{path}:{function}", Spool()
    entries: list[Spooled] = []
    with user_code(path):
        made = named(path, function)()
        if isinstance(made, Mapping) or not hasattr(made, "__iter__"):
            raise SampleError(f"expected dicts one after the other, found {type(made).__name__}", where=source, hint=_HINT)
        for raw in made:
            entry = Spooled(spool, function, source, len(entries))
            if len(entries) == LIMIT:
                raise SampleError(f"yields more than {LIMIT} samples", where=source, hint="a few dozen samples are enough; end the loop")
            write_npz(entry.path, _arrays(raw, entry.where))
            entries.append(entry)
    return tuple(entries)


def call(path: Path, function: str) -> Any:
    """What ``function`` of ``path`` returns.

    Raises:
        SampleError: the code fails (with the user's file and line) or has no such function.
    """
    with user_code(path):
        return named(path, function)()


def _arrays(raw: Any, where: str) -> dict[str, np.ndarray]:
    if not isinstance(raw, Mapping) or not all(isinstance(name, str) for name in raw):
        raise SampleError(f"expected a dict of arrays by input name, found {type(raw).__name__}", where=where, hint=_HINT)
    arrays = {name: np.asarray(value) for name, value in raw.items()}
    for name, array in arrays.items():
        if array.dtype.kind == "O":
            raise SampleError(f"input {name!r} is no array of numbers ({type(raw[name]).__name__})", where=where, hint=_HINT)
    return arrays
