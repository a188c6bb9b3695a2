from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from fp16fix.graph import once as module
from fp16fix.graph.once import once

ASKED: list[tuple[int, int]] = []


@once
def largest(values: np.ndarray, axis: int, *, power: int = 1) -> float:
    ASKED.append((values.size, power))
    return float(values.max(axis=axis)) ** power


def test_an_array_is_looked_at_once_for_each_question() -> None:
    ASKED.clear()
    values, other = np.array([1.0, 3.0]), np.array([1.0, 2.0, 5.0])
    assert [largest(values, 0), largest(values, 0), largest(other, 0), largest(values, 0, power=2)] == [3.0, 3.0, 5.0, 9.0]
    assert ASKED == [(2, 1), (3, 1), (2, 2)]


def test_an_array_where_a_forgotten_one_lay_is_looked_at_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    values, gone = np.array([1.0, 2.0]), np.array([5.0])
    key = (largest.__wrapped__, id(values), (0,))  # type: ignore[attr-defined]  # functools.wraps
    monkeypatch.setattr(module, "_known", {key: (weakref.ref(gone), 5.0)})
    assert largest(values, 0) == 2.0


def test_what_was_found_goes_with_the_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", known := dict[object, object]())
    values = np.array([1.0, 2.0])
    largest(values, 0)
    assert len(known) == 1
    del values
    gc.collect()
    assert not known
