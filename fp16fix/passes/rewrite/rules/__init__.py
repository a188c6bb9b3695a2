"""The rules of this folder, found by looking: one class with an ``order`` in each module that has no leading underscore.

Other packages add theirs through entry points of the group ``fp16fix.rules``.
"""

from __future__ import annotations

from functools import cache

from fp16fix.errors import ReplayError
from fp16fix.passes.rewrite.rule import Rule
from fp16fix.plugins import found
from fp16fix.strict.profiles.compiled import Compiled


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule, by ``order`` and then by name: the order in which they are tried."""
    kinds = found(__name__, __path__, "fp16fix.rules", lambda kind: hasattr(kind, "propose") and hasattr(kind, "order"))
    return tuple(sorted((kind() for kind in kinds), key=lambda rule: (rule.order, rule.name)))


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


def looks_again(rule: Rule) -> bool:
    """Whether a rule has another look after the exponents, which may have made an eps smaller than FP16 holds."""
    return bool(getattr(rule, "again", False))


def guards(rule: Rule) -> bool:
    """Whether a rule mends what samples may not show, so that no run can acquit it."""
    return bool(getattr(rule, "guards", False))


def answers_builder(rule: Rule) -> bool:
    """Whether a rule takes out an operator that engine builders are known to end over."""
    return bool(getattr(rule, "for_builder", False))


def mends_rounding(rule: Rule) -> bool:
    """Whether what a rule mends is wrong in a type of FP32's range too: its operator computes in FP32 inside, or rounds less often."""
    return bool(getattr(rule, "of_rounding", False))


def shown_in(rule: Rule) -> str:
    """The profile of arithmetic in which what a rule mends is ill."""
    return str(getattr(rule, "numerics", Compiled.name))
