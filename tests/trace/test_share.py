"""What a node does by itself is the same whether the graph that tells begins at its beginning or where the node's stretch does."""

from __future__ import annotations

import pytest

from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.trace import share
from fp16fix.trace.share import AT_LEAST, PIECES, alone, begun, pieces, switchboard
from tests.models import model, normal

CHAIN = """g (float[N,64] x) => (float[N,64] early, float[N,64] y, int64[N,64] order) <float tiny = {0.37}, int64 n = {3}, bool go = {1}> {
    FIRST
    [early] early = Sqrt (first)
    [order] order = ArgMin (first)
    [size] size = Shape (first)
    [loop] looped = Loop (n, go, first) <body = body (int64 i, bool on, float[N,64] h) => (bool on2, float[N,64] h2) {
        [keep] on2 = Identity (on) [inner] b = Mul (h, tiny) [outer] h2 = Add (b, first) }>
    [shaped] shaped = Reshape (looped, size)
    SECOND
    [end] y = Add (second, first) }"""
"""An output that is made early, a Loop that reads what lies around it, a shape, a residual."""
LENGTH = 24


def chain(start: str, end: str) -> str:
    names = [start, *(f"{end}{number}" for number in range(LENGTH - 1)), end]
    return "\n".join(
        f"[{made}] {made} = {'Sin' if number % 2 else 'Mul'} ({read}{'' if number % 2 else ', tiny'})"
        for number, (read, made) in enumerate(zip(names, names[1:], strict=False))
    )


def subject(text: str = CHAIN) -> Model:
    text = text.replace("int64[N,64] order", "int64[N,1] order").replace("ArgMin (first)", "ArgMin <axis = 1> (first)")
    return model(text.replace("FIRST", chain("x", "first")).replace("SECOND", chain("shaped", "second")))


SAMPLES = [{"x": normal(rows, 64, scale=2.0, seed=rows)} for rows in (2, 3)]


def asked(found: Model) -> list[str]:
    return [node.name for node in found.nodes() if node.op in {"Mul", "Sin", "Add", "Sqrt"}]


def test_it_is_the_same_from_where_a_stretch_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    found = subject()
    typed, names = lower(found, {}), asked(found)
    parted = alone(found, typed, names, SAMPLES)
    assert len(pieces(found, names)) > 2
    monkeypatch.setattr(share, "PIECES", 1)
    assert len(pieces(found, names)) == 1
    whole = alone(found, typed, names, SAMPLES)
    assert parted == whole
    assert min(whole[name] for name in ("first", "inner", "second", "end")) > 0.0


@pytest.mark.parametrize("count", [3, PIECES])
def test_every_node_is_in_one_stretch_with_what_is_made_before_it(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "PIECES", count)
    found = subject()
    parts = pieces(found, asked(found))
    assert sorted(name for part in parts for name in part.nodes) == sorted(asked(found))
    assert 1 < len(parts) <= count
    assert parts[0].fed == ()
    assert len(parts[1].fed) == 1, "no more than what is read behind the border"
    assert parts[0].given == (0, 1, 2)
    after = [part for part in parts if set(part.nodes) <= {"second", "end", *(f"second{number}" for number in range(LENGTH))}]
    assert after
    assert all("first" in part.fed for part in after), "a residual crosses every border behind it"
    assert parts[-1].given == (1,), "what is made before is exact"
    assert [piece.nodes for piece in pieces(found, asked(found)[: 2 * AT_LEAST - 1])] == [tuple(asked(found)[: 2 * AT_LEAST - 1])]


def test_what_lies_before_is_not_computed_again() -> None:
    found = subject()
    before: list[str] = []
    for part in pieces(found, asked(found)):
        names = begun(switchboard(found, lower(found, {}), part.nodes), part).node_map()
        assert not [name for name in before if name in names]
        assert set(part.nodes) <= names.keys()
        before += part.nodes
    assert before[-1] == "end"


def test_a_graph_that_draws_begins_at_its_beginning() -> None:
    found = subject(
        CHAIN.replace("[early]", "[noise] z = RandomNormalLike <seed = 3.0> (first) [early]").replace("Sqrt (first)", "Add (first, z)")
    )
    assert [part.fed for part in pieces(found, asked(found))] == [()]
