"""What a graph does with an input, seen through data movement."""

from __future__ import annotations

import pytest

from fp16fix.inputs.uses import Uses, uses

from .models import model

NOTHING = Uses(rows=None, indexes=False, masks=False, adds=False, shapes=False)


def of(text: str) -> Uses:
    return uses(model(text).graph.inputs[0])


FIVE = "float[5,3] w = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}"
FOUR = "float[4,3] v = {0,0,0,0,0,0,0,0,0,0,0,0}"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (f"g (int64[2] i) => (float[N] y) <{FIVE}> {{ y = Gather(w, i) }}", 5),
        (f"g (int64[2] i) => (float[N] y) <{FIVE}> {{ y = Gather <axis = -1> (w, i) }}", 3),
        (f"g (int32[2] i) => (float[N] y) <{FIVE}> {{ a = Cast <to = 7> (i) b = Identity(a) y = Gather(w, b) }}", 5),
        (f"g (int64[2] i) => (float[N] y, float[N] z) <{FIVE}, {FOUR}> {{ y = Gather(w, i) z = Gather(v, i) }}", 4),
        (f"g (int64[2] i) => (double[N] y) <{FIVE}> {{ d = Cast <to = 11> (w) y = Gather(d, i) }}", 5),
        (f"g (int64[2] i) => (float[N] y) <{FIVE}> {{ y = GatherElements <axis = 1> (w, i) }}", 3),
        ("g (int64[2] i) => (float[N] y) <int64 d = {9}, float[2] v = {0, 1}> { y = OneHot(i, d, v) }", 9),
        ("g (int64[2] i, float[7,3] w) => (float[N] y) { y = Gather(w, i) }", 7),
        ("g (int64[2] i, float[N,3] w) => (float[N] y) { y = Gather(w, i) }", None),
    ],
)
def test_tables(text: str, rows: int | None) -> None:
    assert of(text) == Uses(rows=rows, indexes=True, masks=False, adds=False, shapes=False)


def test_masks_shapes_and_sums() -> None:
    assert of("g (float[2] m) => (float[2] y) <float one = {1}> { y = Sub(one, m) }").masks
    assert not of("g (float[2] m) => (float[2] y) <float two = {2}> { y = Sub(two, m) }").masks
    assert of("g (int64[2] m, float[2] x) => (float[2] y) { c = Cast <to = 9> (m) y = Where(c, x, x) }").masks
    assert of("g (float[2] m, float[2] x) => (float[2] y) { u = Identity(m) y = Add(x, u) }").adds
    assert of("g (int64[2] s, float[4] x) => (float[2,2] y) { y = Reshape(x, s) }").shapes
    assert of("g (float[2] x, int64[1] s) => (float[2] y) { y = Reshape(x, s) }") == NOTHING
    assert of("g (float[2] x) => (float[2] y) { y = Relu(x) }") == NOTHING


def test_a_table_inside_a_branch_counts() -> None:
    text = """
    g (int64[2] i, bool c) => (float[2] y) <float[6] w = {0, 0, 0, 0, 0, 0}> {
        y = If (c) <then_branch = t () => (float[2] a) { a = Gather(w, i) },
                    else_branch = e () => (float[2] b) { b = Cast <to = 1> (i) }>
    }
    """
    assert of(text).rows == 6
