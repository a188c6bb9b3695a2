"""An outcome → what other tools take of its recipe: the repaired FP32 graph, and the pins as trtexec flags or a Polygraphy script."""

from __future__ import annotations

from pathlib import Path

from fp16fix.engines.interop import polygraphy_script, trtexec_flags
from fp16fix.errors import ReplayError
from fp16fix.graph.load import load
from fp16fix.graph.model import Model
from fp16fix.passes.apply import prepared
from fp16fix.report.outcome import Outcome

PINS = {"trtexec": trtexec_flags, "polygraphy": polygraphy_script}


def pins_for(outcome: Outcome, tool: str) -> str:
    """The wide nodes for ``trtexec`` (flags) or ``polygraphy`` (a script); both speak of the graph that ``wide_graph`` gives.

    Raises:
        ConfigError: a node name that trtexec's syntax cannot hold.
    """
    return PINS[tool](dict(outcome.recipe.wide))


def changed(outcome: Outcome) -> bool:
    """Whether the recipe does more than pin, so that its pins mean nothing without its graph."""
    recipe = outcome.recipe
    return bool(recipe.repairs or recipe.exponents or recipe.finish)


def wide_graph(outcome: Outcome, model: Path | None = None) -> Model:
    """The FP32 graph with every rewrite and exponent of the recipe, for builders that are told types by pins.

    Args:
        outcome: of a repair.
        model: the file that was repaired, if it has moved.

    Raises:
        ModelError: it is not there.
        ReplayError: it is another file, or loads differently than it did.
    """
    path = model or Path(outcome.model.path)
    for simplified in (True, False):
        loaded = load(path, simplified=simplified)
        if loaded.digest != outcome.model.digest:
            hint = "give the model this outcome was made from"
            raise ReplayError("this is not the file that was repaired (its SHA-256 differs)", where=str(path), hint=hint)
        if len(list(loaded.nodes())) == outcome.model.nodes:
            return prepared(loaded, outcome.recipe)
    raise ReplayError(
        f"loads with another number of nodes than the {outcome.model.nodes} of the repair",
        where=str(path),
        hint="repair again: another version of onnxsim simplifies it differently",
    )
