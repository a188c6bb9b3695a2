"""Samples from the user's own code: ``file.py:function`` is run once and what it yields is written to a scratch folder."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
import traceback
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fp16fix.errors import SampleError
from fp16fix.inputs.declared import Admit, anything
from fp16fix.inputs.files import arrays_from_npz, write_npz

LIMIT = 4096
"""Samples; a generator that yields more is taken for one that never ends."""
_HINT = "yield one dict of arrays by input name for each sample"


class Spool:
    """A scratch folder that goes away with the last sample that refers to it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fp16fix-samples-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Spooled:
    """One sample that the user's function yielded."""

    spool: Spool
    source: str
    index: int

    @property
    def name(self) -> str:
        return f"{self.source.rpartition(':')[2]}[{self.index}]"

    @property
    def where(self) -> str:
        return f"{self.source}, sample {self.index}"

    @property
    def path(self) -> Path:
        """Where it lies until nobody needs it."""
        return self.spool.folder / f"{self.index}.npz"

    def read(self, admit: Admit = anything) -> dict[str, np.ndarray]:
        return arrays_from_npz(self.path, self.where, admit)


def run(path: Path, function: str) -> tuple[Spooled, ...]:
    """Call ``function`` of ``path`` and keep on disk what it yields, so that samples can be read again, in any order, the same.

    Raises:
        SampleError: the code fails (with the user's file and line), has no such function, or yields something other than arrays.
    """
    source, spool = f"{path}:{function}", Spool()
    entries: list[Spooled] = []
    with _user_code(path):
        made = _function(path, function)()
        if isinstance(made, Mapping) or not hasattr(made, "__iter__"):
            raise SampleError(f"expected dicts one after the other, found {type(made).__name__}", where=source, hint=_HINT)
        for raw in made:
            entry = Spooled(spool, source, len(entries))
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
    with _user_code(path):
        return _function(path, function)()


def _arrays(raw: Any, where: str) -> dict[str, np.ndarray]:
    if not isinstance(raw, Mapping) or not all(isinstance(name, str) for name in raw):
        raise SampleError(f"expected a dict of arrays by input name, found {type(raw).__name__}", where=where, hint=_HINT)
    arrays = {name: np.asarray(value) for name, value in raw.items()}
    for name, array in arrays.items():
        if array.dtype.kind == "O":
            raise SampleError(f"input {name!r} is no array of numbers ({type(raw[name]).__name__})", where=where, hint=_HINT)
    return arrays


def _function(path: Path, function: str) -> Any:
    """Import ``path`` under a name of its own, so that it shadows nothing, and look the function up."""
    spec = importlib.util.spec_from_file_location(f"_fp16fix_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise SampleError("cannot be imported as Python", where=str(path))
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses and pickle look their module up
    spec.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        names = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise SampleError(f"has no function {function!r}", where=str(path), hint=f"it has {', '.join(names) or 'none'}")
    return found


@contextmanager
def _user_code(path: Path) -> Iterator[None]:
    """Let the code import its neighbours; turn what it raises into an error at the user's line."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    except SampleError:
        raise
    except (Exception, SystemExit) as error:
        hint = "it is called without arguments"
        raise SampleError(f"{type(error).__name__}: {error}", where=_line(path, error), hint=hint) from error
    finally:
        sys.path.remove(folder)


def _line(path: Path, error: BaseException) -> str:
    """``file:line`` of the innermost frame in the user's file; the file alone if the fault is outside it."""
    mine = {str(path), str(path.absolute())}  # what importlib makes of a relative path
    if isinstance(error, SyntaxError) and error.filename in mine:
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in mine]
    return f"{path}:{lines[-1]}" if lines else str(path)
