"""``apply``: the only way from a model to a typed graph: the edits of a recipe, in order, on a copy."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from fp16fix.errors import ReplayError
from fp16fix.graph.edit import drop_unread, edited
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model, tell_apart
from fp16fix.passes.recipe import RESCALE, Edit, Recipe
from fp16fix.passes.rescale.fold import fold
from fp16fix.passes.rewrite.rules import rule


def apply(model: Model, recipe: Recipe) -> Model:
    """The typed graph that an engine is built from: byte for byte the delivered file, once saved.

    Args:
        model: the FP32 model that the recipe was made for; not changed.
        recipe: what to do.

    Raises:
        ReplayError: the recipe names what the model does not hold.
    """
    return typed(prepared(model, recipe), recipe)


def prepared(model: Model, recipe: Recipe) -> Model:
    """The FP32 graph with everything done but types: equal to the original up to what the edits promise; ``model`` if there is nothing.

    Raises:
        ReplayError: the recipe names what the model does not hold.
    """
    if not recipe.changes and not recipe.apart:
        return model
    copy = model.copy()
    tell_apart(copy, recipe.apart)
    carry_out(copy, recipe.changes)
    return copy


def typed(prepared: Model, recipe: Recipe) -> Model:
    """A new graph, typed as the recipe places nodes; ``prepared`` has its changes already.

    Raises:
        ReplayError: it places a node that is not there.
    """
    wide = recipe.wide
    unknown = sorted(set(wide) - set(prepared.node_map())) if wide else []
    if unknown:
        raise ReplayError(
            f"the recipe pins {unknown[0]!r}, which is not in the graph",
            where=prepared.name,
            hint="use the recipe with the model it was made for",
        )
    return lower(prepared, wide, io=recipe.io, saturate=recipe.saturated, sums=recipe.sums, narrow=recipe.narrow)


def carry_out(model: Model, changes: Iterable[Edit]) -> None:
    """Change a model in place; whoever made the recipe did it in these same steps, so that names come out the same.

    Raises:
        ReplayError: a change names what the model does not hold.
    """
    for maker, edits in groupby(changes, key=lambda edit: edit.by):
        if maker == RESCALE:
            for edit in edits:
                fold(model, {name: int(e) for name, e in edit.values})
        else:
            with edited(model):
                for edit in edits:
                    rule(maker).apply(model, edit)
        tidy(model)


def tidy(model: Model) -> None:
    """Drop nodes whose results nobody reads any more, keeping order and interface."""
    for graph in model.graphs():
        drop_unread(graph)
