"""A strict Loop runs no more than a multiple of the rounds that FP32 took, and fails there if asked; others are as they were."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.errors import ModelError
from fp16fix.graph.lower import lower
from fp16fix.graph.session import Session
from fp16fix.ranges.measure import measure
from fp16fix.strict.emulate import emulate
from fp16fix.strict.rounds import LEAST, MULTIPLE, stopped, why_failed
from tests.models import model

TEXT = """g (float[1] x{more}) => (float[1] y, int64 k) <float[1] zero = {{0}}, int64 none = {{0}}, bool go = {{1}}> {{
  y, k = Loop ({trips}, go, zero, none) <body = b (int64 i, bool c, float[1] v, int64 n) => (bool d, float[1] w, int64 m)
    <float step = {{0.0009765625}}, float[1] end = {{{end}}}, int64 one = {{1}}> {{
    w = Add (v, step) l = Less (w, end) d = Squeeze (l) m = Add (n, one) }}> }}"""
SAMPLE = {"x": np.zeros(1, np.float32)}


def rounds(end: float, trips: str = "", more: str = "", *, guarded: bool = False, **feeds: np.ndarray) -> int:
    fp32 = model(TEXT.format(end=end, trips=trips, more=more))
    sample = {**SAMPLE, **feeds}
    seen = measure(fp32, [sample])
    fp32.rounds = dict(seen.rounds)
    (counted,) = seen.rounds.values()
    assert counted == int(Session(fp32).run(sample)["k"]), "FP32 is not held up"
    twin = emulate(lower(fp32, {}), guarded=guarded)
    try:
        return int(Session(twin).run(sample)["k"])
    except ModelError as error:
        said = (stopped(twin, error.what), why_failed(twin, error.what))
        return STOPPED if said == SAID else 0


STOPPED = -1
"""What the guard made of it."""
SAID = ("Loop_y", "Loop 'Loop_y' never ends: 24,576 rounds and more, of which FP32 takes 6,144 at most")


def test_a_guard_fails_where_fp16_never_ends_and_nowhere_else() -> None:
    assert rounds(6.0, guarded=True) == STOPPED
    assert rounds(0.5, guarded=True) == 512
    assert rounds(6.0, "n", ", int64 n", guarded=True, n=np.array(10**9)) == STOPPED
    assert rounds(6.0, "n", ", int64 n", guarded=True, n=np.array(7)) == 7, "its own number of rounds ends it"


def test_other_failures_are_said_as_they_are() -> None:
    assert why_failed(model("g (float[1] x) => (float[1] y) { y = Neg (x) }"), "Name:'other' failed") == "Name:'other' failed"


def test_what_ends_by_itself_runs_as_long() -> None:
    assert rounds(0.5) == 512


def test_what_fp16_never_ends_is_stopped() -> None:
    assert rounds(6.0) == MULTIPLE * 6 * 1024


@pytest.mark.parametrize(("own", "runs"), [(7, 7), (10**9, MULTIPLE * 6 * 1024)])
def test_a_trip_count_still_counts(own: int, runs: int) -> None:
    assert rounds(6.0, "n", ", int64 n", n=np.array(own)) == runs


def test_few_rounds_may_become_many() -> None:
    assert rounds(0.0009765625) == 1
    assert LEAST > MULTIPLE
