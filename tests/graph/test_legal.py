"""Models that no library further on refuses in words: each is one sentence that names what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import helper

from fp16fix.errors import ModelError
from fp16fix.graph import legal
from fp16fix.graph.legal import drop_repeats, refuse_illegal
from fp16fix.graph.load import load
from tests.models import proto

TEXT = """g (float[4] x, bool c) => (float[4] y) <float w = {2.0}> {
    a = Mul (x, w) y = If (c) < then_branch = t () => (float[4] r) { r = Neg (a) }, else_branch = e () => (float[4] s) { s = Abs (a) } >
}"""
CALLS = 10
"""Calls in each of as many functions: 10¹⁰ nodes from a hundred."""


def changed(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    made = proto(TEXT)
    change(made)
    return made


def branch(made: onnx.ModelProto) -> onnx.GraphProto:
    body: onnx.GraphProto = made.graph.node[1].attribute[0].g
    return body


def of_sequences(made: onnx.ModelProto, element: int) -> None:
    made.graph.value_info.add(name="held").type.optional_type.elem_type.sequence_type.elem_type.tensor_type.elem_type = element


def with_functions(calls: dict[str, list[str]]) -> onnx.ModelProto:
    """Functions of one input that call others; ``Neg`` is ONNX's."""
    made = proto("g (float[4] x) => (float[4] y) { y = Neg (x) }")
    made.graph.node[0].op_type, made.graph.node[0].domain = "F0", "my"
    made.opset_import.append(helper.make_opsetid("my", 1))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    for name, called in calls.items():
        nodes = [
            helper.make_node(other, ["a"], ["b" if k == 0 else f"b{k}"], domain="" if other == "Neg" else "my")
            for k, other in enumerate(called)
        ]
        made.functions.append(helper.make_function("my", name, ["a"], ["b"], nodes, opsets))
    return made


def endless() -> dict[str, list[str]]:
    return {f"F{k}": [f"F{k + 1}" if k < CALLS else "Neg"] * CALLS for k in range(CALLS + 1)}


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (changed(lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 99)), "'y' has element type 99"),
        (changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99)), "'x' has element type 99"),
        (changed(lambda m: setattr(m.graph.initializer[0], "data_type", -1)), "'w' has element type -1"),
        (changed(lambda m: setattr(branch(m).output[0].type.tensor_type, "elem_type", 99)), "'(r|s)' has element type 99"),
        (changed(lambda m: of_sequences(m, 99)), "'held' has element type 99"),
        (
            changed(lambda m: m.graph.input[0].type.sequence_type.elem_type.tensor_type.SetInParent()),
            "input 'x' is of the kind sequence; only tensors can be given",
        ),
        (
            changed(lambda m: m.graph.output[0].type.optional_type.elem_type.sequence_type.SetInParent()),
            "output 'y' is of the kind optional; only tensors can be compared",
        ),
        (changed(lambda m: m.graph.ClearField("node")), "the graph has no nodes"),
        (with_functions({"F0": ["F0"]}), "function 'F0' calls itself"),
        (with_functions({"F0": ["F1"], "F1": ["F2"], "F2": ["F1"]}), "function 'F1' calls itself"),
        (with_functions({f"F{k}": [f"F{k + 1}"] for k in range(2000)}), "nested too deep"),
        (with_functions(endless()), "write out to 100,000,000,000 nodes"),
    ],
)
def test_what_is_illegal_is_said_before_any_library_sees_it(tmp_path: Path, made: onnx.ModelProto, says: str) -> None:
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ModelError, match=says) as caught:
        load(tmp_path / "m.onnx")
    assert "m.onnx" in caught.value.where


def test_what_is_legal_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_illegal(proto(TEXT), Path("m.onnx"))
    refuse_illegal(changed(lambda m: of_sequences(m, 1)), Path("m.onnx"))
    few = with_functions({"F0": ["F1"] * 3, "F1": ["Neg"] * 4})
    monkeypatch.setattr(legal, "MOST_NODES", 12)
    refuse_illegal(few, Path("m.onnx"))
    monkeypatch.setattr(legal, "MOST_NODES", 11)
    with pytest.raises(ModelError, match="write out to 12 nodes"):
        refuse_illegal(few, Path("m.onnx"))


def test_an_output_that_is_listed_twice_is_taken_once() -> None:
    made = changed(lambda m: m.graph.output.extend([m.graph.input[0], m.graph.output[0], m.graph.input[0]]))
    assert [output.name for output in made.graph.output] == ["y", "x", "y", "x"]
    assert drop_repeats(made) == [f"output '{name}' is listed more than once; it is taken once" for name in "yx"]
    assert [output.name for output in made.graph.output] == ["y", "x"]
    assert drop_repeats(made) == []


@pytest.mark.parametrize("raw", [b"", b"\0" * 3, b"\0" * 4000])
def test_an_initializer_of_another_size_is_a_sentence(tmp_path: Path, raw: bytes) -> None:
    made = proto("g (float[4] x) => (float[4] y) <float[4] w = {1.0, 2.0, 3.0, 4.0}> { y = Add (x, w) }")
    made.graph.initializer[0].ClearField("float_data")
    made.graph.initializer[0].raw_data = raw
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ModelError):
        load(tmp_path / "m.onnx")
