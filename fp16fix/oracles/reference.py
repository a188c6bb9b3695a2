"""Samples with what FP32 gives on them: computed once and kept on disk, so that memory does not grow with the samples."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fp16fix.errors import ModelError
from fp16fix.graph.model import Model
from fp16fix.graph.random import random_nodes
from fp16fix.graph.session import Session
from fp16fix.inputs.blend import Blends
from fp16fix.progress import Tick
from fp16fix.strict.certificate import Certificate
from fp16fix.strict.jitter import Jitter
from fp16fix.strict.rounds import ending
from fp16fix.verdict.channels import Channels
from fp16fix.verdict.condition import Bounded
from fp16fix.verdict.metric import Gauge
from fp16fix.verdict.metrics import Comparison
from fp16fix.verdict.verdict import Figures

Sample = Mapping[str, np.ndarray]


class Run:
    """What one graph gave on the samples of a ``Reference`` so far; it goes on where it stopped when there are more."""

    def __init__(self, channels: Mapping[str, Channels], names: Sequence[str], metrics: Sequence[Gauge] = ()) -> None:
        """On none yet; see ``Comparison``. ``metrics`` are told of every sample."""
        self.comparison = Comparison(channels, names)
        self.metrics = metrics
        self.batches = 0
        self.failures: list[str] = []
        """What ONNX Runtime said where the graph did not run."""
        self.bounds: dict[str, Bounded] = {}
        """Of the sums in it, by node, on as many samples as are ``bounded``."""
        self.bounded = 0

    def figures(self) -> tuple[Figures, ...]:
        """Of every output."""
        return self.comparison.figures()


class Opened:
    """A graph that is made, and compiled, when it is first run."""

    def __init__(
        self,
        make: Callable[[], Model],
        threads: int = 0,
        jitter: Jitter | None = None,
        *,
        optimise: bool = False,
        inner: Callable[[Model], Iterable[str]] = lambda _: (),
        certificate: Certificate | None = None,
    ) -> None:
        """Of whatever ``make`` will make, with so many of ONNX Runtime's threads; ``jitter`` are the errors in it, if any.

        Args:
            make: the graph.
            threads: 0 for all.
            jitter: see above.
            optimise: see ``Session``.
            inner: what else than outputs its session may be asked for.
            certificate: makes the same graph with bounds of its sums beside it, which cost no pass of their own; it goes where it fails.
        """
        self._make = make
        self._threads = threads
        self._jitter = jitter
        self._optimise = optimise
        self._inner = inner
        self._certificate = certificate
        self._session: Session | None = None
        self.seed = 0
        """Of the errors."""

    @cached_property
    def graph(self) -> Model:
        """As ONNX Runtime computes it. Raises as ``make``."""
        if self._certificate is not None:
            try:
                return self._certificate.graph(guarded=True)
            except Exception:  # noqa: BLE001 - what only qualifies a verdict costs none
                self._certificate = None
        return self._make()

    def session(self, *, fresh: bool = False) -> Session:
        """One that is open already, unless ``fresh``. Raises ModelError: ONNX Runtime refuses the graph."""
        if self._session is None or fresh:
            try:
                self._session = self._opened()
            except ModelError:
                if self._certificate is None:
                    raise
                self.uncertified()
                self._session = self._opened()
        return self._session

    def _opened(self) -> Session:
        return Session(self.graph, threads=self._threads, optimise=self._optimise, inner=self._inner(self.graph))

    def run(self, sample: Sample, run: Run) -> dict[str, Any]:
        """Outputs by name; ``run`` is told of bounds. Raises ModelError: the graph fails on this sample."""
        sample = {**sample, **self.feeds()}
        try:
            found = self.session().run(sample)
        except ModelError:
            if self._certificate is None:
                raise
            self.uncertified()
            found = self.session().run(sample)
        if self._certificate is not None:
            try:
                self._certificate.see(found, run.bounds)
                run.bounded += 1
            except Exception:  # noqa: BLE001 - see ``graph``
                self.uncertified()
        return found

    def uncertified(self) -> None:
        """From now on without bounds: whose fault it is that something fails is only known then."""
        self._certificate = self._session = None
        self.__dict__.pop("graph", None)

    def feeds(self) -> Sample:
        """What the graph takes beside a sample."""
        return {} if self._jitter is None else self._jitter.feeds(self.seed)

    def close(self) -> None:
        """Give the session's memory back; it is opened again where it is wanted again."""
        self._session = None


class Reference:
    """What candidates are compared with."""

    def __init__(self, model: Model, threads: int = 0, exact: Opened | None = None) -> None:
        """Of no sample yet; ``threads`` are ONNX Runtime's. ``exact`` is the model, where another reference runs it, too."""
        self.model = model
        self.threads = threads
        self.exact = exact or Opened(lambda: model, threads, optimise=True)
        self.count = 0
        self.names: list[str] = []
        """Each once: the second blend of the same two samples is called ``3 + 5 (2)``."""
        self.outputs: tuple[str, ...] = ()
        self.draws = bool(random_nodes(model))
        self._batches: list[tuple[int, Iterable[Sample]]] = []
        """The number of the first sample of each, and the samples."""
        self._named: Counter[str] = Counter()
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
        session, first = self.exact.session(fresh=self.draws), self.count
        for sample in samples:
            self._keep(session.run(sample))
            tick()
        self._adopt(first, samples, names)

    def _adopt(self, first: int, samples: Iterable[Sample], names: Sequence[str] = ()) -> None:
        """The outputs kept from the ``first`` on are of these samples."""
        self._batches.append((first, samples))
        for name in names:
            self._named[name] += 1
            self.names.append(name if self._named[name] == 1 else f"{name} ({self._named[name]})")

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
        bound = ending(self.model, rounds)
        opened = self.exact if bound is self.model else Opened(lambda: bound, self.threads, optimise=True)
        session, sound, first = opened.session(), list[int](), self.count
        for number, sample in enumerate(blends):
            try:
                found = session.run(sample)
            except ModelError:
                continue
            if not any(has_nan(value) for value in found.values()):
                self._keep(found)
                sound.append(number)
        kept = blends.pick(sound)
        self._adopt(first, kept, kept.names)

    def alone(self, name: str) -> Reference:
        """The one of its samples that has this name, or the first: a reference of its own."""
        number = self.names.index(name) if name in self.names else 0
        first, samples = next(each for each in reversed(self._batches) if each[0] <= number)
        other, sample = Reference(self.model, self.threads, self.exact), next(islice(samples, number - first, None))
        if self.draws:
            other.extend([sample], [name])
        else:
            other._keep(next(self.values(number)))
            other._adopt(0, [sample], [name])
        return other

    def _keep(self, found: Mapping[str, Any]) -> None:
        """FP32 outputs of one more sample."""
        self.outputs = tuple(sorted(found))
        for index, name in enumerate(self.outputs):
            np.save(self._file(self.count, index), np.asarray(found[name]))
        self.count += 1

    def _file(self, number: int, index: int) -> Path:
        return Path(self._folder.name) / f"{number}.{index}.npy"

    def close(self) -> None:
        """Forget it all."""
        self._folder.cleanup()

    def values(self, first: int = 0) -> Iterator[dict[str, Any]]:
        """FP32 outputs by name, one sample after another from the ``first`` on."""
        for number in range(first, self.count):
            yield {name: np.load(self._file(number, index)) for index, name in enumerate(self.outputs)}

    def advance(self, run: Run, opened: Opened, tick: Tick = lambda: None) -> None:
        """Let a graph run on the samples that it has not seen.

        Args:
            run: of that graph.
            opened: the graph, FP32 or emulated.
            tick: called after each sample.

        Raises:
            ModelError: ONNX Runtime refuses the graph.
        """
        for number in range(run.batches, len(self._batches)):
            first, samples = self._batches[number]
            # Where the model draws random numbers, the reference began them anew for each batch.
            opened.session(fresh=self.draws)
            for sample, exact in zip(samples, self.values(first), strict=False):
                try:
                    found = opened.run(sample, run)
                except ModelError as error:
                    # An index past its table, rows that do not fit: the candidate is damaged, and that is all.
                    run.comparison.lose(exact)
                    run.failures.append(error.what)
                else:
                    own = {name: found[name] for name in self.outputs}
                    run.comparison.add(exact, own)
                    for metric in run.metrics:
                        metric.add(exact, own)
                tick()
            run.batches += 1


def has_nan(value: Any) -> bool:
    """Whether an output has a NaN in it."""
    array = np.asarray(value)
    return array.dtype.kind == "f" and bool(np.isnan(array).any())
