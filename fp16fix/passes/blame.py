"""Whose fault it is that a graph does not run: the user's, if their own model fails on their own samples; else ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from fp16fix.errors import ModelError, OwnFaultError, UnraisableError
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session


@contextmanager
def blaming(model: Model, samples: Iterable[Mapping[str, np.ndarray]], threads: int) -> Iterator[None]:
    """Runs work on graphs made of a model.

    Raises:
        ModelError: the model itself fails, in the names that its user knows.
        OwnFaultError: only a graph made of it does.
    """
    try:
        yield
    except UnraisableError:
        raise
    except ModelError as error:
        session = Session(model, threads=threads)
        for sample in samples:
            session.run(sample)
        raise OwnFaultError(f"the model runs, but not a graph that was made of it: {error.what}", where=model.name) from error
