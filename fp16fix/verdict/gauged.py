"""``tolerance.metrics`` → the metrics to ask: by name, or the user's ``file.py:name``, a class of that shape or a plain function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from numbers import Real
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fp16fix.errors import ConfigError
from fp16fix.plugins import found
from fp16fix.plugins.code import blamed, named, user_code
from fp16fix.verdict import gauges
from fp16fix.verdict.metric import Gauge, Measured, Metric, times_to_spare

GROUP = "fp16fix.metrics"
HINT = "see notes/extending.md"


class Use(Protocol):
    """One entry of ``tolerance.metrics``."""

    @property
    def metric(self) -> str:
        """Its name, or ``path.py:name``."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What it is given by keyword."""
        ...


Outputs = list[dict[str, np.ndarray]]
Guard = Callable[[], AbstractContextManager[None]]


class Whole:
    """A plain function ``f(reference, candidate)`` as a metric.

    It holds the outputs of all samples, both models', until it is asked. A class with ``add`` and ``result`` holds what it likes: for large
    outputs or many samples that is the one to write.
    """

    def __init__(self, function: Callable[..., Any], parameters: Mapping[str, Any], where: str) -> None:
        self.function = function
        self.parameters = parameters
        self.where = where
        self.reference: Outputs = []
        self.candidate: Outputs = []

    def add(self, reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        """Keep one sample's outputs."""
        self.reference.append({name: np.asarray(value) for name, value in reference.items()})
        self.candidate.append({name: np.asarray(value) for name, value in candidate.items()})

    def result(self) -> Measured:
        """What the function says: ``Measured``, or a value and the limit that it must not pass.

        Raises:
            ConfigError: it says something else.
        """
        said = self.function(self.reference, self.candidate, **self.parameters)
        if isinstance(said, Measured):
            return said
        if not (isinstance(said, tuple) and len(said) == 2 and all(map(is_number, said))):
            raise ConfigError(f"expected (value, limit) or Measured, found {said!r}", where=self.where, hint=HINT)
        value, limit = map(float, said)
        return Measured(value, limit, value <= limit, times_to_spare(value, limit))


class Guarded:
    """A metric whose faults are said at its own line."""

    def __init__(self, label: str, metric: Any, guard: Guard) -> None:
        self.label = label
        self._metric = metric
        self._guard = guard

    def add(self, reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        """As ``Metric.add``. Raises ConfigError where it fails."""
        with self._guard():
            self._metric.add(reference, candidate)

    def result(self) -> Measured:
        """As ``Metric.result``.

        Raises:
            ConfigError: it fails, or says something that is no ``Measured`` of two numbers.
        """
        with self._guard():
            said = self._metric.result()
            if not (isinstance(said, Measured) and is_number(said.value) and is_number(said.limit)):
                raise ConfigError(f"expected Measured of two numbers, found {said!r}", where=f"metric {self.label}", hint=HINT)
            return Measured(float(said.value), float(said.limit), bool(said.passes), float(said.spare_db))


def is_number(value: object) -> bool:
    """NumPy's scalars too; no truth values."""
    return isinstance(value, Real) and not isinstance(value, bool)


def metrics_named(uses: Sequence[Use]) -> tuple[Callable[[], Gauge], ...]:
    """What makes the metrics that a config names; each was made once, so that wrong parameters are said before any work.

    Raises:
        ConfigError: there is none of that name, it does not load, or it does not take its parameters.
    """
    makers = tuple(_maker(each, f"tolerance.metrics[{index}]") for index, each in enumerate(uses))
    for make in makers:
        make()
    return makers


def _maker(use: Use, where: str) -> Callable[[], Gauge]:
    path, colon, name = use.metric.rpartition(":")
    if colon and path.endswith(".py"):
        return _of_file(Path(path), name, use.parameters, where)
    kind = _installed(use.metric, where)
    _refuse_parameters(kind, (), use.parameters, where)
    place = Path(inspect.getfile(kind))
    make: Callable[..., Metric] = kind
    guard: Guard = lambda: blamed(place, ConfigError, f"metric {use.metric}, {where}")
    return _guarded(lambda: make(**use.parameters), labelled(use.metric, use.parameters), guard)


def _of_file(path: Path, name: str, parameters: Mapping[str, Any], where: str) -> Callable[[], Gauge]:
    if not path.is_file():
        raise ConfigError("does not exist", where=str(path), hint="paths in tolerance.metrics start from the folder of the YAML file")
    guard: Guard = lambda: user_code(path, ConfigError, f"metric {name}; {HINT}")
    with guard():
        offer = named(path, name, ConfigError)
    label = labelled(f"{path.name}:{name}", parameters)
    if isinstance(offer, type):
        if not is_metric(offer):
            raise ConfigError(f"class {name} has no add and result", where=str(path), hint=HINT)
        make: Callable[..., Any] = offer
        _refuse_parameters(make, (), parameters, where)
        return _guarded(lambda: make(**parameters), label, guard)
    _refuse_parameters(offer, ("reference", "candidate"), parameters, where)
    return _guarded(lambda: Whole(offer, parameters, str(path)), label, guard)


def _guarded(make: Callable[[], Any], label: str, guard: Guard) -> Callable[[], Gauge]:
    def made() -> Gauge:
        with guard():
            return Guarded(label, make(), guard)

    return made


def _refuse_parameters(called: Callable[..., Any], given: Sequence[str], parameters: Mapping[str, Any], where: str) -> None:
    taken = inspect.signature(called)
    try:
        taken.bind(*given, **parameters)
    except TypeError as error:
        names = list(taken.parameters)[len(given) :]
        hint = f"it takes {', '.join(names)}" if names else "it takes no parameters"
        raise ConfigError(f"metric cannot be called like this: {error}", where=where, hint=hint) from error


def labelled(name: str, parameters: Mapping[str, Any]) -> str:
    """``box-corners (output boxes)``: a metric that is used twice has two names; the limit is said anyway."""
    said = ", ".join(f"{key} {value}" for key, value in parameters.items() if key != "limit")
    return f"{name} ({said})" if said else name


def is_metric(kind: type) -> bool:
    """Whether a class has the members of ``Metric``."""
    return hasattr(kind, "add") and hasattr(kind, "result")


def _installed(name: str, where: str) -> type[Metric]:
    own = found(gauges.__name__, gauges.__path__, GROUP, is_metric)
    known: dict[str, type[Metric]] = {kind.name: kind for kind in own}
    if name not in known:
        hint = f"installed: {', '.join(sorted(known))}, or path.py:name; {HINT}"
        raise ConfigError(f"there is no metric {name!r}", where=where, hint=hint)
    return known[name]
