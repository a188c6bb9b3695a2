"""A recipe that passes → one that passes with less: BF16 for islands that need range and not precision, fewer pins on request."""

from __future__ import annotations

from collections.abc import Mapping

from fp16fix.config import Config
from fp16fix.config.sections import AMPERE
from fp16fix.graph.model import Model, Node
from fp16fix.graph.ops import runs_in
from fp16fix.graph.walk import makers, readers, walk
from fp16fix.half import BF16
from fp16fix.half import Wide as Formats
from fp16fix.hazards.hazard import Kind
from fp16fix.passes.design import BEYOND_SAMPLES, Draft, matches
from fp16fix.passes.place.islands import costs
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Stages, Tick
from fp16fix.search.guide import Guide, guided
from fp16fix.search.shrink import Names, best, shrink
from fp16fix.search.trials import Trials

FORMATS_CALLS = 16
"""Recipes that the search for BF16 nodes may measure: mostly the first, all of them, passes."""


def thinned(trials: Trials, draft: Draft, recipe: Recipe, stages: Stages) -> tuple[Recipe, str]:
    """The recipe to use, the one given if nothing less passes; and what stopped the search.

    Islands around positions, angles and literals are left as they are: samples of one length cannot acquit them.

    Args:
        trials: judges other pins; ``search.minimise`` asks for fewer, ``wide: auto`` allows BF16 on targets that have it.
        draft: what the recipe was made from.
        recipe: one that passes.
        stages: for progress.
    """
    config, kept, stopped = trials.evidence.config, untouchable(trials, draft, recipe), ""
    with stages.stage("thin") as tick:
        if config.search.minimise:
            recipe, stopped = fewer(trials, draft, recipe, kept, tick)
        if config.wide is Formats.AUTO and config.narrow is not BF16 and has_bf16(config):
            recipe = narrower(trials, draft, recipe, kept, tick)
    return recipe, stopped


def untouchable(trials: Trials, draft: Draft, recipe: Recipe) -> set[str]:
    """Nodes that stay pinned: the user's, the author's, and islands that guard what calibration may not hold."""
    pins, model = recipe.wide, draft.model
    asked = {name for name in pins if name in model.placed or matches(name, trials.evidence.config.pin)}
    return asked | around(model, pins, {h.node for h in draft.remaining if h.kind in BEYOND_SAMPLES})


def around(model: Model, pins: Mapping[str, str], nodes: set[str]) -> set[str]:
    """The islands (connected pinned nodes) that hold any of ``nodes``."""

    def beside(node: Node) -> list[Node]:
        return [other for other in (*makers(node), *readers(node)) if other.name in pins]

    by_name = model.node_map()
    return {node.name for node in walk([by_name[name] for name in nodes if name in pins], beside)}


def fewer(trials: Trials, draft: Draft, recipe: Recipe, kept: set[str], tick: Tick) -> tuple[Recipe, str]:
    """The smallest set of pins that passes, costliest dropped first; stopped by Ctrl-C or the budget, the smallest so far."""
    pins = recipe.wide

    def with_(names: Names) -> Recipe:
        return draft.pinned({name: fmt for name, fmt in pins.items() if name in kept or name in names}, recipe.reasons)

    def words(names: Names) -> str:
        return f"{len(names)} of {len(loose)} pins"

    loose = [name for name in pins if name not in kept]
    cost = costs(draft.model.nodes(), draft.ranges)
    guide = Guide(trials, "minimise", with_, words, tick, least_db=trials.kept_db(recipe))
    result = best(guided(lambda by: shrink(loose, by, cost=cost), guide))
    return recipe if result.best is None else with_(result.best), result.stopped


def narrower(trials: Trials, draft: Draft, recipe: Recipe, kept: set[str], tick: Tick) -> Recipe:
    """Islands that need range and not precision in BF16 (half the traffic): as many of their nodes as pass."""
    pins, nodes, opset = recipe.wide, draft.model.node_map(), draft.model.opset
    precise = around(draft.model, pins, {h.node for h in draft.remaining if h.kind is not Kind.OVERFLOW})
    ranged = around(draft.model, pins, {h.node for h in draft.remaining if h.kind is Kind.OVERFLOW}) - precise - kept
    willing = [name for name in sorted(ranged) if pins[name] == "fp32" and runs_in(nodes[name], BF16.onnx, opset)]

    def with_(precise: Names) -> Recipe:
        return draft.pinned({**pins, **{name: "bf16" for name in willing if name not in precise}}, recipe.reasons)

    def words(precise: Names) -> str:
        return f"{len(willing) - len(precise)} of {len(willing)} nodes in BF16"

    if not willing:
        return recipe
    with trials.judge.within(FORMATS_CALLS):
        guide = Guide(trials, "formats", with_, words, tick, least_db=trials.kept_db(recipe))
        result = best(guided(lambda by: shrink(willing, by), guide))
    return recipe if result.best is None else with_(result.best)


def has_bf16(config: Config) -> bool:
    """Whether every target computes in BF16: compute capability 8.0 and later (CUDA documentation; sm75 does not).

    A graph for no named target may go anywhere, so it gets none.
    """
    if not config.build.targets and (config.output is None or config.output.suffix == ".onnx"):
        return False
    return all(int(target.removeprefix("sm")) >= AMPERE for target in config.build.targets)
