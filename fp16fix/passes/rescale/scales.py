"""A model and its ranges → the exponent of every tensor: the global assignment of powers of two that lets FP16 hold what it can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fp16fix.graph.model import Constant, Model, Node, Variable
from fp16fix.passes.rescale.classes import Builder, Classes
from fp16fix.passes.rescale.equations import address, is_wall, operands
from fp16fix.passes.rescale.solver import solve
from fp16fix.ranges.range import Range


@dataclass(frozen=True, slots=True)
class ScaleOptions:
    """What the caller decides."""

    headroom: float = 2.0
    """Octaves wanted between the largest value seen and 65504."""
    headroom_down: float = 2.0
    """Octaves wanted below the smallest value seen, where it matters by itself."""
    time_limit_s: float = 20.0
    """Seconds for the solver; the best assignment found so far is used when they are over."""
    fixed: Mapping[str, int] = field(default_factory=dict)
    """Tensors whose exponent is decided already."""
    wide: frozenset[str] = frozenset()
    """Nodes that run in FP32: tensors that only they touch may overflow FP16."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """An assignment; ``fold`` carries out its ``exponents``."""

    exponents: dict[str, int]
    """Tensor → e ≠ 0, and ``tensor→node#index`` → what that use adds to e (a run-time Mul, or a copy of an initializer)."""
    unfit: tuple[str, ...]
    """Tensors that overflow in spite of their exponent, and uses whose shifted copy would."""
    muls: int
    """Run-time Muls inside the graph."""
    border_muls: int
    """Muls at graph inputs and outputs, on the FP32 side of the interface."""
    cost: float
    """Value of the objective, see ``repair.program``."""
    status: str
    """``nothing to do``, ``optimal`` or ``time limit``."""


def assign(model: Model, ranges: Mapping[str, Range], options: ScaleOptions | None = None) -> Scaling:
    """Choose exponents that keep every tensor inside FP16, head-room included, at the least loss of small values and the fewest Muls.

    Args:
        model: FP32 graph; not changed.
        ranges: ranges of its activations.
        options: see ``ScaleOptions``.

    Raises:
        ReplayError: ``options.fixed`` contradicts the laws of the operators.
    """
    options = options or ScaleOptions()
    builder = Builder(model, ranges, (options.headroom, options.headroom_down), options.wide)
    classes = builder.build(options.fixed)
    solution = solve(classes, options.time_limit_s)
    return Solved(builder, classes, solution.exponents).scaling(solution.cost, solution.status)


class Solved:
    """Turns exponents of classes into exponents of tensors and uses."""

    def __init__(self, builder: Builder, classes: Classes, solved: Mapping[str, int]) -> None:
        self.builder = builder
        self.classes = classes
        self.solved = solved
        self.exponents: dict[str, int] = {}
        self.muls: set[tuple[str, str, int]] = set()

    def of(self, element: str) -> int:
        return self.solved.get(self.classes.root_of.get(element, element), 0)

    def scaling(self, cost: float, status: str) -> Scaling:
        tensors = self.builder.model.tensors()
        for name, tensor in tensors.items():
            if isinstance(tensor, Variable) and name in self.classes.root_of and self.of(name):
                self.exponents[name] = self.of(name)
        for graph in self.builder.model.graphs():
            for node in graph.nodes:
                self.read_uses(node, graph.name)
        self.share_constants()
        model = self.builder.model
        border = {t.name for t in (*model.graph.inputs, *model.graph.outputs) if t.name in self.exponents}
        return Scaling(dict(sorted(self.exponents.items())), self.unfit(), len(self.muls), len(border), cost, status)

    def read_uses(self, node: Node, graph: str) -> None:
        walls = {e[0][0] for e in self.builder.law_of[node.name] if is_wall(e)}
        for port, tensor in operands(node).items():
            if port[0] != "x":
                continue
            use = address(tensor.name, node.name, int(port[1:]))
            if isinstance(tensor, Constant):
                wanted = self.of(self.builder.element(tensor, node, int(port[1:])))
                base = 0
            else:
                base = self.of(tensor.name)
                wanted = 0 if port in walls else self.of(self.builder.element(tensor, node, int(port[1:])))
                if wanted != base:
                    self.muls.add((graph, tensor.name, wanted))
            if wanted != base:
                self.exponents[use] = wanted - base

    def share_constants(self) -> None:
        """Wiring of an initializer that agree become one exponent under its name."""
        uses: dict[str, dict[str, int]] = {}
        for node in self.builder.nodes:
            for port, tensor in operands(node).items():
                if port[0] == "x" and isinstance(tensor, Constant):
                    use = address(tensor.name, node.name, int(port[1:]))
                    uses.setdefault(tensor.name, {})[use] = self.exponents.get(use, 0)
        for name, seen in uses.items():
            if len(set(seen.values())) == 1 and any(seen.values()):
                for use in seen:
                    del self.exponents[use]
                self.exponents[name] = next(iter(seen.values()))

    def unfit(self) -> tuple[str, ...]:
        found = set(self.classes.unfit)
        for each in self.classes.by_root.values():
            for element, (window, _) in each.windows.items():
                if window.hard > 0 and self.of(element) < window.hard:
                    found.add(element)
            found |= {use for use, contact in each.contacts.items() if contact.window.hard > 0 and self.of(contact.tensor)}
        return tuple(sorted(found))
