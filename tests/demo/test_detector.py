"""The demo detector is right in FP32, wrong by pixels in strict FP16, and wrong because of the nodes named here and no other."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
HERE = Path(__file__).parent
NONE = 10
"""The class that means no object."""
CULPRITS = {
    "stream": (
        "/encoder/layers.0/norm1/Pow",
        "/encoder/layers.0/norm2/Pow",
        "/encoder/layers.1/norm1/Pow",
        "/encoder/layers.1/norm2/Pow",
        "/encoder/norm/Pow",
        "/encoder/norm/ReduceMean_1",
        "/encoder/norm/Add",
    ),
    "size": ("/decoder/size/norm/Pow", "/decoder/size/norm/ReduceMean_1", "/decoder/size/norm/Add"),
    "pointer": ("/decoder/pointer/Mul_1", "/decoder/pointer/Unsqueeze", "/decoder/pointer/Mul_2", "/decoder/pointer/ReduceSum_1"),
}
"""By construction: squares, then variances, past 65504 in the encoder's norms and in the size head's; weights of a mean that vanish."""
EVERY_CULPRIT = tuple(node for nodes in CULPRITS.values() for node in nodes)
ENOUGH_DB = 50.0


def rounded(array: Array) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)


def strict(model: onnx.ModelProto, spared: Collection[str] = ()) -> onnx.ModelProto:
    """A copy in which every float is rounded to FP16 by a Cast pair where it is produced, but for the outputs of the nodes `spared`.

    ONNX Runtime's CPU FP16 kernels compute in FP32 and drop the casts between them; explicit pairs in an FP32 graph are honoured.
    """
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    pinned = {name for node in graph.node if node.name in spared for name in node.input}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in pinned:
            tensor.CopyFrom(numpy_helper.from_array(rounded(numpy_helper.to_array(tensor)), tensor.name))
    nodes = [*cast_pair("images", "images:rounded")]
    for node in graph.node:
        node.input[:] = [f"{name}:rounded" if name == "images" else name for name in node.input]
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in floats and node.name not in spared:
                node.output[index] = f"{name}:exact"
                nodes += cast_pair(f"{name}:exact", name)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def cast_pair(source: str, target: str) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    half = f"{target}:half"
    narrow = helper.make_node("Cast", [source], [half], to=TensorProto.FLOAT16)
    return narrow, helper.make_node("Cast", [half], [target], to=TensorProto.FLOAT)


def run(model: onnx.ModelProto, images: Array) -> tuple[Array, Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    logits, boxes = session.run(["logits", "boxes"], {"images": images})
    return logits, boxes


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(HERE / "detector.onnx")


@pytest.fixture(scope="module")
def images() -> Array:
    return np.concatenate([np.load(path)["images"] for path in sorted((HERE / "samples").glob("*.npz"))])


@pytest.fixture(scope="module")
def sound(model: onnx.ModelProto, images: Array) -> tuple[Array, Array]:
    return run(model, images)


def error_px(found: tuple[Array, Array], sound: tuple[Array, Array]) -> float:
    """Mean over the coordinates of all objects that FP32 names."""
    there = sound[0].argmax(-1) != NONE
    return float(np.abs(found[1] - sound[1])[there].mean())


def worst_sqnr_db(found: tuple[Array, Array], sound: tuple[Array, Array]) -> float:
    """Signal over noise, 10·log10(Σ ref² / Σ (ref − x)²), of the worse output; all its queries count."""
    return min(float(10 * np.log10(np.square(b).sum() / np.square(b - a).sum())) for a, b in zip(found, sound, strict=True))


def test_files_are_small_and_whole(model: onnx.ModelProto, images: Array) -> None:
    onnx.checker.check_model(model, full_check=True)
    samples = sorted((HERE / "samples").glob("*.npz"))
    assert (HERE / "detector.onnx").stat().st_size < 3_000_000
    assert sum(path.stat().st_size for path in samples) < 400_000
    assert images.shape == (8, 3, 128, 128)
    assert images.dtype == np.float32
    assert images.min() >= 0.0
    assert images.max() <= 1.0
    values = (*model.graph.input, *model.graph.output)
    shapes = {value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values}
    assert shapes == {"images": ["batch", 3, 128, 128], "logits": ["batch", 10, 11], "boxes": ["batch", 10, 4]}


def test_fp32_finds_something_in_every_sample(sound: tuple[Array, Array]) -> None:
    logits, boxes = sound
    there = logits.argmax(-1) != NONE
    assert np.isfinite(logits).all()
    assert np.isfinite(boxes).all()
    assert there.any(-1).all()
    assert (boxes[there][:, :2] > 0).all()
    assert (boxes[there][:, :2] < 128).all()


def test_a_sample_alone_gives_what_it_gives_in_a_batch(model: onnx.ModelProto, images: Array, sound: tuple[Array, Array]) -> None:
    np.testing.assert_allclose(run(model, images[3:4])[1][0], sound[1][3], atol=1e-3)


def test_plain_fp16_is_finite_and_pixels_off(model: onnx.ModelProto, images: Array, sound: tuple[Array, Array]) -> None:
    logits, boxes = run(strict(model), images)
    assert np.isfinite(logits).all()
    assert np.isfinite(boxes).all()
    assert error_px((logits, boxes), sound) > 2.0


def test_every_culprit_is_a_node(model: onnx.ModelProto) -> None:
    assert {node.name for node in model.graph.node} >= set(EVERY_CULPRIT)


def test_sparing_the_culprits_is_enough(model: onnx.ModelProto, images: Array, sound: tuple[Array, Array]) -> None:
    found = run(strict(model, EVERY_CULPRIT), images)
    assert worst_sqnr_db(found, sound) >= ENOUGH_DB
    assert error_px(found, sound) < 0.05


@pytest.mark.parametrize("culprit", EVERY_CULPRIT)
def test_no_culprit_can_be_left_out(culprit: str, model: onnx.ModelProto, images: Array, sound: tuple[Array, Array]) -> None:
    spared = [node for node in EVERY_CULPRIT if node != culprit]
    assert worst_sqnr_db(run(strict(model, spared), images), sound) < ENOUGH_DB


@pytest.mark.parametrize("ill", sorted(CULPRITS))
def test_each_ill_alone_moves_boxes(ill: str, model: onnx.ModelProto, images: Array, sound: tuple[Array, Array]) -> None:
    spared = [node for node in EVERY_CULPRIT if node not in CULPRITS[ill]]
    assert error_px(run(strict(model, spared), images), sound) > 0.15
