"""Recipes in a few words."""

from __future__ import annotations

from fp16fix.passes.recipe import Edit, Promise, Recipe, placements_of, rescaling


def pins(*names: str, format_: str = "fp32") -> Recipe:
    """These nodes are placed, and that is all."""
    return Recipe(placements_of(dict.fromkeys(names, format_)))


def rewrites(*edits: Edit) -> Recipe:
    """These rewrites, and that is all."""
    return Recipe(edits)


def exponents(**found: int) -> Recipe:
    """These tensors are rescaled, and that is all."""
    return Recipe((rescaling(found),))


def clamp(node: str, tensor: str = "") -> Edit:
    """A rewrite that no rule makes."""
    return Edit("clamp", node, Promise.EXACT, tensor=tensor)
