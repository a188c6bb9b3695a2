"""A big file is read without its weights, and is the same model as when it is read whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from fp16fix.errors import ModelError
from fp16fix.graph import load as load_module
from fp16fix.graph import outline as outline_module
from fp16fix.graph import thin
from fp16fix.graph.external import bring_in, is_external, slice_of, tensors_of
from fp16fix.graph.load import load
from fp16fix.graph.outline import outlined
from fp16fix.graph.session import Session
from fp16fix.graph.stream import opening
from tests.models import normal

BIG = 256
"""Bytes from which a weight is big here."""


@pytest.fixture(autouse=True)
def small_is_big(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline_module, "BIG_TENSOR", BIG)
    monkeypatch.setattr(thin, "BIG_TENSOR", BIG)
    monkeypatch.setattr(thin, "BIG_MODEL", 0)
    monkeypatch.setattr(load_module, "BIG_MODEL", 0)


def everywhere() -> onnx.ModelProto:
    """Weights as an initializer, in a Constant, in a body and in a Constant of that; small ones, and one that is no raw data."""
    weights = {name: numpy_helper.from_array(normal(16, 16, seed=seed), name) for seed, name in enumerate(["w", "c", "inner", "deep"])}
    typed = helper.make_tensor("typed", onnx.TensorProto.FLOAT, [16], normal(16).tolist())
    few = numpy_helper.from_array(normal(16), "few")
    literal = helper.make_node("Constant", [], ["k"], "literal", value=weights["c"])
    inside = [
        helper.make_node("Constant", [], ["d"], "deep", value=weights["deep"]),
        helper.make_node("MatMul", ["b", "inner"], ["i"], "inside"),
        helper.make_node("MatMul", ["i", "d"], ["then"], "deeper"),
    ]
    then = helper.make_graph(inside, "then", [], [helper.make_tensor_value_info("then", 1, None)], [weights["inner"]])
    other = helper.make_graph(
        [helper.make_node("Neg", ["b"], ["else"], "other")], "else", [], [helper.make_tensor_value_info("else", 1, None)]
    )
    nodes = [
        literal,
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Add", ["a", "typed"], ["t"], "typed"),
        helper.make_node("MatMul", ["t", "k"], ["m"], "second"),
        helper.make_node("Add", ["m", "few"], ["b"], "few"),
        helper.make_node("If", ["flag"], ["y"], "choice", then_branch=then, else_branch=other),
    ]
    x, y = helper.make_tensor_value_info("x", 1, [2, 16]), helper.make_tensor_value_info("y", 1, [2, 16])
    flag = helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, [])
    graph = helper.make_graph(nodes, "g", [x, flag], [y], [weights["w"], typed, few])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="here")
    made.metadata_props.add(key="a", value="b")
    return made


def test_weights_stay_in_the_file_and_everything_else_comes(tmp_path: Path) -> None:
    path, whole = tmp_path / "m.onnx", everywhere()
    onnx.save(whole, path)
    found = outlined(path)
    assert sorted(each.name for each in tensors_of(found) if is_external(each)) == ["c", "deep", "inner", "w"]
    assert found.ByteSize() < whole.ByteSize() - 4 * 16 * 16 * 4 + 400
    for each in tensors_of(found):
        if is_external(each):
            bring_in(each, slice_of(each, path))
            each.ClearField("data_location")
    assert found == whole


def test_a_big_file_is_the_model_that_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(everywhere(), path)
    big = load(path, simplified=False)
    monkeypatch.setattr(load_module, "BIG_MODEL", 1 << 30)
    monkeypatch.setattr(thin, "BIG_MODEL", 1 << 30)
    whole = load(path, simplified=False)
    assert big.digest == whole.digest
    assert big.notes == whole.notes
    ours, theirs = ([(node.name, node.op, [t.name for t in node.inputs]) for node in each.nodes()] for each in (big, whole))
    assert ours == theirs
    for flag in (True, False):
        x = {"x": normal(2, 16), "flag": np.array(flag)}
        np.testing.assert_array_equal(Session(big).run(x)["y"], Session(whole).run(x)["y"])


def test_what_the_checker_has_against_it_is_still_said(tmp_path: Path) -> None:
    ill = everywhere()
    ill.graph.name = ""
    onnx.save(ill, tmp_path / "m.onnx")
    assert any("onnx.checker refuses the file" in note for note in load(tmp_path / "m.onnx", simplified=False).notes)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, keep: float) -> None:
    data = everywhere().SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ModelError, match="not a readable ONNX file"):
        load(tmp_path / "m.onnx")


@given(at=st.integers(0, 8000), byte=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_bytes_that_are_no_protobuf_end_in_its_error(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    data = bytearray(everywhere().SerializeToString())
    data[at % len(data)] = byte
    path = tmp_path_factory.mktemp("bytes") / "m.onnx"
    path.write_bytes(data)
    try:
        found = outlined(path)
    except DecodeError:
        return
    assert isinstance(found, onnx.ModelProto)


def test_the_weights_are_mapped_or_copied_as_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(everywhere(), path)
    (tensor,) = (each for each in outlined(path).graph.initializer if is_external(each))
    assert np.array_equal(slice_of(tensor, path).mapped(tensor), normal(16, 16, seed=0))


def test_bodies_in_bodies_without_an_end_are_refused(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(normal(16, 16), "w").SerializeToString()
    data = opening(5, len(tensor)) + tensor  # an initializer of the innermost graph
    for _ in range(400):
        for field in (6, 5, 1):  # a graph in an attribute, that in a node, that in a graph
            data = opening(field, len(data)) + data
    (tmp_path / "m.onnx").write_bytes(opening(7, len(data)) + data)
    with pytest.raises(DecodeError):
        outlined(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="not a readable ONNX file"):
        load(tmp_path / "m.onnx")


def test_bytes_that_go_on_past_their_tensor_are_refused(tmp_path: Path) -> None:
    values = normal(16, 16).tobytes()
    head = onnx.TensorProto(name="w", data_type=1, dims=[16, 16]).SerializeToString()
    tensor = head + opening(9, len(values) + 8) + values
    graph = opening(5, len(tensor)) + tensor + onnx.GraphProto(name="a name of some length").SerializeToString()
    (tmp_path / "m.onnx").write_bytes(opening(7, len(graph)) + graph)
    with pytest.raises(DecodeError, match="past its message"):
        outlined(tmp_path / "m.onnx")


def test_a_big_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(everywhere(), tmp_path / "m.onnx")
    monkeypatch.delattr(onnx, "load")
    assert load(tmp_path / "m.onnx", simplified=False).weight() > 0
