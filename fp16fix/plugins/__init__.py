"""What is found by its being there: the classes of a folder's modules, and those that other packages offer through entry points."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from typing import Any

from fp16fix.errors import ConfigError

GROUPS = ("fp16fix.rules", "fp16fix.oracles", "fp16fix.metrics")
"""Entry-point groups that are looked at; ``notes/extending.md`` says what each wants."""


def found(package: str, path: Iterable[str], group: str, is_one: Callable[[type], bool]) -> tuple[type[Any], ...]:
    """Classes that ``is_one`` accepts: of every module of a folder that has no leading underscore, then of an entry-point group.

    Args:
        package: import name of the folder.
        path: its ``__path__``.
        group: entry-point group; empty for what others cannot add.
        is_one: whether a class is what is looked for.

    Raises:
        ConfigError: another package's entry point does not load, or is something else.
    """
    modules = sorted(info.name for info in pkgutil.iter_modules(path) if not info.name.startswith("_"))
    own = [each for name in modules for each in classes_of(f"{package}.{name}") if is_one(each)]
    return (*own, *offered(group, is_one))


def classes_of(module: str) -> list[type]:
    """Classes that a module defines (not imports), protocols aside."""
    here = vars(importlib.import_module(module)).values()
    return [each for each in here if isinstance(each, type) and each.__module__ == module and not getattr(each, "_is_protocol", False)]


def offered(group: str, is_one: Callable[[type], bool]) -> Iterator[type[Any]]:
    """Classes of other packages, by the names of their entry points."""
    for point in sorted(entry_points(group=group), key=lambda point: point.name) if group else ():
        owner = point.dist.name if point.dist is not None else "an installed package"
        where = f"entry point {point.name!r} of {group}, by {owner}"
        try:
            offer = point.load()
        except Exception as error:  # another package's code raises whatever it likes
            raise ConfigError(
                f"does not load ({type(error).__name__}: {error})", where=where, hint="repair or remove that package"
            ) from error
        if not (isinstance(offer, type) and is_one(offer)):
            raise ConfigError(f"{offer!r} is not what the group wants", where=where, hint="see notes/extending.md")
        yield offer
