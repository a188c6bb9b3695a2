"""A recipe that fails its verdict → the pins that make it pass: those that one pass over exact inputs accuses first, 1-minimal.

A node that computes wide and still gives birth to error magnifies the rounding of its operands (a difference, a sine of a large
angle): then the producers of those operands are accused. The pass costs two graph runs a sample, each set of pins one strict verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from fp16fix.graph.model import Model, Node, inner_nodes
from fp16fix.graph.ops import float_inputs, is_float_node
from fp16fix.graph.walk import walk
from fp16fix.hazards.hazard import overflowing
from fp16fix.passes.design import Draft, matches
from fp16fix.passes.place.islands import costs
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Stages, Tick
from fp16fix.search.guide import Guide, guided
from fp16fix.search.shrink import INTERRUPTED, Names, Result, best, shrink
from fp16fix.search.trials import Trials
from fp16fix.trace.births import Birth, births
from fp16fix.trace.segments import Sample
from fp16fix.trace.share import alone

WEIGHED = 400
"""Nodes up to which each is run by itself: what every node adds to the error tells better where pins pay off than where error is born."""
WITNESSES = 2
"""Samples that this is run on."""
FAINT_DB = 0.5
"""What a node must lose to be accused at all; many small losses add up."""


REFINE_CALLS = 64
"""Recipes that refining may measure unless the user set a budget: what it found by then is used."""


def refined(trials: Trials, draft: Draft, stages: Stages) -> tuple[Recipe, str]:
    """The draft with more pins, the fewest found with which the verdict passes; and what stopped the search.

    With the margin first; without it where nothing reaches the margin, or only what leaves more in FP32 than is allowed. Where not even all
    pins pass, nothing is searched for, and ``Trials.hopeless`` says so.

    Raises:
        KeyboardInterrupt: the user stopped it before it had found anything.
    """
    with stages.stage("refine") as tick:
        trials.hopeless = hopeless(trials, draft)
        if trials.hopeless:
            return draft.recipe, ""
        search = Refinement(trials, draft, tick)
        calls = REFINE_CALLS if trials.evidence.config.search.budget_s is None else math.inf
        with trials.judge.within(calls):
            result = search.run(margin=True)
            found = result.best
            if found is None or not search.is_affordable(found):
                # A search that was stopped may have met on its way what passes without the margin.
                result = result if result.stopped else search.run(margin=False)
                found = search.least if found is None or search.is_affordable(search.least) else found
    if result.stopped == INTERRUPTED and not found:
        raise KeyboardInterrupt
    return search.recipe(found or frozenset()), result.stopped


def hopeless(trials: Trials, draft: Draft) -> str:
    """Why no pins mend a draft that fails, in a sentence: what fails worst fails with all of them, too, which one pass shows."""
    names, judge = frozenset(pinnable(trials, draft)), trials.judge
    whole = draft.pinned(draft.recipe.wide | dict.fromkeys(sorted(names), "fp32"))
    for probe in () if judge.is_spent else judge.ask(draft.recipe).score.nearest[:1]:
        with judge.charged():
            score = trials.emulator.probe(whole, probe)
        trials.tell(whole, "refine", f"{words(names)}, on what refuted the draft", score, alone=True)
        if not score.good:
            return f"no pins mend it, with {len(whole.wide)} nodes in FP32, all that may be, it is still {score.why}. {UNMENDED}"
    return ""


UNMENDED = (
    "So it is the bound, what stays narrow (the interface, nodes that are allowed), or the inputs: "
    "where outputs are far below what they are made of, FP32 itself gives others in another order of additions."
)


class Refinement:
    """Sets of nodes to pin beside a draft's own."""

    def __init__(self, trials: Trials, draft: Draft, tick: Tick) -> None:
        """Accuses."""
        self.own = draft.recipe.wide
        self.trials, self.draft, self.tick = trials, draft, tick
        self.least: Names | None = None
        """The fewest that passed, with the margin or without; any that leave no more in FP32 than is allowed come first."""
        self.elements = pinnable(trials, draft)
        self.cost = costs(draft.model.nodes(), draft.ranges)
        self.accused = accused(trials, draft, self.elements)
        self._recipes: dict[Names, Recipe] = {}

    def run(self, *, margin: bool) -> Result[Names]:
        """The fewest that pass; see ``shrink``."""
        least_db = self.trials.evidence.config.search.margin_db if margin else -math.inf
        guide = Guide(self.trials, "refine", self.recipe, words, self.tick, least_db=least_db, fails=self.draft.recipe)
        asked = guide.confirm

        def holds(names: Names) -> bool:
            held = asked(names)
            if self.trials.judge.good(self.recipe(names)) and self.rank(names) < self.rank(self.least):
                self.least = names
            return held

        guide.confirm = holds
        return best(guided(lambda by: shrink(self.elements, by, ranking=self.accused.ranking, cost=self.cost), guide))

    def recipe(self, names: Names) -> Recipe:
        """The draft with these pinned, too."""
        if names not in self._recipes:
            because = {name: self.accused.because.get(name, NEEDED) for name in names}
            self._recipes[names] = self.draft.pinned(self.own | dict.fromkeys(sorted(names), "fp32"), because)
        return self._recipes[names]

    def is_affordable(self, names: Names | None) -> bool:
        """Whether there is something, and it leaves no more in FP32 than is allowed."""
        return names is not None and not self.trials.too_wide(self.recipe(names))

    def rank(self, names: Names | None) -> tuple[bool, float]:
        """Sorts what is affordable first, then what is less."""
        return not self.is_affordable(names), math.inf if names is None else len(names)


def pinnable(trials: Trials, draft: Draft) -> list[str]:
    """The float nodes that a draft may pin beside its own, in graph order."""
    own, allow = draft.recipe.wide, trials.evidence.config.allow
    return [node.name for node in draft.model.nodes() if is_float_node(node) and node.name not in own and not matches(node.name, allow)]


def words(names: Names) -> str:
    """What was tried."""
    return f"{len(names)} more pins" if len(names) > NAMED else f"and pin {', '.join(sorted(names)) or 'nothing'}"


NEEDED = "the verdict fails without it"
NAMED = 6
"""Nodes that a trial names; of more it says how many."""


@dataclass(frozen=True, slots=True)
class Accused:
    """Whom one pass over exact inputs accuses."""

    because: dict[str, str]
    """Node → why, in a sentence, the most suspicious first."""
    ranking: tuple[str, ...]
    """These, then what lies upstream of births that magnify."""


def accused(trials: Trials, draft: Draft, elements: Sequence[str]) -> Accused:
    """Whom a draft that fails accuses of ``elements``."""
    evidence, unstorable = trials.evidence, overflowing(draft.remaining)
    return accuse(draft.model, trials.typed(draft.recipe), evidence.seen, unstorable, elements, evidence.config.threads)


def accuse(
    model: Model, typed: Model, samples: Iterable[Sample], unstorable: Mapping[str, float], elements: Sequence[str], threads: int
) -> Accused:
    """Two graph runs a sample; of a graph that is not large, one more for each node: what that does to the outputs by itself.

    Args:
        model: FP32, after rewrites and exponents.
        typed: the same graph as it fails.
        samples: calibration samples: held-out ones decide but never guide.
        unstorable: see ``births``.
        elements: nodes that may be pinned.
        threads: ONNX Runtime threads.
    """
    found = births(model, typed, samples, unstorable=unstorable, least_db=FAINT_DB, threads=threads)
    because = reasons(model, found)
    if len(elements) > WEIGHED:
        return Accused(because, ranking(model, because, found))
    weights = alone(model, typed, elements, [*islice(samples, WITNESSES)], unstorable=unstorable, threads=threads)
    weighed = sorted((name for name in elements if weights[name] > 0.0), key=lambda name: -weights[name])
    return Accused(because, tuple(weighed))


def reasons(model: Model, found: Iterable[Birth]) -> dict[str, str]:
    """Every accused node with the reason, the most suspicious first."""
    nodes = model.node_map()
    accused: dict[str, str] = {}
    for birth in found:
        here = f"error is born here: {birth.sqnr_in_db:.0f} dB come in, {birth.sqnr_out_db:.0f} dB go out"
        inside = {inner.name: f"inside {birth.node}" for inner in inner_nodes(nodes[birth.node])}
        said = {birth.node: here, **inside}
        said |= {name: f"reads what {birth.node} makes and {model.narrow} cannot hold" for name in birth.pins if name not in said}
        magnified = f"{birth.node} magnifies the {model.narrow} rounding of what this node hands it"
        said |= {name: magnified for name in birth.operands if name not in said}
        accused |= {name: why for name, why in said.items() if name not in accused}
    return accused


def ranking(model: Model, accused: Iterable[str], found: Iterable[Birth]) -> tuple[str, ...]:
    """The accused, then what lies upstream of births that magnify."""
    first = dict.fromkeys(accused)
    return (*first, *(name for name in upstream(model, [birth.node for birth in found if birth.operands]) if name not in first))


def upstream(model: Model, names: Sequence[str]) -> list[str]:
    """Float nodes before the named ones, the nearest first."""
    nodes = model.node_map()

    def back(node: Node) -> list[Node]:
        return [maker for tensor in float_inputs(node) for maker in tensor.inputs if maker.name in nodes]

    return [node.name for node in walk([maker for name in names for maker in back(nodes[name])], back)]
