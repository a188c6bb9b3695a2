"""An opset is raised without moving the function, a name or a weight; an operator without a conversion is named."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import parser

from fp16fix.errors import ModelError
from fp16fix.graph.load import model_from_proto
from fp16fix.graph.model import Model, bodies, constant
from fp16fix.graph.opset import changed, obstacle, raise_in_place, raise_opset
from fp16fix.graph.session import Session, proto_of
from tests.models import normal

CASES = {
    "softmax flattens": (11, "g (float[2,4,8] x) => (float[2,4,8] y) { y = Softmax <axis = 1> (x) }"),
    "softmax last": (9, "g (float[3,4,8,8] x) => (float[3,4,8,8] y) { y = Softmax <axis = 3> (x) }"),
    "log-softmax": (11, "g (float[2,4,8] x) => (float[2,4,8] y) { y = LogSoftmax <axis = -1> (x) }"),
    "reduce sum": (11, "g (float[2,4,8] x) => (float[2,8] y) { y = ReduceSum <axes = [1], keepdims = 0> (x) }"),
    "reduce mean": (11, "g (float[2,4,8] x) => (float[2,1,8] y) { y = ReduceMean <axes = [1]> (x) }"),
    "reduce l2": (13, "g (float[2,4,8] x) => (float[2,1,8] y) { y = ReduceL2 <axes = [-2]> (x) }"),
    "clip": (9, "g (float[2,4,8] x) => (float[2,4,8] y) { y = Clip <min = 0.0, max = 1.0> (x) }"),
    "clip from below": (9, "g (float[2,4,8] x) => (float[2,4,8] y) { y = Clip <min = 0.0> (x) }"),
    "upsample nearest": (
        9,
        'g (float[1,4,8,8] x) => (float[1,4,20,20] y) <float[4] s = {1, 1, 2.5, 2.5}> { y = Upsample <mode = "nearest"> (x, s) }',
    ),
    "upsample linear": (
        9,
        'g (float[1,4,8,8] x) => (float[1,4,16,16] y) <float[4] s = {1, 1, 2, 2}> { y = Upsample <mode = "linear"> (x, s) }',
    ),
    "resize linear": (
        10,
        'g (float[1,4,8,8] x) => (float[1,4,16,16] y) <float[4] s = {1, 1, 2, 2}> { y = Resize <mode = "linear"> (x, s) }',
    ),
    "split": (11, "g (float[1,4,8,8] x) => (float[1,3,8,8] y, float[1,1,8,8] z) { y, z = Split <axis = 1, split = [3, 1]> (x) }"),
    "split evenly": (13, "g (float[1,4,8,8] x) => (float[1,2,8,8] y, float[1,2,8,8] z) { y, z = Split <axis = 1> (x) }"),
    "pad": (9, "g (float[1,1,3,3] x) => (float[1,1,5,5] y) { y = Pad <value = 2.0, pads = [0, 0, 1, 1, 0, 0, 1, 1]> (x) }"),
    "top k": (9, "g (float[2,8] x) => (float[2,2] y, int64[2,2] z) { y, z = TopK <axis = 1, k = 2> (x) }"),
    "slice": (9, "g (float[1,4,8,8] x) => (float[1,4,8,4] y) { y = Slice <axes = [3], starts = [0], ends = [4]> (x) }"),
    "batch norm": (9, "g (float[1,4,2] x) => (float[1,4,2] y) <float[4] s = {1, 2, 3, 4}> { y = BatchNormalization (x, s, s, s, s) }"),
    "dropout": (9, "g (float[4,8] x) => (float[4,8] y) { y = Dropout <ratio = 0.5> (x) }"),
    "squeeze": (11, "g (float[4,1,8] x) => (float[1,4,8] y) { z = Squeeze <axes = [1]> (x) y = Unsqueeze <axes = [0]> (z) }"),
    "reshape": (11, "g (float[4,1,8] x) => (float[8,4] y) <int64[2] s = {8, -1}> { y = Reshape (x, s) }"),
    "average pool": (9, "g (float[1,4,8,8] x) => (float[1,4,4,4] y) { y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x) }"),
    "grid sample": (
        16,
        'g (float[1,1,8,8] x, float[1,4,4,2] q) => (float[1,1,4,4] y) { y = GridSample <mode = "bilinear"> (x, q) }',
    ),
    "scatter": (
        9,
        "g (float[4,4] x) => (float[4,4] y) <int64[1,4] i = {0, 1, 2, 3}, float[1,4] u = {1, 2, 3, 4}> { y = Scatter (x, i, u) }",
    ),
    "gemm": (9, "g (float[4,4] x) => (float[4,4] y) <float[4] b = {1, 2, 3, 4}> { y = Gemm (x, x, b) }"),
    "symbolic": (11, "g (float[N,4,8] x) => (float[N,8] y) { y = ReduceSum <axes = [1], keepdims = 0> (x) }"),
}


def model_of(opset: int, text: str) -> Model:
    proto = parser.parse_model(f'<ir_version: 7, opset_import: ["" : {opset}]>\n{text}')
    onnx.checker.check_model(proto, full_check=True)
    return model_from_proto(proto, "small")


def outputs(model: Model) -> dict[str, np.ndarray]:
    onnx.checker.check_model(proto_of(model), full_check=True)
    rng = np.random.default_rng(1)
    feeds = {t.name: rng.standard_normal([n if isinstance(n, int) else 3 for n in t.shape]).astype(np.float32) for t in model.graph.inputs}
    return Session(model, threads=1).run(feeds)


@pytest.mark.parametrize("target", [17, 18, 21, 23])
@pytest.mark.parametrize("name", CASES)
def test_function_and_names_stay(name: str, target: int) -> None:
    opset, text = CASES[name]
    model = model_of(opset, text)
    raised = raise_opset(model, target)
    assert (model.opset, raised.opset) == (opset, max(opset, target))
    before, after = outputs(model), outputs(raised)
    assert list(before) == list(after)
    for key, values in before.items():
        np.testing.assert_allclose(after[key], values, rtol=1e-6, atol=1e-7)
    assert set(model.node_map()) <= set(raised.node_map())
    assert set(model.tensors()) <= set(raised.tensors())


def test_unchanged_operators_are_not_touched() -> None:
    model = model_of(11, "g (float[4,8] x) => (float[4,8] y) { z = Relu (x) y = Add (z, x) }")
    assert [(node.op, node.name, node.attrs) for node in raise_opset(model, 21).nodes()] == [(n.op, n.name, n.attrs) for n in model.nodes()]
    assert not changed("Add", 11, 21)
    assert changed("ReduceSum", 11, 13)


def test_big_weights_are_shared_not_copied() -> None:
    model = model_of(11, "g (float[4,8] x) => (float[4,1] y) { z = Relu (x) y = ReduceSum <axes = [1]> (z) }")
    relu = model.graph.nodes[0]
    weight = gs.Constant("w", np.ones((4, 8), np.float32))
    relu.op, relu.inputs = "Mul", [relu.inputs[0], weight]
    values = constant(raise_opset(model, 17).tensors()["w"])
    assert values is weight.values


def test_bodies_are_raised_and_capture_what_they_captured() -> None:
    model = model_of(
        11,
        """g (float[2,4] x, bool[1] c) => (float[2,1] y) { k = Relu (x) z = Squeeze <axes = [0]> (c)
        y = If (z) <then_branch = a () => (float[2,1] p) { p = ReduceSum <axes = [1]> (k) },
                    else_branch = b () => (float[2,1] q) { q = ReduceMax <axes = [1]> (k) }> }""",
    )
    raised = raise_opset(model, 18)
    branches = bodies(raised.node_map()[next(node.name for node in model.nodes() if node.op == "If")])
    assert {graph.opset for graph in branches.values()} == {18}
    assert all(graph.nodes[-1].attrs.get("axes") is None for graph in branches.values())
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    for choice in (True, False):
        feeds = {"x": x, "c": np.asarray([choice])}
        old, new = (Session(each, threads=1).run(feeds)["y"] for each in (model, raised))
        np.testing.assert_array_equal(old, new)


def test_other_domains_keep_their_version() -> None:
    model = model_of(11, "g (float[4,8] x) => (float[4,1] y) { y = ReduceSum <axes = [1]> (x) }")
    model.graph.import_domains = [onnx.helper.make_opsetid("", 11), onnx.helper.make_opsetid("com.microsoft", 1)]
    imports = {each.domain: each.version for each in proto_of(raise_opset(model, 17)).opset_import}
    assert imports == {"": 17, "com.microsoft": 1}
    assert model.graph.import_domains[0].version == 11


def test_already_there_is_itself() -> None:
    model = model_of(17, "g (float[4,8] x) => (float[4,8] y) { y = Relu (x) }")
    assert raise_opset(model, 13) is model
    assert model.opset == 17


def test_raised_as_a_copy_or_in_place() -> None:
    model = model_of(11, "g (float[4,8] x) => (float[4,1] y) { y = ReduceSum <axes = [1]> (x) }")
    graph, raised = model.graph, raise_opset(model, 17)
    assert (model.opset, raised.opset) == (11, 17)
    assert "axes" in model.graph.nodes[0].attrs
    raise_in_place(model, 17)
    assert model.graph is graph
    assert [(node.op, node.name) for node in model.nodes()] == [(node.op, node.name) for node in raised.nodes()]
    assert "axes" not in model.graph.nodes[0].attrs


@pytest.mark.parametrize("axis", [-1, 0, 1, 2])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_of_an_unknown_rank_is_the_same(op: str, axis: int) -> None:
    model = model_of(11, f"g (float[2,4,8] x) => (float[2,4,8] y) {{ z = Relu (x) y = {op} <axis = {axis}> (z) }}")
    known, x = raise_opset(model, 17), {"x": normal(2, 4, 8)}
    model.tensors()["z"].shape = None
    raised = raise_opset(model, 17)
    exact = Session(model).run(x)["y"]
    np.testing.assert_allclose(Session(raised).run(x)["y"], exact, rtol=1e-6)
    np.testing.assert_allclose(Session(known).run(x)["y"], exact, rtol=1e-6)
    assert len(list(raised.nodes())) == (2 if axis == -1 else 5)
    assert len(list(known.nodes())) == (2 if axis in (-1, 2) else 5), "the last axis needs nothing around it"


def test_operator_without_conversion_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no adapter")

    monkeypatch.setattr("onnx.version_converter.convert_version", fail)
    model = model_of(11, "g (float[2,4,8] x) => (float[4,8] y) { z = Relu (x) y = ReduceSum <axes = [0], keepdims = 0> (z) }")
    name = next(node.name for node in model.nodes() if node.op == "ReduceSum")
    with pytest.raises(ModelError, match="ReduceSum") as error:
        raise_opset(model, 17)
    assert name in error.value.what
    assert "opset 17" in error.value.hint
    assert "ReduceSum" in obstacle(model, 17)
    assert obstacle(model, 12) == ""
