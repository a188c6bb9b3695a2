"""A changed FP32 graph against the original on few samples: whether an edit did what it promised, before anything rests on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fp16fix.errors import ModelError
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session

SAME_DB = 40.0
"""FP32 outputs closer than this are the same function in another order of operations; two that differ on purpose or by a fault in a rule
are 30 dB apart and less, and FP32 itself keeps 40 dB of a graph that loses 18 of its 24 bits."""
FLIPS = 0.01
"""Share of integers and booleans that may differ: near ties fall the other way in another order of operations."""

Outputs = Mapping[str, Any]


class Soundness:
    """Remembers what the original makes of the samples."""

    def __init__(self, model: Model, samples: Iterable[Mapping[str, np.ndarray]], threads: int) -> None:
        self.model = model
        self.samples = samples
        self.threads = threads
        self.count = 1
        """Samples that are asked."""
        self._known: list[Outputs] = []

    def fault(self, changed: Model) -> str:
        """What is wrong with a changed graph; empty if its outputs are those of the original."""
        try:
            found = self.outputs(changed)
        except ModelError as error:
            return f"the graph does not run with it ({error.what.splitlines()[0]})"
        if len(self._known) < self.count:
            self._known = self.outputs(self.model)
        return next((why for exact, own in zip(self._known, found, strict=True) if (why := difference(exact, own))), "")

    def outputs(self, model: Model) -> list[Outputs]:
        """Of the samples that are asked, as few as there may be."""
        session = Session(model, threads=self.threads, arena=False)
        chosen = (sample for _, sample in zip(range(self.count), self.samples, strict=False))
        return [session.run(sample) for sample in chosen]

    def ask_all(self, samples: Sequence[Mapping[str, np.ndarray]]) -> None:
        """From now on every sample is asked."""
        self.count = len(samples)


def difference(exact: Outputs, own: Outputs) -> str:
    """Which output is another function, and how far; empty if none is."""
    for name, value in exact.items():
        reference, found = np.asarray(value), np.asarray(own[name])
        if reference.shape != found.shape:
            return f"output {name!r} has shape {found.shape} with it and {reference.shape} without"
        if reference.dtype.kind != "f":
            flips = float(np.mean(reference != found)) if reference.size else 0.0
            if flips > FLIPS:
                return f"{flips:.0%} of output {name!r} change with it"
        elif (near := closeness(reference, found)) < SAME_DB:
            return f"output {name!r} changes with it in FP32: {near:.1f} dB"
    return ""


def closeness(reference: np.ndarray, found: np.ndarray) -> float:
    """SQNR of what is finite in both; −inf where one side lost what the other holds."""
    ref, x = reference.astype(np.float64).reshape(-1), found.astype(np.float64).reshape(-1)
    finite = np.isfinite(ref)
    if (finite != np.isfinite(x)).any():
        return -math.inf
    noise, signal = float(np.sum((ref[finite] - x[finite]) ** 2)), float(np.sum(ref[finite] ** 2))
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf
