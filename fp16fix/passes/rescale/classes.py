"""A model and its ranges → classes of tensors that must share an exponent, and the linear equations between classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from fp16fix.errors import ReplayError
from fp16fix.graph.model import Constant, Model, Node, Tensor
from fp16fix.graph.operators import CONTROL, SATURATING
from fp16fix.graph.quantised import dequantizes, is_scale, only_quantised
from fp16fix.passes.rescale.equations import Equation, address, equations, is_wall, operands, ties
from fp16fix.passes.rescale.traits import Laws, averaged, degrees, delicate, inside
from fp16fix.passes.rescale.windows import EMPTY, WIDEST, Window, window_of_range, window_of_squares, window_of_values
from fp16fix.ranges.range import Range

GROUND = ""
"""The class of everything that has exponent 0 whatever happens."""
COPY_BYTES = 1 << 16
"""An initializer up to this size may have another exponent for each use (a copy); a larger one has a single exponent."""


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a run-time Mul stands once the class has another exponent than 0."""

    tensor: str
    window: Window
    """Of what is stored with exponent 0 there."""
    size: float
    """Bytes."""


@dataclass(slots=True)
class Class:
    """Tensors that share one exponent."""

    windows: dict[str, tuple[Window, float]] = field(default_factory=dict)
    """Address → window and bytes."""
    contacts: dict[str, Contact] = field(default_factory=dict)
    """By address: uses that want exponent 0, and ``tensor→`` for the uses of a result that has it."""
    borders: list[str] = field(default_factory=list)
    """Graph inputs and outputs in it."""
    fixed: int | None = None
    runtime: bool = False
    """Whether any activation is in it; initializers alone follow from the rest."""


@dataclass
class Classes:
    """The program to be solved, and how to read its solution."""

    by_root: dict[str, Class]
    rows: list[dict[str, int]]
    """Σ coefficient × exponent(root) = 0."""
    root_of: dict[str, str]
    """Element (tensor, or use of an initializer, or ``tensor→`` for what reads a result of exponent 0) → root."""
    unfit: tuple[str, ...]
    """Tensors that must have exponent 0 and overflow with it."""

    @cached_property
    def numbers(self) -> dict[str, list[int]]:
        """The rows each root occurs in, by number."""
        found: dict[str, list[int]] = {root: [] for root in self.by_root}
        for number, row in enumerate(self.rows):
            for root in row:
                found[root].append(number)
        return found

    def rows_with(self, roots: Iterable[str]) -> list[dict[str, int]]:
        """Those in which any of these occurs, in order."""
        return [self.rows[number] for number in sorted({number for root in roots for number in self.numbers[root]})]


class Builder:
    """Reads a model once; ``build`` gives the classes."""

    def __init__(self, model: Model, ranges: Mapping[str, Range], headroom: tuple[float, float], wide: frozenset[str]) -> None:
        self.model = model
        self.headroom, self.down = headroom
        self.ranges = ranges
        self.nodes = list(model.nodes())
        self.laws: Laws = [(node, equations(node)) for node in self.nodes]
        self.law_of = {node.name: law for node, law in self.laws}
        self.grounded = {node.outputs[int(e[0][0][1:])].name for node, law in self.laws for e in law if is_wall(e) and e[0][0][0] == "y"}
        self.dequantised = {tensor.name for node in self.nodes if dequantizes(node) for tensor in node.outputs}
        """No Mul stands behind a DequantizeLinear: its scale takes the exponent, or there is none."""
        self.unbounded = inside(self.nodes, wide) | {tensor.name for tensor in model.graph.inputs if only_quantised(tensor)}
        self.delicate = delicate(self.laws)
        self.averaged = averaged(model)
        self.degree = degrees(model, self.laws)
        self.users = Counter(t.name for node in self.nodes for t in node.inputs if isinstance(t, Constant))
        self.parent: dict[str, str] = {GROUND: GROUND}

    def window(self, name: str, seen: Range) -> Window:
        degree = max(1.0, self.degree.get(name, 1.0))
        floor = self.delicate.get(name)
        found = window_of_range(seen, self.headroom * degree, delicate=floor is not None, down=quieter(seen, self.down * degree, floor))
        found = replace(found, roomy=window_of_range(seen, self.headroom).soft)
        return replace(found, keep=WIDEST, gone=WIDEST) if name in self.averaged else found

    def build(self, fixed: Mapping[str, int]) -> Classes:
        rows: list[list[tuple[str, int]]] = []
        for node, law in self.laws:
            for port, tensor in operands(node).items():
                self.find(self.element(tensor, node, int(port[1:])) if port[0] == "x" else tensor.name)
            for equation in law:
                terms = self.terms(node, equation)
                if len(terms) == 2 and terms[0][1] == -terms[1][1]:
                    self.union(terms[0][0], terms[1][0])
                elif is_wall(equation) and terms:
                    self.wall(terms[0][0])
                elif terms:
                    rows.append(terms)
            if node.op in CONTROL:
                self.tie(node)
        for graph in self.model.graphs():
            for tensor in graph.outputs:
                if isinstance(tensor, Constant) or (graph is self.model.graph and any(tensor is each for each in graph.inputs)):
                    self.union(tensor.name, GROUND)
        return self.collect(rows, fixed)

    def tie(self, node: Node) -> None:
        for tensor, index, other in ties(node):
            left = tensor.name if index is None else self.element(tensor, node, index)
            self.union(left, other.name)

    def terms(self, node: Node, equation: Equation) -> list[tuple[str, int]]:
        """The equation over elements; those about attributes bind no tensor."""
        if any(port[0] == "@" for port, _ in equation):
            return []
        ports = operands(node)
        return [(self.element(ports[p], node, int(p[1:])) if p[0] == "x" else ports[p].name, factor) for p, factor in equation]

    def element(self, tensor: Tensor, node: Node, index: int) -> str:
        """What stands for one use of a tensor."""
        if isinstance(tensor, Constant):
            shared = self.users[tensor.name] == 1 or tensor.values.nbytes > COPY_BYTES
            return str(tensor.name) if shared else address(tensor.name, node.name, index)
        return f"{tensor.name}→" if tensor.name in self.grounded else str(tensor.name)

    def wall(self, element: str) -> None:
        """Exponent 0: at once for results and initializers; for other operands a Mul may stand between (see ``collect``)."""
        if element in self.grounded or element in self.dequantised or element.split("→", maxsplit=1)[0] not in self.ranges:
            self.union(element, GROUND)

    def union(self, left: str, right: str) -> None:
        a, b = self.find(left), self.find(right)
        if a != b:
            keep, drop = (b, a) if b == GROUND else (a, b)
            self.parent[drop] = keep

    def find(self, element: str) -> str:
        root = element
        while (above := self.parent.setdefault(root, root)) != root:
            root = above
        while element != root:
            self.parent[element], element = root, self.parent[element]
        return root

    def collect(self, rows: list[list[tuple[str, int]]], fixed: Mapping[str, int]) -> Classes:
        classes: dict[str, Class] = {}
        gathered: dict[tuple[tuple[str, int], ...], dict[str, int]] = {}
        for terms in rows:
            row: dict[str, int] = {}
            for element, factor in terms:
                root = self.find(element)
                row[root] = row.get(root, 0) + factor
            row = {root: factor for root, factor in row.items() if factor and root != GROUND}
            gathered.setdefault(tuple(sorted(row.items())), row)
        lone = {element for row in rows for element, _ in row}
        self.collect_windows(classes, lone)
        self.collect_contacts(classes)
        interface = [*self.model.graph.inputs, *self.model.graph.outputs]
        for name in sorted({t.name for t in interface if t.name in self.parent}):
            self.put(classes, name).borders.append(name)
        for name in sorted(fixed):
            self.put(classes, name).fixed = fixed[name]
        for row in gathered.values():
            for root in row:
                classes.setdefault(root, Class())
        ground = classes.pop(GROUND, Class())
        if ground.fixed:
            what = f"one of {sorted(fixed)} must keep exponent 0"
            raise ReplayError(what, where=self.model.name, hint="fix the exponent of another tensor")
        unfit = tuple(sorted(name for name, (found, _) in ground.windows.items() if found.hard > 0))
        return Classes(classes, [row for row in gathered.values() if row], {each: self.find(each) for each in list(self.parent)}, unfit)

    def put(self, classes: dict[str, Class], element: str) -> Class:
        return classes.setdefault(self.find(element), Class())

    def collect_windows(self, classes: dict[str, Class], lone: set[str]) -> None:
        """Activations from their ranges; initializers by their values, for their small values only where they stand alone."""
        for name, seen in self.ranges.items():
            found = self.window(name, seen)
            copy = Window(found.hard, found.soft, max(0, found.keep))
            for element, limits in ((name, found), (f"{name}→", copy)):
                if element in self.parent:
                    self.put(classes, element).runtime = True
                    if name not in self.unbounded:
                        self.put(classes, element).windows[element] = (limits, 2.0 * math.prod(seen.shape))
        for node in self.nodes:
            if node.op == "ReduceL2" and node.outputs[0].name in self.ranges and node.inputs[0].name in self.parent:
                squares = window_of_squares(self.ranges[node.outputs[0].name], self.headroom)
                self.put(classes, self.element(node.inputs[0], node, 0)).windows[f"{node.name}²"] = (squares, 0.0)
        for node, law in self.laws:
            for port, tensor in operands(node).items() if law else ():
                if isinstance(tensor, Constant) and port[0] == "x" and node.name:
                    element = self.element(tensor, node, int(port[1:]))
                    if element in self.parent and self.find(element) != GROUND:
                        scale = is_scale(tensor, node)
                        window = self.constant_window(tensor, lone=scale or element in lone, delicate=scale or tensor.name in self.delicate)
                        self.put(classes, element).windows.setdefault(element, window)

    def constant_window(self, tensor: Constant, *, lone: bool, delicate: bool) -> tuple[Window, float]:
        found = window_of_values(tensor.values, delicate=delicate)
        size = 2.0 * math.prod(tensor.values.shape)
        return (found if lone else Window(found.hard, found.hard, WIDEST)), size

    def collect_contacts(self, classes: dict[str, Class]) -> None:
        for node, law in self.laws:
            for equation in law:
                port = equation[0][0]
                tensor = operands(node)[port] if is_wall(equation) else None
                if tensor is None or isinstance(tensor, Constant) or tensor.name not in self.ranges:
                    continue
                size = 2.0 * math.prod(self.ranges[tensor.name].shape)
                if port[0] == "x" and tensor.name not in self.grounded:
                    seen = self.window(tensor.name, self.ranges[tensor.name])
                    use = address(tensor.name, node.name, int(port[1:]))
                    seen = replace(seen, hard=-WIDEST) if node.op in SATURATING else seen
                    self.put(classes, tensor.name).contacts[use] = Contact(tensor.name, seen, size)
                elif port[0] == "y" and f"{tensor.name}→" in self.parent:
                    self.put(classes, f"{tensor.name}→").contacts[f"{tensor.name}→"] = Contact(tensor.name, EMPTY, size)


def quieter(seen: Range, octaves: float, floor: float | None) -> float:
    """By how many octaves a tensor may get smaller than calibration saw it, down to the eps that it is guarded by."""
    smallest = max(seen.low, -seen.high, 0.0) or seen.smallest
    if not floor or not 0.0 < smallest < math.inf:
        return octaves
    return min(octaves, max(0.0, math.log2(smallest) - math.log2(floor)))
