"""A typed graph, an interval for each input → ``Boxed``: how far each FP16 tensor and sum may go for any input in that box.

No sample is looked at: what holds, holds for every input of these shapes. ``strict.interval`` has the laws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.errors import InputError
from fp16fix.graph import quick
from fp16fix.graph.edit import Editor
from fp16fix.graph.model import FLOATS, Model, bodies, element_type, inner_nodes
from fp16fix.graph.operators import DRAWING, MOVEMENT, PRODUCTS, SUMS
from fp16fix.graph.ops import DEFAULT_DOMAINS
from fp16fix.graph.opset import raise_opset
from fp16fix.graph.session import Session
from fp16fix.half import FP16, FP32, LARGEST
from fp16fix.strict.blocks import INT64, OPSET
from fp16fix.strict.certificate import terms
from fp16fix.strict.emulate import emulated
from fp16fix.strict.interval import LAWS, Bounds, Work
from fp16fix.strict.profiles.compiled import Compiled
from fp16fix.verdict.condition import Bounded

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Held:
    """What the values of one tensor lie within, for any input in the box; before it is stored, if that is in FP16."""

    tensor: str
    node: str
    """What makes it; empty for an input."""
    low: float
    high: float

    @property
    def margin(self) -> float:
        """Octaves from the larger bound to 65504; negative where it may overflow, −inf where nothing is known."""
        largest = max(abs(self.low), abs(self.high))
        if not math.isfinite(largest):
            return -math.inf
        return math.inf if largest == 0.0 else math.log2(LARGEST / largest)


@dataclass(frozen=True, slots=True)
class Open:
    """Where a proof ends: nothing before it is open."""

    node: str
    op: str
    why: str


@dataclass(frozen=True, slots=True)
class Boxed:
    """What is proven of all inputs in a box."""

    box: Mapping[str, tuple[tuple[int, ...], Interval]]
    """Of each input: shape and interval."""
    tensors: tuple[Held, ...]
    """Every tensor stored in FP16, those that go furthest first."""
    sums: tuple[Bounded, ...]
    """Every FP16 product and sum whose operands are bounded, those that go furthest first."""
    open: tuple[Open, ...]
    """Where a bound passes 65504 or is not known, first in the graph first, and only where what leads there is bounded."""

    @property
    def proven(self) -> bool:
        """No input in the box can overflow."""
        return not self.open


def boxed(typed: Model, box: Mapping[str, Interval], sample: Mapping[str, np.ndarray], *, threads: int = 0) -> Boxed:
    """Bounds for every input in a box.

    Args:
        typed: FP16 where it is to be judged; not changed.
        box: an interval for every input that holds floats; others are anything of their type.
        sample: one input, which says the shapes.
        threads: of ONNX Runtime.

    Raises:
        InputError: an interval that is empty or of no input, or a float input without one.
        ModelError: the graph does not run on the sample.
    """
    floats = {tensor.name for tensor in typed.graph.inputs if element_type(tensor) in FLOATS}
    intervals = {name: interval_of(name, box, sample[name], needed=name in floats) for name in sample}
    for name in sorted(set(box) - set(sample)):
        raise InputError(f"the model has no input {name!r}", where="--box", hint=f"its inputs are {', '.join(sorted(sample))}")
    search = Propagation(raise_opset(typed, OPSET))
    search.run()
    return search.judged(fed(sample, intervals), {name: (sample[name].shape, interval) for name, interval in intervals.items()}, threads)


def interval_of(name: str, box: Mapping[str, Interval], array: np.ndarray, *, needed: bool) -> Interval:
    """What an input may hold."""
    if name in box:
        low, high = box[name]
        if not low <= high:
            raise InputError(f"the interval of {name!r} is empty: {low:g} to {high:g}", where="--box", hint="write the smaller end first")
        return low, high
    if needed:
        raise InputError(f"input {name!r} has no interval", where="--box", hint=f"add --box {name}:0,1 with the ends of its values")
    kind = array.dtype
    return (
        (0, 1) if kind.kind == "b" else (int(np.iinfo(kind).min), int(np.iinfo(kind).max)) if kind.kind in "iu" else (-math.inf, math.inf)
    )


LOW, HIGH = "box/low", "box/high"


def fed(sample: Mapping[str, np.ndarray], intervals: Mapping[str, Interval]) -> dict[str, np.ndarray]:
    """The sample moved into the box, and the box's ends, as the propagating graph takes them."""
    found = {}
    for name, array in sample.items():
        low, high = intervals[name]
        if array.dtype.kind not in "fiub":
            found[name] = array
            continue
        kind = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype
        ends = [np.full(array.shape, end, kind) for end in (low, high)]
        found[name] = np.clip(array.astype(kind), *ends) if kind.kind != "b" else array
        found[f"{LOW}/{name}"], found[f"{HIGH}/{name}"] = ends
    return found


@dataclass
class Plain(Compiled):
    """As typed, operators whole; results are bounded before they are stored."""

    name: ClassVar[str] = "box"

    def written(self, model: Model) -> Model:
        return model.copy()


@dataclass
class Propagation:
    """Edits an emulated graph so that bounds of every tensor are computed beside it."""

    typed: Model
    bounds: dict[int, Bounds] = field(default_factory=dict)
    """Of tensors that depend on inputs."""
    lost: dict[int, str] = field(default_factory=dict)
    """Tensors whose shape, or every bound, depends on what no law says, and why; empty: on such a one."""
    whys: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Operator and reason of each node whose results are lost first."""
    probes: dict[str, tuple[gs.Tensor, gs.Tensor]] = field(default_factory=dict)
    """FP16 tensor → its least and largest bound."""
    sums: dict[str, tuple[str, gs.Tensor, gs.Tensor, gs.Tensor]] = field(default_factory=dict)
    """Node → operator, Σ|a||b|, terms and results."""

    def __post_init__(self) -> None:
        self.model = emulated(self.typed, Plain())
        self.edit = Editor(self.model)
        self.wide = {n.name for n in self.typed.nodes() if n.op in PRODUCTS and element_type(n.outputs[0]) == FP32.onnx}
        self.stored = {t.name for t in self.typed.tensors().values() if element_type(t) == FP16.onnx and not isinstance(t, gs.Constant)}

    def run(self) -> None:
        """Node by node, in the graph's order."""
        graph, inputs = self.model.graph, []
        ordered: list[gs.Node] = []
        for tensor in graph.inputs:
            ends = [quick.variable(f"{side}/{tensor.name}", dtype=tensor.dtype, shape=tensor.shape) for side in (LOW, HIGH)]
            if element_type(tensor) and np.dtype(tensor.dtype).kind in "fiub":
                inputs += ends
                self.bounds[id(tensor)] = Bounds(*ends)
                entry = quick.node("Identity", tensor.name, outputs=[tensor])
                work = Work(self.edit, entry, tensor)
                self.probe(work, entry)
                entry.outputs.clear()
                ordered += work.nodes
            else:
                self.lost[id(tensor)] = "holds no numbers"
        graph.inputs += inputs
        for node in list(graph.nodes):
            ordered.append(node)
            ordered += self.step(node)
        graph.nodes[:] = ordered

    def step(self, node: gs.Node) -> list[gs.Node]:
        """The nodes that bound one node's results."""
        reads = [tensor for each in (node, *inner_nodes(node)) for tensor in each.inputs if tensor.name]
        if any(id(tensor) in self.lost for tensor in reads):
            return self.lose(node, "")
        if bodies(node):
            return self.lose(node, "what is inside a body is not bounded")
        draws, work = node.op in DRAWING, Work(self.edit, node, node.outputs[0], wide=node.name in self.wide)
        if node.op in {"Shape", "Size"} or not (draws or any(id(tensor) in self.bounds for tensor in reads)):
            self.probe(work, node)
            return work.nodes
        law = LAWS.get(node.op) if node.domain in DEFAULT_DOMAINS and not draws else None
        if law is None:
            return self.lose(node, "draws random numbers" if draws else f"there is no law of intervals for {node.domain or ''}{node.op}")
        given = [self.bounds.get(id(tensor)) or Bounds(tensor, tensor) for tensor in node.inputs]
        if law.ports is not None and any(id(tensor) in self.bounds for tensor in node.inputs[law.ports :]):
            return self.lose(node, "a shape or a place depends on values")
        if any(not test(node.attrs[key]) for key, test in law.when.items() if key in node.attrs):
            made = None
        elif self.whole_numbers(node):
            made = [work.any_of(element_type(each), each) for each in node.outputs]
        else:
            made = law.make(work, node, given)
        if made is None:
            self.whys.setdefault(node.name, (node.op, "nothing is known of its results: an operand is no constant"))
            made = [work.any_of(element_type(each), each) for each in node.outputs]
        for tensor, found in zip(node.outputs, made, strict=False):
            self.bounds[id(tensor)] = found
        self.probe(work, node)
        return work.nodes

    def whole_numbers(self, node: gs.Node) -> bool:
        """Integers are only moved: what would be computed of them may wrap."""
        floats = element_type(node.outputs[0]) in FLOATS
        return not floats and node.op not in MOVEMENT and node.op != "Where"

    def lose(self, node: gs.Node, why: str) -> list[gs.Node]:
        """Nothing is known of what a node makes, its shape neither."""
        if why:
            self.whys[node.name] = (node.op, why)
        self.lost.update((id(tensor), why) for tensor in node.outputs)
        return []

    def probe(self, work: Work, node: gs.Node) -> None:
        """The furthest bounds of what is stored in FP16 next, and of partial sums."""
        for tensor in node.outputs:
            name = tensor.name.removesuffix("/raw")
            if name in self.stored and name not in self.probes:
                ends = self.bounds.get(id(tensor), Bounds(tensor, tensor))
                self.probes[name] = (work.emit("ReduceMin", ends.low, keepdims=0), work.emit("ReduceMax", ends.high, keepdims=0))
        if work.sums is not None and node.name not in self.wide and node.op in PRODUCTS | SUMS:
            self.sums[node.name] = (node.op, work.sums, terms(work), work.emit("Size", work.raw, element=INT64))

    def judged(self, feeds: Mapping[str, np.ndarray], box: Mapping[str, tuple[tuple[int, ...], Interval]], threads: int) -> Boxed:
        """One run, and what it says."""
        told = [*(t for pair in self.probes.values() for t in pair), *(t for _, *three in self.sums.values() for t in three)]
        self.model.graph.outputs[:] = told
        values = Session(self.model, threads=threads).run(feeds) if told else {}

        def read(tensor: gs.Tensor, unknown: float) -> float:
            value = float(values[tensor.name])
            return unknown if math.isnan(value) else value

        makers = {tensor.name: node for node in self.typed.graph.nodes for tensor in node.outputs}
        held = [
            Held(name, makers[name].name if name in makers else "", read(low, -math.inf), read(high, math.inf))
            for name, (low, high) in self.probes.items()
        ]
        sums = [
            Bounded(name, op, int(values[count.name]), read(most, math.inf), False, int(values[size.name]))
            for name, (op, most, count, size) in self.sums.items()
        ]
        held.sort(key=lambda each: (each.margin, each.tensor))
        sums.sort(key=lambda each: (each.margin, each.node))
        return Boxed(box, tuple(held), tuple(sums), tuple(self.ends(held, sums)))

    def ends(self, held: list[Held], sums: list[Bounded]) -> list[Open]:
        """Where the proof ends, in the graph's order; what only follows from an earlier one is left out."""
        far = {each.tensor: each for each in held if each.margin < 0.0}
        over = {each.node: each for each in sums if not each.holds}
        known, found = {each.tensor for each in held}, []
        tainted = {tensor.name for tensor in self.typed.graph.inputs if tensor.name in far}
        found += [
            Open(name, "", f"the input itself may lie between {far[name].low:.4g} and {far[name].high:.4g}") for name in sorted(tainted)
        ]
        for node in self.typed.graph.nodes:
            names = [tensor.name for tensor in node.outputs if tensor.name]
            open_ = [name for name in names if name in far or (name in self.stored and name not in known)]
            follows = any(tensor.name in tainted for each in (node, *inner_nodes(node)) for tensor in each.inputs)
            if not open_ and node.name not in over and node.name not in self.whys:
                continue
            tainted |= set(names)
            if follows:
                continue
            if node.name in self.whys:
                why = self.whys[node.name][1]
            elif open_ and open_[0] in far:
                each = far[open_[0]]
                why = f"its values may lie between {each.low:.4g} and {each.high:.4g}"
            else:
                why = f"partial sums may reach {over[node.name].bound:.4g}" if node.name in over else "it was not bounded"
            found.append(Open(node.name, node.op, why))
        return found
