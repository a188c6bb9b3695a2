"""Free dimensions of the inputs → the range of shapes that an engine is built for, from samples where there are some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fp16fix.graph.model import Model
from fp16fix.inputs.guess import dims
from fp16fix.inputs.made import plan_for
from fp16fix.inputs.sample import Samples
from fp16fix.inputs.shapes import Dims, InputShapes
from fp16fix.inputs.signature import Input

BATCH = 8
"""The largest batch that is proposed."""


def spans(model: Model, inputs: tuple[Input, ...], samples: Samples | None) -> tuple[InputShapes, ...]:
    """Min, opt and max of each input with a free dimension.

    A dimension that goes with the batch is 1 to 8, or as large as samples have it; any other one is what samples have, opt what most of
    them have; without samples it is one guessed size. An input of unknown rank, which no profile can hold, is left out.

    Raises:
        SampleError: an input that cannot be guessed.
    """
    plan = plan_for(model, tuple(entry for entry in inputs if entry.ranked))
    one, many = dims(plan, 1), dims(plan, BATCH)
    seen = shapes_of(sample.arrays for sample in samples) if samples is not None else {}
    free = [entry for entry, _ in plan.values() if not all(isinstance(dim, int) for dim in entry.shape)]
    return tuple(_span(entry.name, one[entry.name], many[entry.name], seen.get(entry.name, [one[entry.name]])) for entry in free)


def shapes_of(samples: Iterable[Mapping[str, np.ndarray]]) -> dict[str, list[Dims]]:
    """Every shape that samples show of each input."""
    found: dict[str, list[Dims]] = {}
    for sample in samples:
        for name, array in sample.items():
            found.setdefault(name, []).append(tuple(array.shape))
    return found


def extent(seen: Sequence[Dims]) -> tuple[Dims, Dims, Dims]:
    """The smallest of each dimension, the shape that comes most often, the largest of each."""
    ((most, _),) = Counter(seen).most_common(1)
    return tuple(map(min, zip(*seen, strict=True))), most, tuple(map(max, zip(*seen, strict=True)))


def _span(name: str, one: Dims, many: Dims, seen: Sequence[Dims]) -> InputShapes:
    low, most, high = extent(seen)
    batch = [a != b for a, b in zip(one, many, strict=True)]
    return InputShapes(
        name,
        tuple(min(least, first) if varies else least for least, first, varies in zip(low, one, batch, strict=True)),
        most,
        tuple(max(largest, last) if varies else largest for largest, last, varies in zip(high, many, batch, strict=True)),
    )
