"""``Workshop``: recipes for one model → its graphs; candidates that differ in placements share what was done to the FP32 graph."""

from __future__ import annotations

from collections import OrderedDict

from fp16fix.graph.model import Model
from fp16fix.passes import apply
from fp16fix.passes.recipe import Edit, Recipe

KEPT = 4
"""Changed FP32 graphs that are remembered; their weights are mostly shared."""


class Workshop:
    """Applies recipes to one model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._kept: OrderedDict[tuple[Edit, ...], Model] = OrderedDict()

    def keep(self, recipe: Recipe, prepared: Model) -> None:
        """Remember a graph that has a recipe's changes already."""
        self._kept[recipe.changes] = prepared
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def prepared(self, recipe: Recipe) -> Model:
        """FP32, with the recipe's changes. Raises as ``apply.prepared``."""
        if recipe.changes not in self._kept:
            self.keep(recipe, apply.prepared(self.model, recipe))
        self._kept.move_to_end(recipe.changes)
        return self._kept[recipe.changes]

    def typed(self, recipe: Recipe) -> Model:
        """What an engine is built from. Raises as ``apply.apply``."""
        return apply.typed(self.prepared(recipe), recipe)
