"""What ONNX Runtime loads is put in order; what it does not is refused in the words of both."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from fp16fix.errors import ModelError
from fp16fix.graph.admit import put_in_order
from fp16fix.graph.load import load, model_from_proto
from fp16fix.graph.protos import sort, topological
from fp16fix.graph.session import Session, options_for
from tests.models import normal, proto
from tests.odd.graphs import disorderly, wrong_rank

CHAIN = "g (float[4] x) => (float[4] y) { a = Neg (x) b = Exp (a) c = Abs (b) y = Sqrt (c) }"


def shuffled(order: list[int]) -> onnx.ModelProto:
    made = proto(CHAIN)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes[index] for index in order)
    return made


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [1, 0, 3, 2], [2, 0, 1, 3]])
def test_nodes_are_sorted(order: list[int]) -> None:
    made = shuffled(order)
    assert any("topological order" in note for note in put_in_order(made))
    assert [node.op_type for node in made.graph.node] == ["Neg", "Exp", "Abs", "Sqrt"]
    assert put_in_order(made) == []
    assert Session(model_from_proto(shuffled(order))).run({"x": normal(4)})["y"].shape == (4,)


def test_a_body_counts_as_what_it_reads() -> None:
    made = proto(
        """g (float[4] x, bool c) => (float[4] y) { a = Neg (x) y = If (c) <
        then_branch = t () => (float[4] p) { p = Exp (a) }, else_branch = e () => (float[4] q) { q = Abs (x) }> }"""
    )
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(made.graph.node)]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    assert sort(made.graph)
    assert [node.op_type for node in made.graph.node] == ["Neg", "If"]


def test_a_cycle_is_left_to_onnx_runtime() -> None:
    made = proto(CHAIN)
    made.graph.node[0].input[0] = "c"
    assert not sort(made.graph)


def test_the_checkers_complaint_is_a_note(tmp_path: Path) -> None:
    onnx.save(disorderly(), tmp_path / "model.onnx")
    found = load(tmp_path / "model.onnx", simplified=False)
    assert any("onnx.checker refuses the file" in note and "ONNX Runtime loads it" in note for note in found.notes)
    assert found.graph.outputs[0].shape == [4, 64]


def test_both_must_refuse(tmp_path: Path) -> None:
    made = proto(CHAIN)
    made.graph.node[0].attribute.add(name="no_such_attribute", type=onnx.AttributeProto.INT, i=1)
    onnx.save(made, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"onnx\.checker refuses it.*ONNX Runtime does not load it"):
        load(tmp_path / "model.onnx")


def test_a_rank_that_is_not_so_is_declared_anew() -> None:
    found = model_from_proto(wrong_rank())
    assert [tensor.name for tensor in found.graph.outputs] == ["y"]
    assert found.graph.outputs[0].shape == [4, 64]
    assert any("declared with rank 1 and has rank 2" in note for note in found.notes)
    assert any("listed more than once" in note for note in found.notes)


def test_a_size_that_is_not_so_is_declared_anew() -> None:
    made = proto("g (float[4,64] x) => (float[4,32] y) { y = Tanh (x) }", check=False)
    found = model_from_proto(made)
    assert found.graph.outputs[0].shape == [4, 64]
    assert "output 'y' is declared as 4x32 and is 4x64" in found.notes


def test_nodes_are_sorted_as_they_stood_where_they_may() -> None:
    assert topological([{3}, set(), {0}, set()]) == [1, 3, 0, 2]
    assert topological([{1}, {0}, set()]) == [2], "what is in a cycle has no place"
    many = 20_000
    assert topological([{number + 1} if number + 1 < many else set() for number in range(many)]) == list(reversed(range(many)))


def test_quantised_graphs_run_as_they_are_written() -> None:
    assert options_for(optimise=True).get_session_config_entry("session.disable_quant_qdq") == "1"
