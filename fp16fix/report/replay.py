"""An outcome and its model → the delivered graph again; and what other tools take of its recipe: the FP32 graph, the pins."""

from __future__ import annotations

from pathlib import Path

from fp16fix.engines.interop import polygraphy_script, trtexec_flags
from fp16fix.errors import ConfigError, ReplayError
from fp16fix.graph.load import load
from fp16fix.graph.model import Model
from fp16fix.graph.opset import raise_opset
from fp16fix.half import FP16
from fp16fix.passes.apply import apply, prepared
from fp16fix.report.outcome import Outcome

PINS = {"trtexec": trtexec_flags, "polygraphy": polygraphy_script}


def pins_for(outcome: Outcome, tool: str) -> str:
    """The wide nodes for ``trtexec`` (flags) or ``polygraphy`` (a script); both speak of the graph that ``wide_graph`` gives.

    Raises:
        ConfigError: a node name that trtexec's syntax cannot hold, or a base that is not FP16.
    """
    if outcome.narrow is not FP16:
        hint = f"build the repaired .onnx itself: {'trtexec --onnx=x.bf16.onnx --stronglyTyped'}"
        raise ConfigError(f"pins of {tool} are for weak typing, which makes FP16 of whatever is not pinned", where="export", hint=hint)
    return PINS[tool](outcome.recipe.wide)


def changed(outcome: Outcome) -> bool:
    """Whether the recipe does more than pin, so that its pins mean nothing without its graph."""
    return bool(outcome.recipe.changes)


def replay(outcome: Outcome, model: Path | None = None) -> Model:
    """The typed graph that was delivered, byte for byte once it is saved.

    Args:
        outcome: of a repair.
        model: the file that was repaired, if it has moved.

    Raises:
        ModelError: it is not there.
        ReplayError: it is another file, or loads differently than it did.
    """
    return apply(repaired(outcome, model), outcome.recipe)


def wide_graph(outcome: Outcome, model: Path | None = None) -> Model:
    """The FP32 graph with every rewrite and exponent of the recipe, for builders that are told types by pins. Raises as ``replay``."""
    return prepared(repaired(outcome, model), outcome.recipe)


def repaired(outcome: Outcome, model: Path | None) -> Model:
    """The model that was repaired, loaded as it was then. Raises as ``replay``."""
    path, facts = model or Path(outcome.model.path), outcome.model
    loaded = load(path, simplified=facts.simplified)
    if loaded.digest != facts.digest:
        hint = "give the model this outcome was made from"
        raise ReplayError("this is not the file that was repaired (its SHA-256 differs)", where=str(path), hint=hint)
    loaded = raise_opset(loaded, facts.opset)
    nodes = len(list(loaded.nodes()))
    if nodes != facts.nodes:
        raise ReplayError(
            f"loads with {nodes} nodes, it had {facts.nodes} when it was repaired",
            where=str(path),
            hint="repair again: another version of onnxsim simplifies it differently",
        )
    return loaded
