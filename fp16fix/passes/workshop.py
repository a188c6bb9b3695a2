"""``Workshop``: recipes for one model → its graphs; candidates that differ in placements share what was done to the FP32 graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from fp16fix.graph.model import Model
from fp16fix.graph.thin import BIG_MODEL
from fp16fix.passes import apply
from fp16fix.passes.place.share import wide_share
from fp16fix.passes.recipe import Edit, Recipe
from fp16fix.process.memory import CIRCLES
from fp16fix.ranges.range import Range

KEPT = 4
"""Changed FP32 graphs that are remembered; their weights are mostly shared."""


class Workshop:
    """Applies recipes to one model."""

    def __init__(self, model: Model, ranges: Mapping[str, Range] | None = None) -> None:
        """Knows sizes by ``ranges``, of the model; changes mostly keep them."""
        self.model = model
        self.ranges = ranges or {}
        self.heavy = model.weight() > BIG_MODEL
        self._typed: tuple[str, Model] | None = None
        """The last one of a model that is not heavy, by the digest of its recipe."""
        self._kept: OrderedDict[tuple[Edit, ...], tuple[Model, Mapping[str, Range]]] = OrderedDict()

    def keep(self, recipe: Recipe, prepared: Model, ranges: Mapping[str, Range]) -> None:
        """Remember a graph that has a recipe's changes already, and its ranges."""
        self._kept[recipe.changes] = (prepared, ranges)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def prepared(self, recipe: Recipe) -> Model:
        """FP32, with the recipe's changes. Raises as ``apply.prepared``."""
        return self._looked_up(recipe)[0]

    def share(self, recipe: Recipe) -> float:
        """Of the FLOPs that a recipe puts into FP32, see ``place.share.wide_share``."""
        prepared, ranges = self._looked_up(recipe)
        return wide_share(prepared, ranges, recipe.wide)

    def _looked_up(self, recipe: Recipe) -> tuple[Model, Mapping[str, Range]]:
        if recipe.changes not in self._kept:
            self.keep(recipe, apply.prepared(self.model, recipe), self.ranges)
        self._kept.move_to_end(recipe.changes)
        return self._kept[recipe.changes]

    def typed(self, recipe: Recipe) -> Model:
        """What an engine is built from; nobody's to edit, for it is kept and given again. Raises as ``apply.apply``."""
        if self.heavy:
            # Graphs are circles: the last candidate's weights are held until somebody looks.
            CIRCLES.look()
            return apply.typed(self.prepared(recipe), recipe)
        if self._typed is None or self._typed[0] != recipe.digest:
            self._typed = recipe.digest, apply.typed(self.prepared(recipe), recipe)
        return self._typed[1]
