"""Samples with what FP32 gives on them: computed once and kept on disk, so that memory does not grow with the samples."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fp16fix.errors import ModelError
from fp16fix.graph.model import Model
from fp16fix.graph.random import random_nodes
from fp16fix.graph.session import Session
from fp16fix.inputs.blend import Blends
from fp16fix.progress import Tick
from fp16fix.strict.rounds import ending
from fp16fix.verdict.channels import Channels
from fp16fix.verdict.metric import Gauge
from fp16fix.verdict.metrics import Comparison
from fp16fix.verdict.verdict import Figures

Sample = Mapping[str, np.ndarray]


class Reference:
    """What candidates are compared with."""

    def __init__(self, model: Model, threads: int = 0) -> None:
        """Of no sample yet; ``threads`` are ONNX Runtime's."""
        self.model = model
        self.threads = threads
        self.count = 0
        self.names: tuple[str, ...] = ()
        self.outputs: tuple[str, ...] = ()
        self.draws = bool(random_nodes(model))
        self.failures: list[str] = []
        """What ONNX Runtime said where the last graph did not run."""
        self._batches: tuple[Iterable[Sample], ...] = ()
        self._folder = tempfile.TemporaryDirectory(prefix="fp16fix-")

    def extend(self, samples: Iterable[Sample], names: Sequence[str] = (), tick: Tick = lambda: None) -> None:
        """Run these, too.

        Args:
            samples: re-iterable.
            names: theirs.
            tick: called after each.

        Raises:
            ModelError: ONNX Runtime refuses the model or it fails on a sample.
        """
        session = Session(self.model, threads=self.threads)
        for sample in samples:
            self._keep(session.run(sample))
            tick()
        self._batches, self.names = (*self._batches, samples), (*self.names, *names)

    def extend_by_blends(self, blends: Blends, rounds: Mapping[str, int]) -> None:
        """Run these, too, and leave out those on which FP32 fails, gives NaN or finds no end: they are no inputs.

        Of a model that draws random numbers none is kept: what is left out would leave the others other numbers.

        Args:
            blends: which.
            rounds: how often the body of each Loop ran on what was blended, at most.

        Raises:
            ModelError: ONNX Runtime refuses the model.
        """
        if self.draws or not blends:
            return
        session, sound = Session(ending(self.model, rounds), threads=self.threads), []
        for number, sample in enumerate(blends):
            try:
                found = session.run(sample)
            except ModelError:
                continue
            if not any(has_nan(value) for value in found.values()):
                self._keep(found)
                sound.append(number)
        kept = blends.pick(sound)
        self._batches, self.names = (*self._batches, kept), (*self.names, *kept.names)

    def _keep(self, found: Mapping[str, Any]) -> None:
        self.outputs = tuple(sorted(found))
        for index, name in enumerate(self.outputs):
            np.save(self._file(self.count, index), np.asarray(found[name]))
        self.count += 1

    def _file(self, number: int, index: int) -> Path:
        return Path(self._folder.name) / f"{number}.{index}.npy"

    def close(self) -> None:
        """Forget it all."""
        self._folder.cleanup()

    def values(self) -> Iterator[dict[str, Any]]:
        """FP32 outputs by name, one sample after another."""
        for number in range(self.count):
            yield {name: np.load(self._file(number, index)) for index, name in enumerate(self.outputs)}

    def figures(
        self,
        graph: Model,
        channels: Mapping[str, Channels],
        *,
        session: Session | None = None,
        metrics: Sequence[Gauge] = (),
        tick: Tick = lambda: None,
    ) -> tuple[Figures, ...]:
        """Figures of every output of a graph that ONNX Runtime computes as it is.

        Args:
            graph: FP32 or emulated.
            channels: see ``verdict.channels``.
            session: one that is open over ``graph`` already.
            metrics: are told of every sample.
            tick: called after each.

        Raises:
            ModelError: ONNX Runtime refuses the graph.
        """
        self.failures = []
        session = session or Session(graph, threads=self.threads)
        comparison, references = Comparison(channels, self.names), self.values()
        for number, samples in enumerate(self._batches):
            if number and self.draws:
                # The reference began its random numbers anew here.
                session = Session(graph, threads=self.threads)
            for sample in samples:
                exact = next(references)
                try:
                    found = session.run(sample)
                except ModelError as error:
                    # An index past its table, rows that do not fit: the candidate is damaged, and that is all.
                    comparison.lose(exact)
                    self.failures.append(error.what)
                else:
                    own = {name: found[name] for name in self.outputs}
                    comparison.add(exact, own)
                    for metric in metrics:
                        metric.add(exact, own)
                tick()
        return comparison.figures()


def has_nan(value: Any) -> bool:
    """Whether an output has a NaN in it."""
    array = np.asarray(value)
    return array.dtype.kind == "f" and bool(np.isnan(array).any())
