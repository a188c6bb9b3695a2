from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

from fp16fix.errors import BackendMissingError, SampleError
from fp16fix.weights.pytorch import compare_autocast

torch = pytest.importorskip("torch")


class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A product that autocast runs in low precision, and a softmax that it keeps in FP32."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.linear = torch.nn.Linear(16, 8)
            self.drop = torch.nn.Dropout(0.5)
        self.gain = gain

    def forward(self, x: Any, scale: Any = 1.0) -> dict[str, Any]:
        scores = self.linear(x * self.gain) * scale
        return {"scores": scores, "more": (torch.softmax(self.drop(scores), -1), scores.argmax(-1))}


def sample(seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((4, 16)).astype(np.float32))


def test_figures_of_every_output_over_all_samples() -> None:
    figures = compare_autocast(Net(), [(sample(0),), sample(1).numpy(), {"x": sample(2), "scale": 2.0}])
    assert [each.output for each in figures] == ["scores", "more.0", "more.1"]
    assert 50.0 < figures[0].sqnr_db < 90.0, "FP16 products, so neither exact nor wrong"
    assert figures[2].mismatches == 0
    assert all(each.lost == 0 for each in figures)


def test_overflow_under_autocast_is_seen() -> None:
    figures = compare_autocast(Net(gain=1e6), sample())
    assert figures[0].lost > 0


def test_bfloat16_is_coarser() -> None:
    half, brain = (compare_autocast(Net(), sample(), dtype=dtype)[0].sqnr_db for dtype in (torch.float16, torch.bfloat16))
    assert brain < half - 10.0


def test_module_and_random_state_are_as_before() -> None:
    net = Net().train()
    state = torch.get_rng_state()
    compare_autocast(net, sample(), device="cpu")
    assert net.training
    assert torch.equal(torch.get_rng_state(), state)


def test_random_operators_draw_alike() -> None:
    class Noisy(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x + torch.randn(4, 16)

    assert compare_autocast(Noisy(), sample())[0].sqnr_db == math.inf


def test_errors_say_which_run_failed() -> None:
    class NoTensors(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> int:
            return 3

    with pytest.raises(SampleError, match="fails in FP32"):
        compare_autocast(Net(), torch.ones(3, 3))
    with pytest.raises(SampleError, match="no tensors"):
        compare_autocast(NoTensors(), sample())


def test_missing_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    net, inputs = Net(), sample()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendMissingError, match="PyTorch is not installed"):
        compare_autocast(net, inputs)


def test_no_samples_are_no_agreement() -> None:
    with pytest.raises(SampleError, match="no sample"):
        compare_autocast(Net(), [])
