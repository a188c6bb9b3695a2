"""Mixes of types and graphs that end a builder unless something is done about it: built for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fp16fix.config import Config, merged
from fp16fix.report.outcome import Outcome
from fp16fix.tasks.repair import repair
from tests.models import normal, proto

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(op: str, path: Path) -> None:
    """Two layers of one kind, with initial states, an FP16 Mul in front and an FP16 Add behind."""
    gates, nodes, weights = GATES[op], [], {"axis": np.asarray([1]), "k": np.float32(0.7), "one": np.float32(1)}
    source = "scaled"
    nodes.append(helper.make_node("Mul", ["x", "k"], ["scaled"], name="scale"))
    nodes.append(helper.make_node("Mul", ["h", "k"], ["h0"], name="state"))
    for k, size in enumerate((8, 16)):
        weights[f"W{k}"], weights[f"R{k}"] = (
            normal(1, gates * 16, size, scale=0.3, seed=k),
            normal(1, gates * 16, 16, scale=0.3, seed=9 + k),
        )
        weights[f"B{k}"] = normal(1, 2 * gates * 16, scale=0.1, seed=5 + k)
        inputs = [source, f"W{k}", f"R{k}", f"B{k}", "", "h0"]
        nodes.append(helper.make_node(op, inputs, [f"y{k}"], hidden_size=16, name=f"layer{k}"))
        nodes.append(helper.make_node("Squeeze", [f"y{k}", "axis"], [f"s{k}"], name=f"squeeze{k}"))
        source = f"s{k}"
    nodes.append(helper.make_node("Add", [source, "one"], ["y"], name="add"))
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [10, 2, 8]),
        helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 2, 16]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [10, 2, 16])]
    initializers = [numpy_helper.from_array(np.asarray(each), name) for name, each in weights.items()]
    graph = helper.make_graph(nodes, "g", given, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), path)


def planned(folder: Path, **settings: object) -> Outcome:
    return repair(
        merged(
            Config(),
            {"model": folder / "m.onnx", "inputs": str(folder / "in"), "output": folder / "m.plan", "build.targets": ["sm89"], **settings},
        )
    )


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("pins", [("layer0",), ("layer1",), ("layer0", "layer1")])
def test_a_pinned_recurrence_beside_an_fp16_one(tmp_path: Path, op: str, pins: tuple[str, ...]) -> None:
    recurrent(op, tmp_path / "m.onnx")
    (tmp_path / "in").mkdir()
    for k in range(4):
        np.savez(tmp_path / "in" / f"{k}.npz", x=normal(10, 2, 8, seed=k), h=normal(1, 2, 16, seed=40 + k))
    outcome = planned(tmp_path, pin=list(pins))
    assert outcome.verified
    assert outcome.engine.plan_bytes > 0
    assert outcome.engine.compiled is not None
    assert outcome.engine.compiled.narrowed == ()
    assert outcome.counts.fp32_nodes == len(pins), "what guards a pin is none"


def test_a_squeeze_without_axes_of_what_is_open(tmp_path: Path) -> None:
    text = "g (float[n,t,c,8] x, float[8,8] w) => (float[a,b,d] y) { s = Squeeze(x) y = MatMul(s, w) }"
    parsed = proto(text, 13)
    del parsed.graph.input[1]
    parsed.graph.initializer.append(numpy_helper.from_array(normal(8, 8), "w"))
    onnx.save(parsed, tmp_path / "m.onnx")
    (tmp_path / "in").mkdir()
    for k in range(4):
        np.savez(tmp_path / "in" / f"{k}.npz", x=normal(3, 2 + k, 1, 8, seed=k))
    outcome = planned(tmp_path)
    assert outcome.verified
    assert outcome.engine.plan_bytes > 0
    assert [edit.by for edit in outcome.recipe.rewrites] == ["squeeze-axes"]
