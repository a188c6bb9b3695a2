"""What a model must be fed, and the dimensions that flags settle."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from fp16fix.errors import ConfigError, ModelError
from fp16fix.graph.model import Model
from fp16fix.inputs.check import Contract
from fp16fix.inputs.made import make
from fp16fix.inputs.signature import Input, signature, with_dims

from .models import model, takes

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def test_names_types_and_shapes_in_order() -> None:
    assert takes("float[N,3,?,5] x, int64[N] ids, bfloat16 s, bool[2] b") == (
        Input("x", FLOAT, ("N", 3, None, 5)),
        Input("ids", INT64, ("N",)),
        Input("s", onnx.TensorProto.BFLOAT16, ()),
        Input("b", onnx.TensorProto.BOOL, (2,)),
    )


def test_initializers_are_no_inputs() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 3, opset_import: ["" : 8]> g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1.0, 2.0}> { y = Add(x, w) }'
    )
    names = {entry.name for entry in proto.graph.input}
    assert [entry.name for entry in signature(Model(gs.import_onnx(proto), "old"))] == ["x"]
    assert "x" in names


def test_minus_one_is_free() -> None:
    built = model("g (float[1,2] x) => (float[1,2] y) { y = Relu(x) }")
    built.graph.inputs[0].shape = [-1, "?"]
    assert signature(built)[0].shape == (None, None)


def test_an_input_must_declare_its_type() -> None:
    built = model("g (float[1] x) => (float[1] y) { y = Relu(x) }")
    built.graph.inputs[0].dtype = None
    with pytest.raises(ModelError, match=r"'x'.*declares no"):
        signature(built)


def test_an_input_without_a_rank_takes_what_it_is_given() -> None:
    built = model("g (float[1] x) => (float[1] y) { y = Relu(x) }")
    built.graph.inputs[0].shape = None
    (entry,) = signature(built)
    assert str(entry) == "float32 of any shape"
    for shape in ((), (3,), (2, 3, 4)):
        assert Contract((entry,)).check("s", {"x": np.zeros(shape, np.float32)}).arrays["x"].shape == shape
    assert with_dims((entry,), {"x": (2, 7)})[0].shape == (2, 7)
    assert make(built, (entry,), {}, count=2)[1].arrays["x"].shape == (2, 16)
    assert make(built, (entry,), {"x": (5,)}, count=2)[1].arrays["x"].shape == (5,)


def test_a_settled_name_is_settled_everywhere() -> None:
    inputs = takes("float[N,S] x, int64[N] ids, float[?] z")
    settled = with_dims(inputs, {"x": (2, 7)})
    assert [entry.shape for entry in settled] == [(2, 7), (2,), (None,)]
    assert with_dims(inputs, {}) == inputs


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"images": (1,)}, "the model has no input 'images'"),
        ({"image_": (1,)}, "did you mean 'image'?"),
        ({"image": (2, 4)}, "expected [N, 3], found [2, 4]"),
        ({"image": (2,)}, "expected [N, 3], found [2]"),
        ({"image": (2, 3), "ids": (4,)}, "'N' is 4 here and 2 before"),
    ],
)
def test_shapes_that_contradict(shapes: dict[str, tuple[int, ...]], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_dims(takes("float[N,3] image, int64[N] ids"), shapes)
    assert says in str(caught.value)
