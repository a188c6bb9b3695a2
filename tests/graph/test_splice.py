"""``cut``: a stand-alone part of a graph, and the graph as it was."""

from __future__ import annotations

import numpy as np

from fp16fix.graph.session import Session, proto_of
from fp16fix.graph.splice import cut
from tests.models import model, normal

TEXT = """g (float[2,4] x, float[2,4] z) => (float[2,4] y) <float[4] w = {1, 2, 3, 4}>
{ a = Mul (x, w) b = Add (a, z) c = Add (b, b) d = Mul (c, a) y = Neg (d) }"""


def test_a_cut_computes_what_its_nodes_computed() -> None:
    whole = model(TEXT)
    before = proto_of(whole).SerializeToString()
    names = {node.name for node in whole.nodes() if node.outputs[0].name in {"c", "d"}}
    part = cut(whole, names)
    assert [tensor.name for tensor in part.graph.inputs] == ["b", "a"]
    assert [tensor.name for tensor in part.graph.outputs] == ["c", "d"]
    assert {node.name for node in part.nodes()} == names
    a, b = normal(2, 4), normal(2, 4, seed=1)
    found = Session(part, threads=1).run({"a": a, "b": b})
    np.testing.assert_array_equal(found["d"], (b + b) * a)
    assert proto_of(whole).SerializeToString() == before


def test_a_cut_is_nobody_elses() -> None:
    whole = model(TEXT)
    part = cut(whole, {node.name for node in whole.nodes() if node.op == "Mul"})
    held = {id(each) for node in whole.nodes() for each in (node, *node.inputs, *node.outputs)}
    assert not [each for node in part.nodes() for each in (node, *node.inputs, *node.outputs) if id(each) in held]
    assert [len(tensor.outputs) for tensor in part.graph.inputs] == [1, 1], "x and c, and their other readers stay outside"
    assert part.tensors()["w"].values is whole.tensors()["w"].values
