"""Running an engine: the decisions around it, with a stand-in for the GPU. What only a GPU can show is in ``tests/engines``, ``-m gpu``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fp16fix.config import Config, merged
from fp16fix.engines import BuildOptions, Built, Proof
from fp16fix.engines import compile as compile_
from fp16fix.engines.backend import BackendStatus
from fp16fix.engines.execute import Latency
from fp16fix.engines.gpu import GpuStatus
from fp16fix.errors import BackendMissingError, BuildError, ConfigError
from fp16fix.graph.load import load
from fp16fix.oracles import engine as trial
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.report.outcome import from_json, to_json
from fp16fix.tasks import execute
from fp16fix.tasks import repair as pipeline
from fp16fix.tasks import verify as verifying
from fp16fix.verdict.verdict import Verdict
from tests.models import proto

PLAIN = "g (float[4,8] x) => (float[4,8] y) { [exp] e = Exp (x) [out] y = Neg (e) }"


@dataclass
class Gpu:
    """A GPU that is not there: what it was asked, and how its engines behave."""

    error: float = 0.0
    """Added to every output."""
    fails: str = ""
    """What running says instead of giving outputs."""
    rivals_fail: bool = False
    targets: tuple[str, ...] = ("sm89",)
    built: list[str] = field(default_factory=list)

    def run(self, plan: Path, samples: Sequence[Mapping[str, np.ndarray]], **_: Any) -> tuple[dict[str, np.ndarray], ...]:
        assert plan.is_file()
        if self.fails:
            raise BuildError(self.fails)
        return tuple({"y": -np.exp(sample["x"]) + np.float32(self.error)} for sample in samples)

    def latency(self, plan: Path, _sample: Mapping[str, np.ndarray], **_: Any) -> Latency:
        median = {"FP32": 3.0, "all-FP16": 1.0}.get(plan.name.split(".")[0], 1.5)
        return Latency(median, median, median, 9)

    def build(self, source: Path, target: Path, _options: BuildOptions, _progress: Any) -> Built:
        self.built.append(source.name.removesuffix(".out.fp16.onnx"))
        if self.rivals_fail and len(self.built) > 1:
            raise BuildError("too big\nfor this GPU")
        target.write_bytes(b"plan")
        return Built(target, 4, "strong", "10.3", self.targets, 0.1, 0.2, 10, (), Proof((), 3, 0))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    made = Gpu()
    status = BackendStatus("strong", True, "10.3", True, "", "", "")
    monkeypatch.setattr(compile_, "choose", lambda _: type("Backend", (), {"name": "strong", "status": lambda _: status})())
    monkeypatch.setattr(compile_, "build_plan", made.build)
    monkeypatch.setattr(trial, "can_execute", lambda: (True, ""))
    monkeypatch.setattr(execute, "gpu_status", lambda: GpuStatus(True, ("L4",), ("sm89",), "13.0", ""))
    monkeypatch.setattr(trial, "run", made.run)
    monkeypatch.setattr(execute, "latency", made.latency)
    return made


def settings(folder: Path, **keys: Any) -> Config:
    onnx.save(proto(PLAIN), folder / "model.onnx")
    base = {"model": str(folder / "model.onnx"), "output": str(folder / "out.plan"), "threads": 2, "made": 2, "simplify": False}
    return merged(Config(), base | keys)


def test_an_engine_that_runs_right_is_executed_and_timed_beside_its_rivals(tmp_path: Path, gpu: Gpu) -> None:
    outcome = pipeline.repair(settings(tmp_path))
    assert outcome.verified
    facts = outcome.engine
    assert facts.status == "executed"
    assert facts.verdict is not None
    assert (facts.verdict.oracle, facts.verdict.verified) == ("tensorrt", True)
    assert outcome.verdict.oracle == "strict", "the emulator's verdict is kept beside it"
    assert [(each.engine, each.median_ms) for each in facts.latency] == [("repaired", 1.5), ("all-FP16", 1.0), ("FP32", 3.0)]
    assert gpu.built == ["out.fp16.onnx", "all-FP16", "FP32"]
    assert from_json(to_json(outcome)) == outcome


def test_an_engine_that_runs_wrong_is_not_verified_whatever_the_emulator_says(tmp_path: Path, gpu: Gpu) -> None:
    gpu.error = 1.0
    outcome = pipeline.repair(settings(tmp_path))
    assert outcome.verdict.verified
    assert not outcome.verified
    assert not (tmp_path / "out.plan").exists()


def test_an_engine_that_runs_right_is_verified_whatever_the_emulator_says(
    tmp_path: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StrictOracle, "verdict", lambda *_, **__: Verdict(False, "strict", "engine", (), 1, ("y: 12 dB, wanted 50 dB",)))
    outcome = pipeline.repair(settings(tmp_path))
    assert not outcome.verdict.verified
    assert outcome.verified
    assert (tmp_path / "out.plan").exists()
    assert gpu.built


def test_an_engine_that_does_not_run_is_a_problem(tmp_path: Path, gpu: Gpu) -> None:
    gpu.fails = "cannot load the plan"
    outcome = pipeline.repair(settings(tmp_path))
    assert not outcome.verified
    assert outcome.engine.status == "built, not executed"
    assert outcome.engine.problems == ("the engine does not run on the GPU of this machine: cannot load the plan",)


def test_a_plan_for_another_gpu_is_not_run_and_that_is_said(tmp_path: Path, gpu: Gpu) -> None:
    gpu.targets = ("sm120",)
    outcome = pipeline.repair(settings(tmp_path))
    assert outcome.verified
    assert outcome.engine.status == "built, not executed"
    assert outcome.engine.warnings == ("The plan was built for sm120 and not run: the GPU here is sm89 (--target sm89).",)


def test_a_rival_that_cannot_be_built_costs_only_its_latency(tmp_path: Path, gpu: Gpu) -> None:
    gpu.rivals_fail = True
    facts = pipeline.repair(settings(tmp_path)).engine
    assert [each.engine for each in facts.latency] == ["repaired"]
    assert facts.warnings == ("Nothing to compare with all-FP16: too big", "Nothing to compare with FP32: too big")


def test_a_comparison_is_made_on_request_and_takes_three_builds(tmp_path: Path, gpu: Gpu) -> None:
    gpu.targets = ("sm120",)
    pipeline.repair(settings(tmp_path, **{"build.compare": True}))
    assert gpu.built == ["out.fp16.onnx", "all-FP16", "FP32"]
    with pytest.raises(ConfigError, match="a comparison takes 3 builds, 2 are allowed"):
        pipeline.repair(settings(tmp_path, **{"build.compare": True, "search.builds": 2}))


def test_no_more_builds_than_allowed(tmp_path: Path, gpu: Gpu) -> None:
    facts = pipeline.repair(settings(tmp_path, **{"search.builds": 2})).engine
    assert gpu.built == ["out.fp16.onnx"]
    assert [each.engine for each in facts.latency] == ["repaired"]


def test_verify_runs_a_plan(tmp_path: Path, gpu: Gpu) -> None:
    given = settings(tmp_path)
    (tmp_path / "some.plan").write_bytes(b"plan")
    found = verifying.verify(given, tmp_path / "some.plan")
    assert (found.verified, found.oracle, found.samples) == (True, "tensorrt", 2)
    gpu.error = 1.0
    assert not verifying.verify(given, tmp_path / "some.plan").verified


def test_verify_without_a_gpu_says_so_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "can_execute", lambda: (False, "no NVIDIA driver"))
    monkeypatch.setattr(verifying, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(BackendMissingError, match="none can run here: no NVIDIA driver") as caught:
        verifying.verify(settings(tmp_path), tmp_path / "some.plan")
    assert caught.value.exit_code == 3
    assert "verify the graph it was built from" in caught.value.hint


def test_the_rivals_are_what_their_names_say(tmp_path: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    types: dict[str, set[str]] = {}

    def look(source: Path, *rest: Any) -> Built:
        graph = load(source, simplified=False, widened=False)
        types[source.name.split(".")[0]] = {str(tensor.dtype) for tensor in graph.tensors().values()}
        return gpu.build(source, *rest)

    monkeypatch.setattr(compile_, "build_plan", look)
    pipeline.repair(settings(tmp_path, pin=("exp",)))
    assert types["FP32"] == {"float32"}
    assert "float16" in types["all-FP16"]
