"""``Fault``: one way to break the package, as data, and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

ROOT = Path(__file__).parents[2]
"""The working tree."""


@dataclass(frozen=True)
class Change:
    """One replacement in one file."""

    file: str
    """Below ``fp16fix/``."""
    old: str
    """Occurs there exactly once."""
    new: str

    def applied(self, text: str) -> str:
        """The file's text with the change.

        Raises:
            ValueError: ``old`` is not there, or more than once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"fp16fix/{self.file} holds {self.old!r} {count} times; a fault must name one place")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Fault:
    """A change for the worse."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    """What to run, as pytest takes it."""
    why: str
    """What goes wrong for a user."""
    also: tuple[Change, ...] = ()
    """More of the same fault, elsewhere."""
    survives: str = ""
    """Why no test can notice; empty where one must."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """All of it, in the order in which it is made."""
        return (Change(self.file, self.old, self.new), *self.also)


@cache
def faults() -> dict[str, tuple[Fault, ...]]:
    """Every fault by area; each module of ``tools.mutate.faults`` is one."""
    folder = Path(__file__).with_name("faults")
    areas = sorted(info.name for info in iter_modules([str(folder)]))
    return {area: tuple(import_module(f"tools.mutate.faults.{area}").FAULTS) for area in areas}


def named(names: tuple[str, ...]) -> list[Fault]:
    """The faults of these names, or all.

    Raises:
        ValueError: there is none of that name.
    """
    everything = {fault.name: fault for area in faults().values() for fault in area}
    unknown = sorted(set(names) - set(everything))
    if unknown:
        raise ValueError(f"there is no fault {unknown[0]!r}; --list says which there are")
    return [fault for name, fault in everything.items() if not names or name in names]
