"""What a repair costs in real plans, beside all-FP16 and FP32."""

from __future__ import annotations

from pathlib import Path

import pytest

from fp16fix.config import Config, merged
from fp16fix.engines.backend import RTX
from fp16fix.report.html import render
from fp16fix.report.outcome import from_json, to_json
from fp16fix.report.words import beside
from fp16fix.tasks.repair import repair
from tools.bench.subjects import subjects

pytestmark = pytest.mark.skipif(not RTX.importable(), reason="TensorRT-RTX is not installed")


def test_a_rescaled_model_moves_what_all_fp16_moves_and_half_of_fp32(tmp_path: Path) -> None:
    (subject,) = subjects(["layernorm-mul-opset11"])
    model, samples = subject.write(tmp_path)
    given = {"model": str(model), "inputs": str(samples), "output": str(tmp_path / "x.plan"), "build.compare": True}
    outcome = repair(merged(Config(), given))
    repaired, half, full = outcome.engine.costs
    assert [each.engine for each in outcome.engine.costs] == ["repaired", "all-FP16", "FP32"]
    assert repaired.bytes <= 1.03 * half.bytes
    assert 1.7 * half.bytes <= full.bytes
    assert (repaired.float_products, half.float_products) == (0, 0)
    assert full.float_products > 0
    assert beside(outcome.engine.costs) in render(outcome)
    assert from_json(to_json(outcome)) == outcome
