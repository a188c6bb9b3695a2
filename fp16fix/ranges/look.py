"""Whatever wants a closer look at few tensors shares one graph and one pass a sample."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from fp16fix.graph.edit import drop_unread
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session


class Look(Protocol):
    """What is looked at, and what came of it."""

    @property
    def names(self) -> Collection[str]:
        """Of tensors; where there are none, nothing is installed."""
        ...

    def install(self, model: Model) -> None:
        """Put probes into a copy of the model, and let its outputs be theirs."""
        ...

    def see(self, found: Mapping[str, np.ndarray]) -> None:
        """What the probes give on one sample."""
        ...


def look(model: Model, samples: Iterable[Mapping[str, np.ndarray]], looks: Sequence[Look], threads: int) -> None:
    """One pass, for those that want any.

    Raises:
        ModelError: the model fails on a sample.
    """
    wanted = [each for each in looks if each.names]
    if not wanted:
        return
    probed = model.copy()
    outputs = []
    for each in wanted:
        each.install(probed)
        outputs += probed.graph.outputs
    probed.graph.outputs = outputs
    drop_unread(probed.graph)
    session = Session(probed, threads=threads)
    for sample in samples:
        found = session.run(sample)
        for each in wanted:
            each.see(found)
