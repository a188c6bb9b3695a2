"""Operators that nothing here computes: a plugin at the end of a detector, one in the middle whose outputs samples record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fp16fix
from fp16fix.errors import BackendError, ConfigError, ModelError, SampleError
from fp16fix.graph import load as load_module
from fp16fix.graph.edit import Editor
from fp16fix.graph.load import load
from fp16fix.graph.opaque import cut, put_back
from fp16fix.graph.runtime import Runtime, use
from fp16fix.graph.save import save_model
from fp16fix.inputs.files import write_npz

FEW: dict[str, Any] = {"jitter": 1, "blends": 2, "threads": 1}
SAMPLES = [np.random.default_rng(seed).standard_normal((1, 20, 64)).astype(np.float32) * 3 for seed in range(4)]
PLUGIN: dict[str, Any] = {
    "score_threshold": 0.3,
    "iou_threshold": 0.5,
    "max_output_boxes": 10,
    "background_class": -1,
    "plugin_version": "1",
}
NMS = ("num", "kept", "scored", "classes")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    use(Runtime())


def info(name: str, shape: list[int] | None, element: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def weight(name: str, *shape: int, gain: float = 1.0) -> onnx.TensorProto:
    return numpy_helper.from_array((np.random.default_rng(len(name)).standard_normal(shape) * gain).astype(np.float32), name)


def detector(domain: str = "TRT") -> onnx.ModelProto:
    """A square that overflows, a norm, two heads, and TensorRT's own suppression, which ONNX Runtime has never heard of."""
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["h"], "grow"),
        helper.make_node("Mul", ["h", "h"], ["hh"], "square"),
        helper.make_node("ReduceSum", ["hh", "last"], ["sum"], "sum", keepdims=1),
        helper.make_node("Div", ["hh", "sum"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "box"], ["boxes"], "boxes"),
        helper.make_node("MatMul", ["n", "cls"], ["logits"], "logits"),
        helper.make_node("Sigmoid", ["logits"], ["scores"], "scores"),
        helper.make_node("EfficientNMS_TRT", ["boxes", "scores"], [*NMS], "nms", domain=domain, **PLUGIN),
    ]
    ends = [info("num", [1, 1], TensorProto.INT32), info("kept", [1, 10, 4]), info("scored", [1, 10])]
    ends.append(info("classes", [1, 10], TensorProto.INT32))
    weights = [weight("up", 64, 64, gain=30.0), weight("box", 64, 4), weight("cls", 64, 3)]
    weights.append(numpy_helper.from_array(np.array([-1], np.int64), "last"))
    graph = helper.make_graph(nodes, "detector", [info("x", [1, 20, 64])], ends, weights)
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def pooled(*, declared: bool = True) -> onnx.ModelProto:
    """A plugin in the middle: it reads an activation, a weight and an input, and gives what the rest of the graph reads."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["xx"], "square"),
        helper.make_node("Sqrt", ["xx"], ["root"], "root"),
        helper.make_node("Pool", ["root", "anchors", "x"], ["p"], "pool", domain="my.ops", ratio=0.5),
        helper.make_node("MatMul", ["p", "head"], ["q"], "head"),
        helper.make_node("Add", ["q", "bias"], ["y"], "bias"),
    ]
    weights = [weight("head", 64, 3), weight("anchors", 7, 4, gain=1e6), weight("bias", 3)]
    known = [info("p", [1, 10, 64])] if declared else []
    graph = helper.make_graph(nodes, "pooled", [info("x", [1, 20, 64])], [info("y", [1, 10, 3]), info("root", [1, 20, 64])], weights)
    graph.value_info.extend(known)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)], ir_version=8)


def recorded() -> list[dict[str, np.ndarray]]:
    """What a run with the plugin gave."""
    return [{"x": 300 * x, "p": 100 * np.abs(x[:, ::2])} for x in SAMPLES]


def node_of(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    (found,) = [node for node in model.graph.node if node.op_type == op]
    assert isinstance(found, onnx.NodeProto)
    return found


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Element types, by inference and from the graph's own ends."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    return {value.name: value.type.tensor_type.elem_type for value in values} | {each.name: each.data_type for each in inferred.initializer}


@pytest.mark.parametrize("domain", ["TRT", ""])
def test_a_plugin_at_the_end_stays_and_what_it_reads_is_held(domain: str) -> None:
    given = detector(domain)
    found = fp16fix.repair(given, SAMPLES, **FEW)
    assert found.verified
    assert {each.output for each in found.verdict.outputs} == {"boxes", "scores"}
    made = found.model
    assert [value.name for value in made.graph.output] == [*NMS]
    assert [value.name for value in made.graph.input] == ["x"]
    assert node_of(made, "EfficientNMS_TRT") == node_of(given, "EfficientNMS_TRT")
    assert types(made)["boxes"] == types(made)["scores"] == TensorProto.FLOAT
    assert any("EfficientNMS_TRT" in line and "num, kept" in line for line in found.warnings)


def test_nodes_of_the_delivered_graph_stand_behind_what_they_read() -> None:
    made = fp16fix.repair(pooled(), recorded(), **FEW).model
    seen = {value.name for value in made.graph.input} | {each.name for each in made.graph.initializer}
    for node in made.graph.node:
        assert {name for name in node.input if name} <= seen, node.name
        seen.update(node.output)
    assert {value.name for value in made.graph.output} <= seen


@pytest.mark.parametrize("declared", [True, False])
def test_a_plugin_in_the_middle_gives_what_samples_record(*, declared: bool) -> None:
    given = pooled(declared=declared)
    found = fp16fix.repair(given, recorded(), **FEW)
    assert found.verified
    assert {each.output for each in found.verdict.outputs} == {"y", "root"}
    made = found.model
    assert [value.name for value in made.graph.input] == ["x"]
    assert [value.name for value in made.graph.output] == ["y", "root"]
    anchors = next(each for each in made.graph.initializer if each.name == "anchors")
    assert (numpy_helper.to_array(anchors) == numpy_helper.to_array(weight("anchors", 7, 4, gain=1e6))).all()
    assert node_of(made, "Pool").input == node_of(given, "Pool").input
    assert any(line.startswith("p came out of the samples") for line in found.warnings)


def test_the_kernel_takes_the_types_of_the_file_whatever_the_interface() -> None:
    made = fp16fix.repair(pooled(), recorded(), io="fp16", **FEW).model
    found = types(made)
    assert {found[name] for name in node_of(made, "Pool").input} == {TensorProto.FLOAT}
    assert found["y"] == TensorProto.FLOAT16


def test_what_is_lacking_is_said_by_its_name() -> None:
    with pytest.raises(SampleError, match=r"lacks 'p', which pool \(Pool\) gives") as error:
        fp16fix.repair(pooled(), [{"x": x} for x in SAMPLES], **FEW)
    assert "--stand-in" in (error.value.hint or "")
    with pytest.raises(SampleError, match="'p' cannot be made up"):
        fp16fix.repair(pooled(), **FEW)


def test_a_bound_for_what_nothing_computes_is_refused() -> None:
    with pytest.raises(ConfigError, match="gives output 'kept'") as error:
        fp16fix.repair(detector(), SAMPLES, tolerance={"outputs": {"kept": {"max_abs": 1.0}}}, **FEW)
    assert "boxes, scores" in (error.value.hint or "")


def test_an_operator_that_python_computes_is_no_plugin(tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text("def pool(root, anchors, x, ratio):\n    return root[:, ::2]\n")
    found = fp16fix.repair(pooled(), SAMPLES, stand_ins={"my.ops::Pool": str(tmp_path / "ops.py:pool")}, **FEW)
    assert found.verified
    assert not any("Nothing here computes" in line for line in found.warnings)


def test_functions_of_the_model_are_no_plugins() -> None:
    given = pooled()
    body = [helper.make_node("Slice", ["root", "from", "to", "axis", "step"], ["p"])]
    values = {"from": 0, "to": 100, "axis": 1, "step": 2}
    constants = [helper.make_node("Constant", [], [name], value_ints=[value]) for name, value in values.items()]
    function = helper.make_function("my.ops", "Pool", ["root", "anchors", "x"], ["p"], constants + body, [helper.make_opsetid("", 17)])
    given.functions.append(function)
    found = fp16fix.repair(given, SAMPLES, **FEW)
    assert found.verified
    assert not any("Nothing here computes" in line for line in found.warnings)


def test_a_graph_with_nothing_else_is_refused_as_before() -> None:
    node = helper.make_node("Pool", ["x"], ["y"], "pool", domain="my.ops")
    graph = helper.make_graph([node], "g", [info("x", [2])], [info("y", [2])])
    with pytest.raises(ModelError, match="ONNX Runtime does not load"):
        fp16fix.repair(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)]), **FEW)


def test_replay_makes_the_same_bytes_and_verify_takes_the_product(tmp_path: Path) -> None:
    onnx.save(detector(), tmp_path / "det.onnx")
    fp16fix.repair(tmp_path / "det.onnx", SAMPLES, output=tmp_path / "out.onnx", **FEW)
    again = fp16fix.replay(tmp_path / "out.outcome.json", tmp_path / "again.onnx")
    assert again.read_bytes() == (tmp_path / "out.onnx").read_bytes()
    verdict = fp16fix.verify(tmp_path / "det.onnx", tmp_path / "out.onnx", SAMPLES, **FEW)
    assert verdict.verified
    assert any("Nothing here computes nms" in note for note in verdict.notes)


def test_weights_that_lie_outside_the_proto_come_back(tmp_path: Path) -> None:
    given = pooled()
    large = weight("anchors", 300, 400)
    for index, each in enumerate(given.graph.initializer):
        if each.name == "anchors":
            given.graph.initializer[index].CopyFrom(large)
    onnx.save(given, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=1024)
    save_model(load(tmp_path / "m.onnx"), tmp_path / "out.onnx")
    found = {each.name: each for each in onnx.load(tmp_path / "out.onnx").graph.initializer}
    assert (numpy_helper.to_array(found["anchors"]) == numpy_helper.to_array(large)).all()


def test_a_dynamic_plugin_model_gets_its_profile_from_recorded_samples(tmp_path: Path) -> None:
    """Samples that record more than the inputs are read when shapes are settled, before any analysis."""
    from fp16fix.config import Config
    from fp16fix.engines.profiles import settled

    given = pooled(declared=False)
    given.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "rows"
    onnx.save(given, tmp_path / "m.onnx")
    for index, feeds in enumerate(recorded()):
        write_npz(tmp_path / f"{index}.npz", feeds)
    (profile,) = settled(Config(model=tmp_path / "m.onnx", inputs=str(tmp_path))).build.profiles
    assert set(profile) == {"x"}


def test_a_plan_of_it_is_told_at_once_to_need_the_plugin(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(BackendError, match="Plugin not found") as error:
        fp16fix.repair(detector(), SAMPLES, output=tmp_path / "out.plan", **FEW)
    assert "--plugin" in (error.value.hint or "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("changed", "read", "count"), [(True, "anchors/given", 4), (False, "anchors", 3)])
def test_a_weight_that_was_scaled_meanwhile_is_given_as_it_was(*, changed: bool, read: str, count: int) -> None:
    """Exponents are folded into weights under their own names; a plugin that reads the same one has no part in that."""
    made = pooled()
    opaque = cut(made, {})
    (other,) = [each for each in made.graph.initializer if each.name == "anchors"]
    if changed:
        other.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(other) / 4, "anchors"))
    put_back(made, opaque)
    assert node_of(made, "Pool").input[1] == read
    assert len(made.graph.initializer) == count
    (held,) = [each for each in made.graph.initializer if each.name == read]
    assert np.array_equal(numpy_helper.to_array(held), numpy_helper.to_array(weight("anchors", 7, 4, gain=1e6)))


def test_names_of_a_plugin_are_nobody_elses() -> None:
    edit = Editor(load_module.model_from_proto(pooled()))
    assert {edit.fresh(name) for name in ("anchors", "p", "pool")} == {"anchors_2", "p_2", "pool_2"}
