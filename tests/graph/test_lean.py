"""A session's proto is the delivered one without what is known of tensors in between."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from fp16fix.graph.lean import lean
from fp16fix.graph.model import Model
from fp16fix.graph.protos import graphs_of
from fp16fix.graph.session import Session, light, proto_of
from tests.graph.test_quick import nested
from tests.models import model


def stripped(proto: onnx.ModelProto) -> onnx.ModelProto:
    """What both have, in one order."""
    for graph in graphs_of(proto.graph):
        del graph.value_info[:]
        graph.doc_string = ""
        initializers = sorted(graph.initializer, key=lambda each: each.name)
        del graph.initializer[:]
        graph.initializer.extend(initializers)
    for field in ("producer_name", "producer_version"):
        proto.ClearField(field)
    return proto


def test_a_graph_with_bodies_is_what_onnx_graphsurgeon_exports_but_for_types_in_between() -> None:
    graph = nested()
    assert stripped(lean(graph, {})) == stripped(gs.export_onnx(graph))
    assert not any(each.value_info for each in graphs_of(lean(graph, {}).graph))


VALUES: dict[str, Any] = {
    "int": 3,
    "negative": -(2**40),
    "numpy_int": np.int64(3),
    "bool": True,
    "float": 0.25,
    "numpy_float": np.float32(0.1),
    "text": "bilinear",
    "bytes": b"raw",
    "ints": [1, 2],
    "floats": [0.5, 1.5],
    "mixed": [1, 2.5],
    "texts": ["a", "b"],
    "tensor": gs.Constant("t", np.arange(3, dtype=np.float16)),
}


@pytest.mark.parametrize("name", list(VALUES))
def test_attributes_of_every_kind_are_written_as_onnx_graphsurgeon_writes_them(name: str) -> None:
    x, y = gs.Variable("x", np.dtype(np.float32)), gs.Variable("y", np.dtype(np.float32))
    graph = gs.Graph([gs.Node("Op", "n", {"a": VALUES[name]}, [x], [y], "d")], [x], [y], opset=17, ir_version=8)
    assert stripped(lean(graph, {})) == stripped(gs.export_onnx(graph))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_, ml_dtypes.bfloat16, ml_dtypes.int4, ml_dtypes.float8_e4m3fn])
def test_weights_of_every_type_come_out_as_they_are_delivered(dtype: Any) -> None:
    x, y = gs.Variable("x", np.dtype(np.float32)), gs.Variable("y", np.dtype(np.float32))
    graph = gs.Graph(
        [gs.Node("Op", "n", inputs=[x, gs.Constant("w", np.ones((3, 5)).astype(dtype))], outputs=[y], domain="d")], [x], [y], opset=21
    )
    assert stripped(lean(graph, {})).graph == stripped(proto_of(Model(graph, "m"))).graph


def test_a_weight_that_is_handed_out_and_read_by_nobody_is_there() -> None:
    weight = gs.Constant("w", np.arange(3, dtype=np.float32))
    found = Session(Model(gs.Graph([], [], [weight], opset=17, ir_version=8), "m")).run({})
    assert found["w"].tolist() == [0, 1, 2]


def test_what_no_default_domain_knows_is_imported() -> None:
    found = model("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    found.graph.nodes[0].domain, found.graph.nodes[0].op = "com.microsoft", "Gelu"
    assert "com.microsoft" in {each.domain for each in light(found)[0].opset_import}
    assert Session(found).run({"x": np.zeros(2, np.float32)})["y"].tolist() == [0, 0]


def test_an_input_without_a_type_is_refused_as_onnx_graphsurgeon_refuses_it() -> None:
    x, y = gs.Variable("x"), gs.Variable("y", np.dtype(np.float32))
    with pytest.raises(Exception, match="dtype"):
        lean(gs.Graph([gs.Node("Relu", "n", inputs=[x], outputs=[y])], [x], [y]), {})


ALIKE = [
    np.array([1, 0], np.int64),
    np.array([1], np.int64),
    np.array([[1, 0]], np.int64),
    np.array([1, 0, 0, 0], np.int32),
    np.array([1, 0], np.int64),
    np.zeros(2, np.float32),
    np.zeros(2, np.float32),
    np.zeros(2, np.int32),
    np.arange(64, dtype=np.float32),
    np.arange(64, dtype=np.float32),
]


def test_small_initializers_of_one_value_are_written_once_and_no_others() -> None:
    held = [gs.Constant(f"c{number}", values) for number, values in enumerate(ALIKE)]
    out = gs.Variable("y", np.dtype(np.float32))
    found = lean(gs.Graph([gs.Node("Op", "n", inputs=held, outputs=[out], domain="d")], [], [out, held[6]], opset=17), {}).graph
    (node,) = found.node
    assert list(node.input) == ["c0", "c1", "c2", "c3", "c0", "c5", "c6", "c7", "c8", "c9"], "what is handed out keeps its name"
    assert sorted(tensor.name for tensor in found.initializer) == sorted(set(node.input))
    for name, values in zip(node.input, ALIKE, strict=True):
        (kept,) = [tensor for tensor in found.initializer if tensor.name == name]
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(kept), values, strict=True)


def test_a_body_has_initializers_of_its_own() -> None:
    text = """g (bool c) => (float[2] y) <float[2] a = {1, 2}> { b = Identity (a)
        y = If (c) < then_branch = t () => (float[2] p) <float[2] d = {1, 2}, float[2] e = {1, 2}> { p = Add (d, e) },
                     else_branch = f () => (float[2] q) { q = Neg (b) }> }"""
    assert Session(model(text)).run({"c": np.array(True)})["y"].tolist() == [2, 4]
