"""``tools/gpu/settle.py``: honest without a GPU; with GPUs played by the strict emulator, it tells one arithmetic from another."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fp16fix.engines.gpu import GpuStatus, gpu_status
from fp16fix.graph.load import load
from fp16fix.graph.session import Session
from fp16fix.strict.assumptions import ASSUMPTIONS, Evidence
from fp16fix.strict.emulate import emulate


@pytest.fixture
def settle(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("settle", Path(__file__).parents[2] / "tools" / "gpu" / "settle.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "settle", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LONG", 5000)
    return module


@pytest.mark.skipif(gpu_status().present, reason="there is a GPU here")
def test_without_a_gpu_it_says_so(settle: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert settle.main([]) == 3
    assert "nothing was settled: no NVIDIA driver" in capsys.readouterr().err


def test_every_unknown_is_asked_about(settle: ModuleType) -> None:
    asked = {question.name.partition(" ")[0] for question in settle.questions()}
    assert {each.name for each in ASSUMPTIONS if each.evidence is Evidence.UNKNOWN} <= asked
    assert asked <= {each.name for each in ASSUMPTIONS}


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ("compiled", {"accumulators": "FP32", "alpha": "harmless", "attention-accumulators": "FP32"}),
        ("accumulate", {"accumulators": "FP16", "alpha": "behind an FP16 sum", "attention-accumulators": "FP16, unnormalised"}),
    ],
)
def test_the_answers_tell_one_arithmetic_from_another(
    settle: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], profile: str, says: dict[str, str]
) -> None:
    def run(plan: Path, samples: Sequence[Any], *, backend: str) -> list[dict[str, np.ndarray]]:
        assert backend == "rtx"
        session = Session(emulate(load(plan, simplified=False, widened=False), profile))
        return [{"y": session.run({name: each.astype(np.float32) for name, each in sample.items()})["y"]} for sample in samples]

    monkeypatch.setattr(settle, "can_execute", lambda: (True, ""))
    monkeypatch.setattr(settle, "gpu_status", lambda: GpuStatus(True, ("L4",), ("sm89",), "13.0", ""))
    monkeypatch.setattr(settle, "build", lambda path, *_: SimpleNamespace(plan=path))
    monkeypatch.setattr(settle, "run", run)
    assert settle.main(["--backend", "rtx"]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert "L4 (sm89), CUDA 13.0, rtx" in head
    told = dict(row.strip("| ").split(" | ") for row in rows)
    assert len(told) == len(settle.questions())
    for name, answer in says.items():
        assert all(each.startswith(answer) for key, each in told.items() if key.startswith(f"**{name} ")), (name, told)
    assert all(each == "kept" for key, each in told.items() if key.startswith("**subnormals"))
    (exp,) = [each for key, each in told.items() if key.startswith("**exponentials")]
    assert float(exp.split()[4]) <= 0.51


def test_flushed_subnormals_are_told(settle: ModuleType) -> None:
    for question in settle.questions():
        if question.name.startswith("subnormals"):
            assert question.read(np.zeros((64, 64), np.float16)) == "flushed"
