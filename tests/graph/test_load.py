"""Loading: names, types, mixed models, and errors a user can act on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from fp16fix.errors import ModelError
from fp16fix.graph.load import load, model_from_proto
from fp16fix.graph.lower import count_types, lower
from fp16fix.graph.model import element_type
from fp16fix.graph.opset import raise_opset
from fp16fix.graph.session import Session, light, proto_of
from fp16fix.half import FP16
from tests.models import model, normal, proto

TEXT = "g (float[4,8] x) => (float[4,8] y) { a = Exp (x) b = Exp (a) y = Add (a, b) }"


def test_every_node_has_a_unique_name() -> None:
    found = model(TEXT)
    assert [node.name for node in found.nodes()] == ["Exp_a", "Exp_b", "Add_y"]
    assert any("unnamed" in note for note in found.notes)


def test_duplicate_names_are_numbered() -> None:
    ill = proto(TEXT)
    for node in ill.graph.node:
        node.name = "same"
    assert [node.name for node in model_from_proto(ill).nodes()] == ["same", "same_2", "same_3"]


def test_a_missing_file_and_garbage_are_errors_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"this is no protobuf")
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        load(tmp_path / "bad.onnx")


def test_an_invalid_graph_is_refused_in_the_checkers_words(tmp_path: Path) -> None:
    ill = proto(TEXT)
    ill.graph.node[0].attribute.add(name="no_such_attribute", type=onnx.AttributeProto.INT, i=1)
    onnx.save(ill, tmp_path / "ill.onnx")
    with pytest.raises(ModelError, match="no_such_attribute"):
        load(tmp_path / "ill.onnx")


def test_loading_leaves_the_file_and_interface_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(proto(TEXT), path)
    before = path.read_bytes()
    found = load(path)
    assert path.read_bytes() == before
    assert len(found.digest) == 64
    assert [t.name for t in found.graph.inputs] == ["x"]
    assert found.opset == 17


def test_external_data_loads_and_counts_in_the_digest(tmp_path: Path) -> None:
    big = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [4, 64])],
        [onnx.helper.make_tensor_value_info("y", 1, [4, 64])],
        [onnx.numpy_helper.from_array(big, "w")],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    first = load(tmp_path / "m.onnx")
    x = normal(4, 64)
    np.testing.assert_allclose(Session(first).run({"x": x})["y"], x @ big, rtol=1e-4)
    data = bytearray((tmp_path / "m.data").read_bytes())
    data[0] ^= 1
    (tmp_path / "m.data").write_bytes(bytes(data))
    assert load(tmp_path / "m.onnx").digest != first.digest


def test_weights_are_lent_not_copied() -> None:
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")
    weights = np.ones((64, 64), np.float32)
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [4, 64])],
        [onnx.helper.make_tensor_value_info("y", 1, [4, 64])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    found = model_from_proto(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10))
    thin, lent = light(found)
    assert thin.ByteSize() < 1000
    assert np.shares_memory(lent["w"], found.tensors()["w"].values)


MIXED = """g (float[4,8] x) => (float[4,8] y) {
    h = Cast <to = 10> (x) a = Mul (h, h) w = Cast <to = 1> (a) m = Exp (w) n = Cast <to = 10> (m) b = Neg (n) y = Cast <to = 1> (b)
}"""


def test_a_mixed_model_is_widened_and_its_placement_kept() -> None:
    found = model(MIXED)
    assert found.placed == {"Exp_m": "fp32"}
    assert all(element_type(t) == 1 for t in found.tensors().values())
    typed = lower(found, found.placed)
    onnx.checker.check_model(proto_of(typed), full_check=True)
    assert {n.op: element_type(n.outputs[0]) for n in typed.graph.nodes if n.op != "Cast"}["Mul"] == FP16.onnx
    assert count_types(typed)["fp32_nodes"] >= 1


def test_half_precision_interfaces_are_kept() -> None:
    found = model("g (float16[4] x) => (float16[4] y) { y = Exp (x) }")
    typed = proto_of(lower(found, {}))
    assert [v.type.tensor_type.elem_type for v in (*typed.graph.input, *typed.graph.output)] == [10, 10]


def test_simplifying_keeps_the_interface_and_adds_no_domain(tmp_path: Path) -> None:
    text = "g (float[4,8] x) => (float[4,8] y) <float one = {1.0}> { s = Shape (x) r = Reshape (x, s) a = Mul (r, one) y = Exp (a) }"
    onnx.save(proto(text), tmp_path / "m.onnx")
    found = load(tmp_path / "m.onnx")
    assert [node.op for node in found.nodes()] == ["Exp"]
    assert [t.name for t in (*found.graph.inputs, *found.graph.outputs)] == ["x", "y"]


def test_sibling_bodies_with_equal_names_are_told_apart() -> None:
    text = """g (float[4] x, bool p) => (float[4] y) {
        y = If (p) < then_branch = t () => (float[4] r) { r = Neg (x) }, else_branch = e () => (float[4] r) { r = Abs (x) } >
    }"""
    found = model(text)
    names = [t.name for node in found.nodes() for t in node.outputs]
    assert len(names) == len(set(names))
    x = normal(4)
    np.testing.assert_array_equal(Session(found).run({"x": x, "p": np.array(False)})["y"], np.abs(x))


def test_contrib_operators_get_their_types_from_the_runtime() -> None:
    node = onnx.helper.make_node("FastGelu", ["x"], ["g"], name="gelu", domain="com.microsoft")
    after = onnx.helper.make_node("Neg", ["g"], ["y"], name="neg")
    graph = onnx.helper.make_graph(
        [node, after], "g", [onnx.helper.make_tensor_value_info("x", 1, [4])], [onnx.helper.make_tensor_value_info("y", 1, [4])]
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    found = model_from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))
    assert element_type(found.tensors()["g"]) == 1


@pytest.mark.parametrize("opset", [11, 17])
def test_functions_of_an_older_opset_are_written_out(opset: int) -> None:
    made = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17, "own" : 1]> g (float[2,4,3] x) => (float[2,4,3] y) {{ z = own.f (x) y = Neg (z) }}
        <domain: "own", opset_import: ["" : {opset}]> f (a) => (b) {{ b = Softmax <axis = 1> (a) }}"""
    )
    x = normal(2, 4, 3)
    exact = -np.exp(x) / np.exp(x).sum(axis=(1, 2) if opset == 11 else 1, keepdims=True)
    found = model_from_proto(made)
    assert "f" not in {node.op for node in found.nodes()}
    np.testing.assert_allclose(Session(found).run({"x": x})["y"], exact, rtol=1e-5)


def test_a_mask_that_nobody_reads_is_no_output() -> None:
    text = "g (float[2,8] x) => (float[2,8] y{more}) {{ a, m = Dropout <ratio = 0.5> (x)  y = Tanh (a) }}"
    found = model_from_proto(proto(text.format(more=""), opset=9), "test")
    (dropout,) = [node for node in found.nodes() if node.op == "Dropout"]
    assert [tensor.name for tensor in dropout.outputs] == ["a"]
    raised = raise_opset(found, 17)
    assert Session(raised).run({"x": normal(2, 8)})["y"].shape == (2, 8)
    read = model_from_proto(proto(text.format(more=", float[2,8] m"), opset=9, check=False), "test")
    assert [tensor.name for node in read.nodes() if node.op == "Dropout" for tensor in node.outputs] == ["a", "m"]
