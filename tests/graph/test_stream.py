"""Big models are written without their weights ever being in a proto: the file says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.graph import save
from fp16fix.graph.load import load, model_from_proto
from fp16fix.graph.save import save_model
from fp16fix.graph.session import parted, proto_of
from fp16fix.graph.stream import opening
from tests.models import normal, proto


def test_a_streamed_file_holds_what_a_serialised_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = proto("g (float[2,40] x) => (float[2,40] y) <float[2] small = {1.0, 2.0}> { a = MatMul (x, w) y = MatMul (a, v) }", check=False)
    for name in "wv":
        made.graph.initializer.append(onnx.numpy_helper.from_array(normal(40, 40, seed=ord(name)), name))
    made.metadata_props.add(key="author", value="somebody")
    model = model_from_proto(made)
    monkeypatch.setattr(save, "STREAMED", 1000)
    save_model(model, tmp_path / "m.onnx")
    found, wanted = onnx.load(tmp_path / "m.onnx"), proto_of(model)
    assert {each.name for each in parted(model)[0].graph.initializer if each.external_data} == {"w", "v"}
    for each in (found, wanted):
        each.graph.initializer.sort(key=lambda tensor: tensor.name)
    assert found == wanted
    onnx.checker.check_model(found, full_check=True)
    np.testing.assert_array_equal(load(tmp_path / "m.onnx", simplified=False).tensors()["v"].values, normal(40, 40, seed=ord("v")))


@pytest.mark.parametrize("length", [0, 127, 128, 2**31 - 1, 5 * 2**30])
def test_lengths_are_protobufs(length: int) -> None:
    data = opening(9, length)
    value = sum((byte & 127) << 7 * k for k, byte in enumerate(data[1:]))
    assert (data[0], value, all(byte & 128 for byte in data[1:-1]), data[-1] & 128) == (74, length, True, 0)
