"""Dimensions that a model gives one name and that differ: told apart, in the analysis and in the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.config import Config, merged
from fp16fix.graph.load import model_from_proto
from fp16fix.tasks.repair import repair
from fp16fix.tasks.replay import replay
from fp16fix.tasks.verify import verify
from tests.models import normal, proto

TEXT = """g (float[{n},8] x, float[{n},8] z, float[8,8] w, float k, float j) => (float[{n},8] y, float[{n},8] u)
    {{ h = MatMul(x, w) e = Mul(h, k) y = Mul(e, j) u = MatMul(z, w) }}"""


@pytest.fixture(params=["N", "?"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    weights = {"w": normal(8, 8), "k": np.float32(1e5), "j": np.float32(1e-5)}
    parsed = proto(TEXT.format(n="N"), 13)
    for value in (*parsed.graph.input, *parsed.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = request.param
    kept = [value for value in parsed.graph.input if value.name not in weights]
    del parsed.graph.input[:]
    parsed.graph.input.extend(kept)
    parsed.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items())
    onnx.save(parsed, tmp_path / "m.onnx")
    (tmp_path / "in").mkdir()
    for k in range(4):
        np.savez(tmp_path / "in" / f"{k}.npz", x=normal(4, 8, seed=k), z=normal(6 + k, 8, seed=9 + k))
    return tmp_path


def config(folder: Path, output: str) -> Config:
    return merged(
        Config(), {"model": folder / "m.onnx", "inputs": str(folder / "in"), "output": folder / output, "build.targets": ["sm89"]}
    )


def dims(path: Path) -> list[list[str | int]]:
    return [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in onnx.load(path).graph.input]


def test_an_engine_is_built_that_takes_both_sizes(given: Path) -> None:
    outcome = repair(config(given, "m.plan"))
    assert outcome.verified
    ((x, _), (z, _)) = dims(given / "m.fp16.onnx")
    assert x != z
    assert [corner.verdict is not None and corner.verdict.verified for corner in outcome.engine.corners] == [True] * len(
        outcome.engine.corners
    )
    assert any(dict(corner.shapes)["z"] == (9, 8) for corner in outcome.engine.corners)
    replay(given / "m.outcome.json", given / "again.onnx")
    assert (given / "again.onnx").read_bytes() == (given / "m.fp16.onnx").read_bytes()


def test_a_users_own_graph_is_verified_with_it(given: Path) -> None:
    repair(config(given, "r.onnx"))
    mixed = onnx.load(given / "r.onnx")
    for value in mixed.graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    del mixed.graph.value_info[:]
    onnx.save(mixed, given / "mixed.onnx")
    assert verify(config(given, "r.onnx"), given / "mixed.onnx").verified


def test_names_that_hold_stay() -> None:
    model = model_from_proto(proto("g (float[N,8] x) => (float[N,8] y) { y = Relu(x) }"))
    assert model.graph.inputs[0].shape == ["N", 8]
