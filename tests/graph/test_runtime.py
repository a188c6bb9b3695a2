"""What ONNX Runtime is given by the config: a device, kernels of custom operators, Python in the place of one it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import fp16fix
from fp16fix.errors import BackendMissingError, ConfigError, ModelError, SampleError
from fp16fix.graph import runtime
from fp16fix.graph.runtime import CUDA, Runtime, use
from tests.models import normal, proto

FEW: dict[str, Any] = {"jitter": 1, "blends": 2, "threads": 1, "made": 2}
CODE = """
import numpy as np

def wavy(x, gain, mode):
    assert mode == "soft"
    return gain * np.tanh(x / 1000)

def ranked(x, gain, mode):
    return x.astype(np.float64), np.argsort(x)[:, :2]

def fails(x, gain, mode):
    return {}["nothing"]
"""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    use(Runtime())


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "ops.py").write_text(CODE)
    return tmp_path / "ops.py"


def custom(domain: str = "my.ops", outputs: int = 1) -> onnx.ModelProto:
    """A square that overflows, an operator that nobody knows, a product."""
    names = ["q", "at"][:outputs]
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["p"], "square"),
        helper.make_node("Sqrt", ["p"], ["s"], "root"),
        helper.make_node("Wavy", ["s"], names, "wavy", domain=domain, gain=1.5, mode="soft"),
        helper.make_node("Neg", ["q"], ["y"], "neg"),
    ]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 64])]
    ends += [helper.make_tensor_value_info("at", TensorProto.INT64, [4, 2])] * (outputs - 1)
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 64])], ends)
    imports = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def samples() -> list[np.ndarray]:
    return [normal(4, 64, scale=300.0, seed=seed) for seed in range(3)]


@pytest.mark.parametrize(("domain", "name"), [("my.ops", "my.ops::Wavy"), ("my.ops", "Wavy"), ("", "Wavy")])
def test_python_computes_an_operator_that_the_product_keeps(code: Path, tmp_path: Path, domain: str, name: str) -> None:
    pytest.importorskip("onnxruntime_extensions")
    outcome = fp16fix.repair(custom(domain), samples(), tmp_path / "f.onnx", stand_ins={name: f"{code}:wavy"}, **FEW)
    assert outcome.verified
    assert outcome.before[0].sqnr_db < 20
    (node,) = (node for node in outcome.model.graph.node if node.op_type == "Wavy")
    assert node.domain == domain
    assert {each.name for each in node.attribute} == {"gain", "mode"}
    assert outcome.counts.fp32_nodes == 1, "the operator is a wall of its own, and nothing else is wide"
    onnx.save(custom(domain), tmp_path / "m.onnx")
    again = fp16fix.replay(outcome, tmp_path / "again.onnx", tmp_path / "m.onnx", stand_ins={name: f"{code}:wavy"})
    assert again.read_bytes() == (tmp_path / "f.onnx").read_bytes()


def test_several_outputs_have_the_types_that_the_model_says(code: Path) -> None:
    pytest.importorskip("onnxruntime_extensions")
    found = fp16fix.diagnose(custom(outputs=2), samples(), stand_ins={"Wavy": f"{code}:ranked"})
    assert found.ranges["q"].absmax > 100


def test_what_it_raises_is_told_at_its_line_and_ends_no_process(code: Path) -> None:
    pytest.importorskip("onnxruntime_extensions")
    with pytest.raises(SampleError, match=r"ops.py:12: KeyError: 'nothing'"):
        fp16fix.diagnose(custom(), samples(), stand_ins={"Wavy": f"{code}:fails"})
    with pytest.raises(SampleError, match="gives 2 outputs, the node has 1"):
        fp16fix.diagnose(custom(), samples(), stand_ins={"Wavy": f"{code}:ranked"})


def test_kernels_come_from_a_library() -> None:
    tools = pytest.importorskip("onnxruntime_extensions")
    nodes = [
        helper.make_node("NegPos", ["x"], ["a", "b"], "np", domain="ai.onnx.contrib"),
        helper.make_node("Add", ["a", "b"], ["y"], "add"),
    ]
    x, y = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 64])] for name in "xy")
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.contrib", 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", x, y), opset_imports=imports, ir_version=9)
    with pytest.raises(SampleError, match=r"which np \(NegPos\) gives, and nothing here computes that\s.*--ort-library"):
        fp16fix.diagnose(model, samples())
    assert fp16fix.diagnose(model, samples(), ort_libraries=[tools.get_library_path()]).ranges["a"].low < 0


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"ort_libraries": ["none.so"]}, ConfigError, "none.so: no such library"),
        ({"ort_libraries": [__file__]}, ConfigError, "ONNX Runtime cannot load it"),
        ({"stand_ins": {"Wavy": "none.py:f"}}, ConfigError, "none.py: no such file"),
        ({"stand_ins": {"Wavy": "none.py"}}, ConfigError, "stand_ins.Wavy: expected file.py:function"),
        ({}, SampleError, r"which wavy \(Wavy\) gives, and nothing here computes that\s.*--stand-in"),
    ],
)
def test_what_cannot_be_used_is_said_before_the_work(options: dict[str, Any], error: type[Exception], says: str) -> None:
    if "py:f" in str(options):
        pytest.importorskip("onnxruntime_extensions")
    with pytest.raises(error, match=says):
        fp16fix.diagnose(custom(), samples(), **options)


def test_a_stand_in_needs_a_package_that_is_named(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime_extensions", None)
    with pytest.raises(BackendMissingError, match=r"fp16fix\[stand-ins\]"):
        fp16fix.diagnose(custom(), samples(), stand_ins={"Wavy": f"{code}:wavy"})


def test_cuda_is_a_choice_of_provider_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendMissingError, match=r"has no CUDA provider \(it has CPUExecutionProvider\)"):
        fp16fix.diagnose(custom(), samples(), device="cuda")
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    use(Runtime("cuda"))
    assert runtime.providers() == [(CUDA, {"use_tf32": "0"}), "CPUExecutionProvider"]


def test_one_call_leaves_nothing_to_the_next(code: Path) -> None:
    pytest.importorskip("onnxruntime_extensions")
    fp16fix.diagnose(custom(), samples(), stand_ins={"Wavy": f"{code}:wavy"})
    with pytest.raises(SampleError, match="nothing here computes that"):
        fp16fix.diagnose(custom(), samples())


def test_a_graph_is_raised_to_an_opset_and_replayed(tmp_path: Path) -> None:
    onnx.save(proto("g (float[4,64] x) => (float[4,1] y) { a = Exp (x) y = ReduceMean <axes = [1]> (a) }", 13), tmp_path / "m.onnx")
    outcome = fp16fix.repair(tmp_path / "m.onnx", None, tmp_path / "f.onnx", opset=18, **FEW)
    assert outcome.model.opset_import[0].version == 18
    fp16fix.replay(outcome, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "f.onnx").read_bytes()
    with pytest.raises(ModelError, match="is in opset 13, and nothing is converted down to 11"):
        fp16fix.diagnose(tmp_path / "m.onnx", opset=11)
    with pytest.raises(ModelError, match=r"opset 99 is newer than ONNX .* knows"):
        fp16fix.diagnose(tmp_path / "m.onnx", opset=99)
