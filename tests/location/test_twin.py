"""The PyTorch module beside the ONNX model made from it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp16fix.errors import BackendMissingError, SampleError
from fp16fix.graph.load import load
from fp16fix.graph.session import Session
from fp16fix.inputs.sample import Sample
from fp16fix.location.triage import Fault
from fp16fix.location.twin import Twin, built
from tests.location.test_locate import floor

torch = pytest.importorskip("torch")

SAMPLES = [Sample(str(seed), {"x": np.full((2, 4), seed + 1.0, np.float32), "scale": np.full(1, 2.0, np.float32)}) for seed in range(3)]


class Counted(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Sums of scaled rows, in whatever structure is asked for."""

    def __init__(self, shape: str = "dict") -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)
        self.shape = shape
        self.calls: list[bool] = []
        self.tf32: list[bool] = []

    def forward(self, x: Any, scale: Any) -> Any:
        self.calls.append(torch.is_autocast_enabled("cpu"))
        self.tf32.append(torch.backends.cudnn.allow_tf32)
        scores, total = self.linear(x) * scale, x.sum(-1)
        structures = {
            "dict": {"more": x, "total": total, "scores": scores},
            "tuple": (scores, None, [total]),
            "one": scores,
            "three": (scores, total, x),
            "partial": {"scores": scores},
        }
        return structures[self.shape]


def outputs(module: Any, names: tuple[str, ...] = ("scores", "total")) -> list[dict[str, np.ndarray]]:
    return [dict(given.arrays) for given in Twin(module, ["x", "scale"], names).run(SAMPLES)]


@pytest.mark.parametrize(
    ("shape", "names"), [("dict", ("scores", "total")), ("tuple", ("scores", "total")), ("one", ("495",)), ("partial", ("scores", "total"))]
)
def test_outputs_are_called_by_their_onnx_names(shape: str, names: tuple[str, ...]) -> None:
    module = Counted(shape)
    found = outputs(module, names)
    assert len(found) == 3
    with torch.no_grad():
        exact = module.linear(torch.from_numpy(SAMPLES[2].arrays["x"])) * 2.0
    np.testing.assert_allclose(found[2][names[0]], exact.numpy(), rtol=1e-6)
    assert list(found[0]) == (["scores"] if shape == "partial" else list(names))


def test_each_sample_is_run_once_in_fp32_and_once_under_autocast() -> None:
    module = Counted().train()
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        twin = Twin(module, ["x", "scale"], ["scores", "total"])
        twin.exhaust(SAMPLES)
        assert torch.backends.cudnn.allow_tf32, "as it was"
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
    assert module.calls == [False, True] * 3
    assert module.tf32 == [False, True] * 3, "FP32 is FP32"
    assert module.training
    verdict = twin.verdict(floor)
    assert (verdict.verified, verdict.oracle, verdict.samples) == (True, "cpu", 3)
    assert 50.0 < verdict.outputs[0].sqnr_db < 100.0
    assert [figures.output for figures in verdict.outputs] == ["scores", "total"]


def test_modes_of_all_parts_are_as_before() -> None:
    module = Counted().train()
    module.linear.eval()
    outputs(module)
    assert module.training
    assert not module.linear.training


@pytest.mark.parametrize(
    ("parameters", "by_name"),
    [
        ("self, scale, x", True),
        ("self, *, x, scale, more=None", True),
        ("self, a, b", False),
        ("self, *args", False),
        ("self, **kwargs", False),
    ],
)
def test_samples_are_passed_by_keyword_where_forward_names_them(parameters: str, by_name: bool) -> None:
    scope: dict[str, Any] = {"torch": torch}
    exec(f"class Net(torch.nn.Module):\n def forward({parameters}): return x - scale if {by_name} else None", scope)
    assert Twin(scope["Net"](), ["x", "scale"], ["y"]).by_name is by_name


def test_positions_are_those_of_the_onnx_inputs() -> None:
    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, first: Any, second: Any) -> Any:
            return first - second

    assert outputs(Net(), ("y",))[1]["y"].tolist() == [[0.0] * 4] * 2, "x − scale"


def test_modules_that_are_not_python_any_more(tmp_path: Path) -> None:
    given = tuple(torch.from_numpy(value) for value in SAMPLES[0].arrays.values())
    torch.jit.save(torch.jit.trace(Counted("one"), given), tmp_path / "net.ts")
    program = torch.export.export(torch.nn.Bilinear(4, 1, 3).eval(), (given[0], torch.ones(2, 1))).module()
    assert outputs(torch.jit.load(tmp_path / "net.ts"), ("y",))[0]["y"].shape == (2, 3)
    samples = [Sample("0", {"a": SAMPLES[0].arrays["x"], "b": np.ones((2, 1), np.float32)})]
    (found,) = Twin(program, ["a", "b"], ["y"]).run(samples)
    assert found.arrays["y"].shape == (2, 3)


def test_what_a_module_cannot_be() -> None:
    with pytest.raises(SampleError, match=r"Counted: returns 3 tensors \(0, 1, 2\), the model has 2 outputs \(scores, total\)") as caught:
        outputs(Counted("three"))
    assert "dict of tensors by output name" in caught.value.hint
    with pytest.raises(SampleError, match=r"its weight 'linear\.weight' is not FP32"):
        Twin(Counted().half(), ["x"], ["y"])
    with pytest.raises(SampleError, match=r"expected a torch\.nn\.Module, found function"):
        Twin(floor, ["x"], ["y"])


USER = """
import torch

class Net(torch.nn.Module):
    def forward(self, x, scale):
        return self.inner(x)

    def inner(self, x):
        return torch.cat([x, x[:, :2]])

def build(): return Net()
def fails(): raise ValueError("no checkpoint")
def nothing(): return {"net": 1}
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(USER)
    return path


def test_faults_of_the_users_code_are_reported_at_its_line(user: Path) -> None:
    with pytest.raises(SampleError, match="the module fails in FP32: RuntimeError: Sizes of tensors") as caught:
        outputs(built(f"{user}:build"))
    assert caught.value.where == f"{user}:9"
    with pytest.raises(SampleError, match="ValueError: no checkpoint") as caught:
        built(f"{user}:fails")
    assert caught.value.where == f"{user}:12"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("model.py:nothing", "model.py:nothing: expected a torch.nn.Module, found dict"),
        ("model.py:none", "has no function 'none'\n  → it has Net, build, fails, nothing"),
        ("other.py:build", "other.py: no such file"),
    ],
)
def test_code_that_gives_no_module(user: Path, spec: str, says: str) -> None:
    with pytest.raises(SampleError) as caught:
        built(str(user.parent / spec))
    assert says in str(caught.value)


def test_a_module_without_pytorch_says_how_to_get_it(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendMissingError, match="PyTorch is not installed\n  → pip install"):
        built(f"{user}:build")


class Norm(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A product, then a norm written out over a stream that leaves FP16 when squared; autocast keeps what `float` asks for."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.linear = torch.nn.Linear(16, 16)

    def forward(self, x: Any) -> Any:
        y = x + self.linear(x).float()
        return y / (y.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()


def exported(module: Any, folder: Path) -> dict[str, Any]:
    """A model and samples for ``Config``."""
    options: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "opset_version": 17, "dynamo": False}
    torch.onnx.export(module.eval(), (torch.rand(2, 16),), str(folder / "model.onnx"), **options)
    (folder / "samples").mkdir()
    for seed in range(4):
        array = 2000.0 * np.random.default_rng(seed).standard_normal((2, 16)).astype(np.float32)
        np.savez(folder / "samples" / f"{seed}.npz", x=array)
    return {"model": str(folder / "model.onnx"), "inputs": str(folder / "samples"), "threads": 2, "simplify": False}


def test_autocast_is_right_where_all_fp16_is_wrong(tmp_path: Path) -> None:
    from fp16fix.config import Config
    from fp16fix.tasks.locate import locate

    found = locate(Config(**exported(Norm(), tmp_path)), module=Norm())
    assert found.triage.fault is Fault.RANGE
    assert found.triage.evidence[0].startswith("FP32 agrees with the PyTorch module: y ")
    assert found.triage.evidence[1].startswith("PyTorch autocast to FP16 (cpu) agrees with PyTorch FP32: y ")
    assert found.triage.evidence[2].endswith("all-FP16 does not")
    assert found.culprits[0].op == "Pow"


def test_a_model_that_is_not_what_the_module_computes(tmp_path: Path) -> None:
    from fp16fix.config import Config
    from fp16fix.tasks.locate import locate

    config = Config(**exported(Norm(), tmp_path))
    other = Norm()
    with torch.no_grad():
        other.linear.weight[0] += 0.5
    found = locate(config, module=other)
    assert found.triage.fault is Fault.REFERENCE
    assert found.triage.verdict.startswith("The FP32 model itself does not give the PyTorch module's outputs (y: ")
    shorter = torch.nn.Linear(16, 5)
    with pytest.raises(SampleError, match=r"'y' has shape \(2, 5\), the model gives \(2, 16\)") as caught:
        locate(config, module=shorter)
    assert caught.value.where == "Linear on 0"


def test_the_demo_detector_and_its_module() -> None:
    """The fault of the requirement: autocast is right, all-FP16 is off by pixels."""
    root = Path(__file__).parents[2]
    module = built(f"{root / 'tools' / 'demo_detector.py'}:trained")
    exact = Session(load(root / "tests" / "demo" / "detector.onnx"))
    samples = [Sample(str(n), dict(np.load(root / "tests" / "demo" / "samples" / f"scene{n}.npz"))) for n in range(2)]
    twin = Twin(module, ["images"], ["logits", "boxes"])
    for sample, given in zip(samples, twin.run(samples), strict=True):
        expected = exact.run(sample.arrays)
        for name, value in given.arrays.items():
            np.testing.assert_allclose(value, expected[name], atol=1e-4 * float(np.abs(expected[name]).max()))
    assert twin.verdict(floor).verified
