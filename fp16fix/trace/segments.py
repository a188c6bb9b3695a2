"""A long graph + samples → stretches of it that run one after another; what crosses a border waits on disk, not in memory.

A graph of thousands of probed nodes takes the runtime long to compile and keeps every weight's working copy alive at once; a stretch
of a few hundred does not. The stretches see every sample before the next one starts, so each is compiled once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph.edit import drop_unread
from fp16fix.graph.model import Model, bodies, element_type, graphs_under
from fp16fix.graph.session import Session
from fp16fix.half import BF16

LONG = 400
"""Nodes of a stretch, strict twins and casts included: some 80 of the user's."""
WINDOW = 100
"""A border is moved back by up to this many nodes to where the fewest tensors cross it."""

Sample = Mapping[str, np.ndarray]


@dataclass(slots=True)
class Segment:
    """One stretch, and where its inputs come from and its results go."""

    model: Model
    carried: tuple[str, ...]
    """Tensors made here that later stretches read."""
    fed: tuple[str, ...]
    """Tensors read here that earlier stretches made."""
    samples: Iterable[Sample]
    folder: Path
    numbers: dict[str, int]
    """File number of every tensor that crosses a border."""
    done: bool = field(default=False, init=False)

    def run(self, prepare: Callable[[Model], None], threads: int) -> Iterator[dict[str, Any]]:
        """Outputs that ``prepare`` gave a copy of the stretch, sample by sample; the first run also keeps what is carried.

        A first run must be iterated to its end.
        """
        model = self.model.copy()
        prepare(model)
        carried = () if self.done else self.carried
        tensors = model.graph.tensors()
        model.graph.outputs = [*model.graph.outputs, *(tensors[name] for name in carried)]
        drop_unread(model.graph)
        session = Session(model, threads=threads, arena=False) if model.graph.outputs else None
        for index, sample in enumerate(self.samples):
            fed = {name: np.load(self.path(name, index)) for name in self.fed}
            found = session.run({**sample, **fed}) if session is not None else {}
            for name in carried:
                np.save(self.path(name, index), found.pop(name))
            yield found
        self.done = True

    def path(self, tensor: str, sample: int) -> Path:
        """File of one tensor of one sample."""
        return self.folder / f"{self.numbers[tensor]}.{sample}.npy"


def segments(host: Model, samples: Iterable[Sample]) -> Iterator[Segment]:
    """The stretches of a graph in order; each must have run before the next is asked for. The graph is consumed.

    Args:
        host: nodes in topological order.
        samples: re-iterable.
    """
    nodes = list(host.graph.nodes)
    limits = borders(nodes)
    parts = [nodes[start:end] for start, end in pairwise(limits)]
    read = [reads(part) for part in parts]
    inputs = {tensor.name for tensor in host.graph.inputs}
    place = {tensor.name: index for index, part in enumerate(parts) for node in part for tensor in node.outputs if tensor.name}
    last = {name: index for index, tensors in enumerate(read) for name in tensors}
    crossing = sorted(name for name, made in place.items() if last.get(name, made) > made)
    numbers = {name: number for number, name in enumerate(crossing)}
    with tempfile.TemporaryDirectory(prefix="fp16fix-shadow-") as folder:
        for index, part in enumerate(parts):
            fed = sorted(name for name in read[index] if place.get(name, index) < index)
            outside = [tensor for name, tensor in sorted(read[index].items()) if name in inputs or place.get(name, index) < index]
            carried = tuple(name for name in crossing if place[name] == index)
            model = Model(stretch(host.graph, part, outside), host.name)
            yield Segment(model, carried, tuple(fed), samples, Path(folder), numbers)


def stretch(graph: gs.Graph, nodes: list[gs.Node], outside: list[gs.Tensor]) -> gs.Graph:
    """A graph of some of the nodes."""
    return gs.Graph(
        nodes=nodes,
        inputs=outside,
        outputs=[],
        name="stretch",
        opset=graph.opset,
        import_domains=graph.import_domains,
        ir_version=graph.ir_version,
    )


def reads(part: list[gs.Node]) -> dict[str, gs.Tensor]:
    """What the nodes of a stretch and of the bodies in them read, by name; some of it they make themselves."""
    inner = (body for node in part for each in bodies(node).values() for body in graphs_under(each))
    found = [
        *(t for node in part for t in node.inputs),
        *(t for body in inner for t in (*body.outputs, *(t for n in body.nodes for t in n.inputs))),
    ]
    return {tensor.name: tensor for tensor in found if isinstance(tensor, gs.Variable) and tensor.name}


def borders(nodes: list[gs.Node]) -> list[int]:
    """Where stretches begin, and the end."""
    found = [0]
    if len(nodes) <= LONG:
        return [0, len(nodes)]
    price = prices(nodes)
    while len(nodes) - found[-1] > LONG:
        window = range(found[-1] + LONG - WINDOW, found[-1] + LONG + 1)
        found.append(min(window, key=lambda index: (price[index], -index)))
    return [*found, len(nodes)]


def prices(nodes: list[gs.Node]) -> list[int]:
    """For each position how many tensors are alive there; those that NumPy cannot store make a position very dear."""
    change = [0] * (len(nodes) + 2)
    made: dict[str, tuple[int, gs.Tensor]] = {}
    until: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in reads([node]):
            until[name] = index
        made |= {tensor.name: (index, tensor) for tensor in node.outputs if tensor.name}
    for name, (index, tensor) in made.items():
        weight = len(nodes) if element_type(tensor) in (0, BF16.onnx) else 1
        change[index + 1] += weight
        change[until.get(name, index) + 1] -= weight
    alive, total = [], 0
    for step in change:
        total += step
        alive.append(total)
    return alive
