"""``apply``: the one function that edits a model, on a copy: rewrites, then exponents, then dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fp16fix.errors import ReplayError
from fp16fix.graph.lower import Fits, lower
from fp16fix.graph.model import Model
from fp16fix.passes.recipe import Edit, Recipe
from fp16fix.passes.rescale.fold import fold
from fp16fix.passes.rewrite.rules import rule


def apply(model: Model, recipe: Recipe, *, io: str | None = None, fits: Fits | None = None) -> Model:
    """The typed graph that an engine is built from.

    Args:
        model: the FP32 model that the recipe was made for; not changed.
        recipe: what to do.
        io: type of graph inputs and outputs, see ``lower``.
        fits: see ``lower``.

    Raises:
        ReplayError: the recipe names what the model does not hold.
    """
    return lower(prepared(model, recipe), dict(recipe.wide), io=io, fits=fits)


def prepared(model: Model, recipe: Recipe) -> Model:
    """The FP32 graph with everything done but dtypes: equal to the original up to what the repairs' promises say.

    Raises:
        ReplayError: the recipe names what the model does not hold.
    """
    done = rewritten(scaled(rewritten(model, recipe.repairs), dict(recipe.exponents)), recipe.finish)
    names = done.node_map()
    unknown = sorted(node for node, _ in recipe.wide if node not in names)
    if unknown:
        raise ReplayError(
            f"the recipe pins {unknown[0]!r}, which is not in the graph",
            where=model.name,
            hint="use the recipe with the model it was made for",
        )
    return done


def rewritten(model: Model, repairs: Sequence[Edit]) -> Model:
    """The FP32 graph after rules' rewrites."""
    if not repairs:
        return model
    copy = model.copy()
    for repair in repairs:
        rule(repair.by).apply(copy, repair)
    tidy(copy)
    return copy


def scaled(model: Model, exponents: Mapping[str, int]) -> Model:
    """The FP32 graph after exponents are folded in; FP32 results are equal bit for bit save subnormals."""
    if not exponents:
        return model
    copy = model.copy()
    fold(copy, exponents)
    tidy(copy)
    return copy


def tidy(model: Model) -> None:
    """Drop nodes whose results nobody reads any more, keeping order and interface."""
    for graph in model.graphs():
        graph.cleanup(remove_unused_node_outputs=False, recurse_subgraphs=False, remove_unused_graph_inputs=False)
