"""The user's own Python files: imported under names of their own, and what they raise said at their own line."""

from __future__ import annotations

import importlib.util
import linecache
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from fp16fix.errors import Fp16fixError, InputError, SampleError


def named(path: Path, name: str, error: type[InputError] = SampleError) -> Any:
    """Import ``path`` under a name of its own, so that it shadows nothing, and look a function or class up; call it in ``user_code``.

    Raises:
        InputError: of the type ``error``; no Python, or there is none of that name.
    """
    spec = importlib.util.spec_from_file_location(f"_fp16fix_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise error("cannot be imported as Python", where=str(path))
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses and pickle look their module up
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        names = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise error(f"has no function {name!r}", where=str(path), hint=f"it has {', '.join(names) or 'none'}")
    return found


@contextmanager
def user_code(path: Path, error: type[InputError] = SampleError, hint: str = "it is called without arguments") -> Iterator[None]:
    """Let the code import its neighbours; turn what it raises into an error at the user's line."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        with blamed(path, error, hint):
            yield
    finally:
        sys.path.remove(folder)


@contextmanager
def blamed(path: Path, error: type[InputError], hint: str) -> Iterator[None]:
    """Turn whatever comes out of a file's code into an ``error`` at its line."""
    try:
        yield
    except Fp16fixError:
        raise
    except (Exception, SystemExit) as caught:
        place = _line(path, caught)
        raise error(f"{type(caught).__name__}: {caught}{_source(place)}", where=place, hint=hint) from caught


def _source(place: str) -> str:
    """The line itself, where the place has one."""
    file, _, number = place.rpartition(":")
    line = linecache.getline(file, int(number)).strip() if number.isdigit() else ""
    return f"\n  {number} | {line}" if line else ""


def _line(path: Path, error: BaseException) -> str:
    """``file:line`` of the innermost frame in the user's file; the file alone if the fault is outside it."""
    mine = {str(path), str(path.absolute())}  # what importlib makes of a relative path
    if isinstance(error, SyntaxError) and error.filename in mine:
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in mine]
    return f"{path}:{lines[-1]}" if lines else str(path)
