"""Weights beside a model: found there and nowhere else, part of the digest, checked against the file before they are believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fp16fix.errors import ModelError
from fp16fix.graph import thin
from fp16fix.graph.external import slice_of
from fp16fix.graph.load import load
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from tests.models import normal

SIDE = 4
VALUE = 2.0
"""What the weight beside the model holds; 77 lies in the working directory."""


def weight(location: str = "w.bin", **said: object) -> TensorProto:
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[SIDE, SIDE], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **said}.items():
        made.external_data.add(key=key, value=str(value))
    return made


def odd(element: int, size: int) -> TensorProto:
    """One that is said to hold something else."""
    made = weight()
    made.data_type, made.dims[:] = element, [size]
    return made


def by_initializer(tensor: TensorProto) -> onnx.GraphProto:
    return graph([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor])


def by_attribute(tensor: TensorProto) -> onnx.GraphProto:
    return graph([helper.make_node("Constant", [], ["w"], value=tensor), helper.make_node("MatMul", ["x", "w"], ["y"])])


def by_body(tensor: TensorProto) -> onnx.GraphProto:
    out = [helper.make_tensor_value_info(name, 1, [2, SIDE]) for name in "op"]
    then = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["o"])], "t", [], out[:1], [tensor])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["p"])], "e", [], out[1:])
    return graph([helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)])


def graph(nodes: list[onnx.NodeProto], initializers: list[TensorProto] | None = None) -> onnx.GraphProto:
    x, y = (helper.make_tensor_value_info(name, 1, [2, SIDE]) for name in "xy")
    flag = [helper.make_tensor_value_info("c", TensorProto.BOOL, [])] if nodes[0].op_type == "If" else []
    return helper.make_graph(nodes, "g", [x, *flag], [y], initializers or [])


def by_function(tensor: TensorProto) -> onnx.ModelProto:
    nodes = [helper.make_node("Constant", [], ["w"], value=tensor), helper.make_node("MatMul", ["a", "w"], ["b"])]
    made = model_of(graph([helper.make_node("Times", ["x"], ["y"], domain="my")]))
    made.opset_import.append(helper.make_opsetid("my", 1))
    made.functions.append(helper.make_function("my", "Times", ["a"], ["b"], nodes, [helper.make_opsetid("", 17)]))
    return made


def model_of(made: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


PLACES: dict[str, Callable[[TensorProto], onnx.ModelProto]] = {
    "initializer": lambda tensor: model_of(by_initializer(tensor)),
    "attribute": lambda tensor: model_of(by_attribute(tensor)),
    "body": lambda tensor: model_of(by_body(tensor)),
    "function": by_function,
}


def written(folder: Path, made: onnx.ModelProto, value: float = VALUE) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "w.bin").write_bytes(np.full((SIDE, SIDE), value, np.float32).tobytes())
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    return folder / "m.onnx"


def run(found: Model) -> np.ndarray:
    x = np.ones((2, SIDE), np.float32)
    outputs: np.ndarray = Session(found).run({"x": x, "c": np.array(True)})["y"]
    return outputs


@pytest.mark.parametrize("simplified", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_weights_come_from_beside_the_model_whatever_refers_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, simplified: bool
) -> None:
    path = written(tmp_path / "model", PLACES[place](weight()))
    written(tmp_path / "elsewhere", PLACES[place](weight()), 77.0)
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = load(path, simplified=simplified)
    np.testing.assert_array_equal(run(found), np.full((2, SIDE), SIDE * VALUE))
    (tmp_path / "model" / "w.bin").write_bytes(np.full((SIDE, SIDE), 3.0, np.float32).tobytes())
    assert load(path).digest != found.digest


@pytest.mark.parametrize("place", ["initializer", "attribute", "body"])
def test_a_big_model_gives_what_a_small_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Big weights stay on disk, those of the main graph that is: nothing else may change."""
    monkeypatch.setattr(thin, "BIG_MODEL", 0)
    monkeypatch.setattr(thin, "BIG_TENSOR", 0)
    found = load(written(tmp_path, PLACES[place](weight())), simplified=False)
    np.testing.assert_array_equal(run(found), np.full((2, SIDE), SIDE * VALUE))
    mapped = isinstance(root(found.tensors()["w"].values), np.memmap)
    assert mapped is (place != "body")
    assert "w" not in {tensor.name for tensor in found.graph.inputs}


def root(array: np.ndarray) -> object:
    """Whose memory it is."""
    below: object = array
    while isinstance(below, np.ndarray) and not isinstance(below, np.memmap):
        below = below.base
    return below


@pytest.mark.parametrize(("offset", "mapped"), [(0, True), (64, True), (4, False)])
def test_weights_are_used_where_they_lie_if_they_are_aligned(tmp_path: Path, offset: int, mapped: bool) -> None:
    values = normal(SIDE, SIDE)
    (tmp_path / "w.bin").write_bytes(bytes(offset) + values.tobytes())
    tensor = weight(offset=offset)
    found = slice_of(tensor, tmp_path / "m.onnx").mapped(tensor)
    np.testing.assert_array_equal(found, values)
    assert isinstance(root(found), np.memmap) is mapped


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (weight("../w.bin"), "outside the model's folder"),
        (weight("/etc/hostname"), "outside the model's folder"),
        (weight("link/w.bin"), "outside the model's folder"),
        (weight(""), "outside the model's folder"),
        (weight("none.bin"), "no such file"),
        (weight("."), "no such file"),
        (weight("\0"), "no such file"),
        (weight("x" * 5000), "no such file"),
        (weight("loop"), "no such file"),
        (weight(length=2**62), "takes 64 bytes and is said to have 4,611,686,018,427,387,904"),
        (weight(length=60), "takes 64 bytes and is said to have 60"),
        (weight(offset=1), "its bytes 1 to 65 are not in w.bin, which has 64"),
        (weight(offset=-4), "its place in its file is said to be '-4'"),
        (weight(offset="9" * 5000), "its place in its file"),
        (
            odd(1, 1 << 40),
            "its bytes 0 to 4,398,046,511,104 are not in w.bin",
        ),
        (
            odd(1, -4),
            "cannot lie in another file",
        ),
        (odd(8, 4), "cannot lie in another file"),
        (odd(99, 4), "element type 99"),
    ],
)
@pytest.mark.parametrize("place", ["initializer", "attribute"])
def test_what_a_tensor_says_of_its_bytes_is_not_believed(tmp_path: Path, tensor: TensorProto, says: str, place: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "w.bin").write_bytes(bytes(64))
    path = written(tmp_path / "model", PLACES[place](tensor))
    (path.parent / "link").symlink_to(tmp_path / "outside")
    (path.parent / "loop").symlink_to("loop")
    with pytest.raises(ModelError, match=says) as caught:
        load(path)
    assert "m.onnx" in str(caught.value)


def test_a_device_is_no_file_to_read_weights_from(tmp_path: Path) -> None:
    path = written(tmp_path, PLACES["initializer"](weight("pipe")))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="no such file"):
        load(path)


def test_a_cache_of_links_is_a_model_and_its_weights(tmp_path: Path) -> None:
    """Download caches link names to blobs in another folder: both files are links to the same one."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    made = PLACES["attribute"](weight())
    written(blobs, made)
    snapshot.mkdir()
    for name in ("m.onnx", "w.bin"):
        (snapshot / name).symlink_to(blobs / name)
    tensor = made.graph.node[0].attribute[0].t
    np.testing.assert_array_equal(slice_of(tensor, snapshot / "m.onnx").mapped(tensor), np.full((SIDE, SIDE), VALUE))
