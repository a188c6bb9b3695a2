"""The rules of this folder, found by looking: one class with an ``order`` in each module that has no leading underscore."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from fp16fix.errors import ReplayError
from fp16fix.passes.rewrite.rule import Rule


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule, by ``order`` and then by name: the order in which they are tried."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))
    found = [rule for name in names for rule in _rules_of(f"{__name__}.{name}")]
    return tuple(sorted(found, key=lambda rule: (rule.order, rule.name)))


def rule(name: str) -> Rule:
    """The rule that a recipe names.

    Raises:
        ReplayError: there is no such rule.
    """
    for each in rules():
        if each.name == name:
            return each
    known = ", ".join(each.name for each in rules())
    raise ReplayError(f"no rule is called {name!r}", hint=f"a newer version may have made the recipe; the rules here are {known}")


def _rules_of(module: str) -> list[Rule]:
    """Instances of the classes that a module defines (not imports) and that are rules."""
    here = vars(importlib.import_module(module)).values()
    own = [each for each in here if isinstance(each, type) and each.__module__ == module]
    return [each() for each in own if hasattr(each, "propose") and hasattr(each, "order")]
