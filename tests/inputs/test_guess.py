"""Free dimensions: settled by name and place, or guessed, and said with the flag that settles them."""

from __future__ import annotations

import pytest

from fp16fix.inputs.draw import Filling
from fp16fix.inputs.guess import dims
from fp16fix.inputs.guess import guessed as sentences
from fp16fix.inputs.shapes import parse_shape

from .models import takes


def guessed(inputs: str, kind: Filling = Filling.NORMAL, batch: int = 2, names: dict[str, str] | None = None) -> list[tuple[int, ...]]:
    """``names`` puts dimension names that ONNX text cannot spell."""
    entries = takes(inputs)
    renamed = [
        type(entry)(entry.name, entry.element, tuple((names or {}).get(dim, dim) if isinstance(dim, str) else dim for dim in entry.shape))
        for entry in entries
    ]
    return list(dims({entry.name: (entry, kind) for entry in renamed}, batch).values())


def told_of(inputs: str, kind: Filling = Filling.NORMAL) -> tuple[str, ...]:
    return sentences({entry.name: (entry, kind) for entry in takes(inputs)})


@pytest.mark.parametrize(
    ("inputs", "kind", "shapes"),
    [
        ("float[?,3,?,?] x", Filling.IMAGE, [(2, 3, 224, 224)]),
        ("float[N,3,height,width] x, float[N,3,height,64] y", Filling.IMAGE, [(2, 3, 224, 224), (2, 3, 224, 64)]),
        ("float[N,?,?,3] x", Filling.IMAGE_LAST, [(2, 224, 224, 3)]),
        ("int64[batch_size,sequence_length] x", Filling.IDS, [(2, 16)]),
        ("int64[?,?] x", Filling.IDS, [(2, 16)]),
        ("int64[s0,s1] x", Filling.IDS, [(2, 16)]),
        ("int64[seq_len,batch] x", Filling.IDS, [(16, 2)]),
        ("float[N,?,80] x", Filling.NORMAL, [(2, 16, 80)]),
        ("float[N,80,?] x", Filling.NORMAL, [(2, 80, 16)]),
        ("float[N,4,height,width] latents", Filling.NORMAL, [(2, 4, 32, 32)]),
        ("float[N,4,?,?] sample", Filling.NORMAL, [(2, 4, 32, 32)]),
        ("float[1,4] x, float y", Filling.NORMAL, [(1, 4), ()]),
        ("float[N,12,past_sequence_length,64] x, int64[N,total_sequence_length] y", Filling.MASK, [(2, 12, 16, 64), (2, 32)]),
    ],
)
def test_what_names_and_places_tell(inputs: str, kind: Filling, shapes: list[tuple[int, ...]]) -> None:
    assert guessed(inputs, kind) == shapes


def test_sums_of_names() -> None:
    names = {"both": "past_sequence_length + sequence_length", "one": "batch_size + 1"}
    assert guessed("int64[N,both] x, int64[one,2] y", Filling.MASK, names=names) == [(2, 32), (3, 2)]


@pytest.mark.parametrize(
    ("inputs", "kind", "flag"),
    [
        ("float[N,?] x", Filling.NORMAL, "x:1x16"),
        ("float[N,256,?,?] x", Filling.NORMAL, "x:1x256x16x16"),
        ("float[?,?,?] x", Filling.NORMAL, "x:1x16x16"),
        ("float[height,width,3] x", Filling.NORMAL, "x:16x16x3"),
        ("float[N,?,224,224] x", Filling.NORMAL, "x:1x3x224x224"),
    ],
)
def test_what_cannot_be_told_is_guessed_and_said(inputs: str, kind: Filling, flag: str) -> None:
    (said,) = told_of(inputs, kind)
    assert f"give --shape {flag} with your own numbers" in said
    name, shape = parse_shape(flag)
    assert guessed(inputs, kind, batch=1) == [shape], "it says what it does"
    assert name == "x"


def test_only_what_is_unknown_is_said() -> None:
    assert [said.split("'")[1] for said in told_of("float[N,?] a, float[N,3] b, float[N,?] c")] == ["a", "c"]
    assert told_of("float[N,3] b") == ()
