"""What a model that passes as it is costs: no session and no pass more than its verdict and its report need."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import fp16fix
from tests.models import normal, proto

LAYERS, SAMPLES, CALIBRATION, BLENDS, SEEDS = 6, 8, 4, 16, 3


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Passes of each session that is opened."""
    found: list[int] = []

    class Counting(ort.InferenceSession):  # type: ignore[misc]
        def __init__(self, *given: Any, **keys: Any) -> None:
            super().__init__(*given, **keys)
            self.number = len(found)
            found.append(0)

        def run(self, *given: Any, **keys: Any) -> Any:
            found[self.number] += 1
            return super().run(*given, **keys)

    monkeypatch.setattr(ort, "InferenceSession", Counting)
    return found


def healthy() -> str:
    """Products and tanh, in which nothing is near FP16's limits."""
    body = " ".join(f"m{n} = MatMul (t{n}, w)  t{n + 1} = Tanh (m{n})" for n in range(LAYERS))
    weights = ", ".join(f"{value:.4f}" for value in np.random.default_rng(0).standard_normal(256) / 4)
    return f"g (float[4,16] t0) => (float[4,16] t{LAYERS}) <float[16,16] w = {{{weights}}}> {{ {body} }}"


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "told of"])
def test_a_healthy_model_is_measured_once_and_judged_once(counts: list[int], fast: bool) -> None:
    """It is loaded, ranges are measured, FP32 and strict FP16 are compared, then shaken, then its sums are FP16's; what informs comes after."""
    samples = [{"t0": normal(4, 16, seed=seed)} for seed in range(SAMPLES)]
    outcome = fp16fix.repair(proto(healthy()), samples, fast=fast)
    assert outcome.verified
    judged, shaken = SAMPLES + BLENDS, SEEDS * SAMPLES
    # To load, ranges, FP32, strict, jitter, sums in FP16; and FP32 and strict values along the graph, the other profile, FP32 along it again.
    assert counts == ([0, CALIBRATION, judged, judged, shaken, 1] if fast else [0, CALIBRATION, judged + 1, judged + 1, shaken, 1, 1, 1])
    assert sum(counts) - 2 * BLENDS - shaken <= (2.7 if fast else 3.2) * SAMPLES
