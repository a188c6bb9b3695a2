"""A long graph + samples → stretches of it that run one after another; what crosses a border waits on disk, not in memory.

A graph of thousands of probed nodes takes the runtime long to compile and keeps every weight's working copy alive at once; a stretch
of a few hundred does not. The stretches see every sample before the next one starts, so each is compiled once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fp16fix.graph.edit import drop_unread
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.graph.stretches import stretches

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
    parts = stretches(host.graph, LONG, WINDOW)
    numbers = {name: number for number, name in enumerate(sorted(name for part in parts for name in part.carried))}
    with tempfile.TemporaryDirectory(prefix="fp16fix-shadow-") as folder:
        for part in parts:
            yield Segment(Model(part.graph, host.name), part.carried, part.fed, samples, Path(folder), numbers)
