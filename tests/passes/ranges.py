"""In: a small model and samples. Out: ranges of every float activation of the main graph, by running ORT with all of them as outputs."""

from __future__ import annotations

import numpy as np

from fp16fix.graph.model import Model, is_float
from fp16fix.graph.session import Session
from fp16fix.ranges.range import Range, Ranges


def ranges_of(model: Model, samples: list[dict[str, np.ndarray]]) -> Ranges:
    """Exact ranges, octave histograms included."""
    probed = model.copy()
    made = [t for node in probed.graph.nodes for t in node.outputs if t.name and is_float(t)]
    outputs = {t.name for t in probed.graph.outputs}
    probed.graph.outputs += [t for t in made if t.name not in outputs]
    session = Session(probed, threads=2)
    runs = [{**sample, **session.run(sample)} for sample in samples]
    names = [t.name for t in model.graph.inputs if is_float(t)] + [t.name for t in made]
    return Ranges({name: range_of(name, [run[name] for run in runs]) for name in names}, len(samples))


def range_of(name: str, arrays: list[np.ndarray]) -> Range:
    values = np.concatenate([array.reshape(-1) for array in arrays]).astype(np.float64)
    nonzero = np.abs(values[values != 0.0])
    octaves, counts = np.unique(np.frexp(nonzero)[1] - 1, return_counts=True)
    with np.errstate(over="ignore"):
        noise = float(np.mean((values - values.astype(np.float16).astype(np.float64)) ** 2))
    return Range(
        name,
        arrays[0].shape,
        float(values.min()),
        float(values.max()),
        float(nonzero.min()) if nonzero.size else np.inf,
        float(np.mean(values**2)),
        noise,
        0,
        octaves=tuple((int(o), int(n)) for o, n in zip(octaves, counts, strict=True)),
    )
