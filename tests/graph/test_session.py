"""``light``: weights are lent, and the model keeps them."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from fp16fix.graph import session
from fp16fix.graph.model import Model
from fp16fix.graph.session import EMBEDDED, light, proto_of
from tests.models import model

TEXT = "g (float[4,8] x) => (float[4,8] y) { z = Relu (x) y = Mul (z, z) }"
BIG = np.arange(EMBEDDED, dtype=np.float32).reshape(-1, 8)


def weighted() -> Model:
    found = model(TEXT)
    mul = found.graph.nodes[-1]
    mul.inputs[1] = gs.Constant("w", np.asfortranarray(BIG))
    mul.inputs[0] = gs.Constant("small", np.ones(8, np.float32))
    return found


def test_big_weights_are_left_out_and_the_model_keeps_them() -> None:
    found = weighted()
    values, before = found.tensors()["w"].values, proto_of(found).SerializeToString()
    proto, held = light(found)
    assert [(tensor.name, tensor.data_location, len(tensor.raw_data)) for tensor in proto.graph.initializer if tensor.name == "w"] == [
        ("w", 1, 0)
    ]
    assert list(held) == ["w"]
    assert held["w"].flags.c_contiguous
    np.testing.assert_array_equal(held["w"], BIG)
    assert found.tensors()["w"].values is values
    assert proto_of(found).SerializeToString() == before


def test_the_model_keeps_its_weights_when_export_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = weighted()
    values = found.tensors()["w"].values

    def fails(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(session, "to_proto", fails)
    with pytest.raises(ValueError):
        light(found)
    assert found.tensors()["w"].values is values
