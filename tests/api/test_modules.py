"""PyTorch modules: exported by their first sample, held to their own results."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import fp16fix
from fp16fix.errors import BackendMissingError, ModelError, SampleError
from tests.models import normal

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
FEW: dict[str, Any] = {"jitter": 1, "blends": 2, "threads": 1}


class Norm(torch.nn.Module):  # type: ignore[name-defined, misc]
    """A norm written out, whose squares overflow; ``scale`` can be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(16, 16)

    def forward(self, x: Any, scale: Any = None) -> dict[str, Any]:
        y = self.linear(x)
        z = y / (y.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return {"z": z if scale is None else z * scale}


def batches(count: int, rows: int = 2) -> list[Any]:
    return [torch.from_numpy(normal(rows, 16, scale=2000.0, seed=seed)) for seed in range(count)]


def test_a_module_is_exported_compared_and_repaired() -> None:
    module = Norm().train()
    outcome = fp16fix.repair(module, batches(4), opset=19, dynamic_axes={"x": {0: "batch"}}, **FEW)
    assert outcome.verified
    assert module.training
    assert outcome.framework is not None
    assert outcome.framework.verified
    assert outcome.autocast is not None
    (entry,) = outcome.model.graph.input
    assert (entry.name, entry.type.tensor_type.shape.dim[0].dim_param) == ("x", "batch")
    assert [each.name for each in outcome.model.graph.output] == ["z"]
    assert outcome.document.model.path == "torch.nn.Module Norm"
    assert any("its PyTorch module agrees in FP32 (z " in note for note in outcome.document.model.notes)


def test_a_data_loader_with_one_row_and_a_free_batch() -> None:
    data = torch.utils.data.TensorDataset(torch.cat(batches(4, rows=1)))
    loader = torch.utils.data.DataLoader(data, batch_size=1)
    found = fp16fix.repair(Norm(), loader, dynamic_axes={"x": {0: "batch"}}, **FEW)
    assert found.verified
    assert found.verdict.samples == 4
    assert found.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_an_export_that_computes_something_else_is_refused(tmp_path: Any) -> None:
    module, other = Norm(), Norm()
    torch.onnx.export(module.eval(), (batches(1)[0],), str(tmp_path / "m.onnx"), input_names=["x"], output_names=["z"], dynamo=True)
    with pytest.raises(ModelError, match="does not compute what its PyTorch module does in FP32: z"):
        fp16fix.repair(tmp_path / "m.onnx", batches(3), module=other, **FEW)


def test_locate_hears_the_module() -> None:
    found = fp16fix.locate(Norm(), batches(2), threads=1)
    assert found.triage.evidence[0].startswith("FP32 agrees with the PyTorch module: z ")


class Branches(torch.nn.Module):  # type: ignore[name-defined, misc]
    def forward(self, x: Any) -> Any:
        return x if x.sum() > 0 else x + 1


class Fails(torch.nn.Module):  # type: ignore[name-defined, misc]
    def forward(self, x: Any) -> Any:
        raise RuntimeError("no such layer")


class Anything(torch.nn.Module):  # type: ignore[name-defined, misc]
    def forward(self, *x: Any) -> Any:
        return x[0]


@pytest.mark.parametrize(
    ("module", "inputs", "error", "says"),
    [
        (Norm(), None, SampleError, "Norm: a PyTorch module is exported by its first sample, and there is none"),
        (Branches(), np.ones((2, 4), np.float32), ModelError, "Branches: PyTorch cannot export it .*data-dependent"),
        (Fails(), np.ones((2, 4), np.float32), SampleError, "test_modules.py:.*no such layer"),
        (Anything(), np.ones((2, 4), np.float32), SampleError, "forward takes any number of arguments"),
        (Norm(), "nowhere.npy", SampleError, "nowhere.npy: holds no sample to export"),
    ],
)
def test_what_cannot_be_exported_says_why(
    module: Any, inputs: Any, error: type[Exception], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(error, match=f"(?s){says}"):
        fp16fix.repair(module, inputs)
    assert capfd.readouterr() == ("", "")


def test_free_dimensions_belong_to_inputs_and_to_modules() -> None:
    with pytest.raises(ModelError, match="has no input 'y' that could have free dimensions"):
        fp16fix.repair(Norm(), batches(1), dynamic_axes={"y": {0: "batch"}})
    with pytest.raises(ModelError, match="are for the export of a PyTorch module"):
        fp16fix.repair("m.onnx", dynamic_axes={"x": {0: "batch"}})


def test_without_the_exporter_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    for name in [name for name in sys.modules if name.startswith("torch.onnx._internal.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(BackendMissingError, match=r"fp16fix\[torch\]"):
        fp16fix.repair(Norm(), batches(1))
