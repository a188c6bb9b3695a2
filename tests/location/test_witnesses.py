"""What the user gives for triage: usable or refused before any work, and heard over the right samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fp16fix.config import Config, merged
from fp16fix.errors import BackendMissingError, ConfigError, SampleError
from fp16fix.location import witnesses
from fp16fix.location.triage import Fault
from fp16fix.location.witnesses import summon
from fp16fix.oracles import engine as trial
from fp16fix.passes.evidence import gather
from fp16fix.progress import Silent, Stages
from fp16fix.tasks import locate as hunt
from fp16fix.tasks.locate import locate
from tests.models import normal, proto

PLAIN = "g (float[4,8] x) => (float[4,8] y) { [exp] e = Exp (x) [out] y = Neg (e) }"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Right in FP16 for three samples; the last, which is held out, overflows."""
    onnx.save(proto(PLAIN), tmp_path / "model.onnx")
    (tmp_path / "samples").mkdir()
    for name in "abcd":
        x = normal(4, 8, seed=ord(name))
        x[0, 0] = 12.0 if name == "d" else 0.0
        np.savez(tmp_path / "samples" / f"{name}.npz", x=x)
    base = {"model": str(tmp_path / "model.onnx"), "inputs": str(tmp_path / "samples"), "threads": 2, "simplify": False}
    return merged(Config(), base)


def recorded(config: Config, folder: str, *, error: float = 0.0) -> str:
    """Outputs of an engine that is right up to ``error``, saved beside the samples."""
    place = Path(config.inputs or "").parent / folder
    place.mkdir()
    for file in Path(config.inputs or "").iterdir():
        np.savez(place / file.name, y=-np.exp(np.load(file)["x"]) * (1.0 + error))
    return str(place)


def test_a_fault_that_only_a_held_out_sample_shows_is_found_when_the_engine_shows_it(config: Config) -> None:
    assert locate(config).triage.fault is Fault.ELSEWHERE
    place = Path(recorded(config, "engine"))
    x = np.load(Path(config.inputs or "") / "d.npz")["x"]
    np.savez(place / "d.npz", y=np.where(x == 12.0, -np.inf, -np.exp(x)).astype(np.float16))
    found = locate(merged(config, {"engine": str(place)}))
    assert found.triage.fault is Fault.RANGE
    assert found.culprits[0].node == "exp"


def test_references_are_compared_over_all_samples(config: Config) -> None:
    place = Path(recorded(config, "framework"))
    assert locate(merged(config, {"reference": str(place)})).triage.evidence[0].startswith("FP32 agrees")
    np.savez(place / "d.npz", y=np.zeros((4, 8)))
    assert locate(merged(config, {"reference": str(place)})).triage.fault is Fault.REFERENCE


def test_engines_and_reference_together(config: Config) -> None:
    keys = {"reference": recorded(config, "r"), "fp32_engine": recorded(config, "w"), "engine": recorded(config, "n", error=0.1)}
    found = locate(merged(config, keys))
    assert [line.split(":")[0] for line in found.triage.evidence[:2]] == [
        "FP32 agrees with the reference outputs",
        "the FP32 engine (recorded outputs) agrees with the reference outputs",
    ]
    assert any(line.startswith("the engine (recorded outputs) does not agree with FP32: y 20.0 dB") for line in found.triage.evidence)


def test_a_plan_is_run_where_a_gpu_can(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(plan: Path, samples: Sequence[Mapping[str, np.ndarray]], **options: Any) -> tuple[dict[str, np.ndarray], ...]:
        assert (plan, options["backend"]) == (tmp_path / "x.plan", "strong")
        return tuple({"y": -np.exp(sample["x"]) * np.float32(1.1), "debug": np.zeros(1)} for sample in samples)

    monkeypatch.setattr(trial, "can_execute", lambda: (True, ""))
    monkeypatch.setattr(witnesses, "run", run)
    (tmp_path / "x.plan").write_bytes(b"plan")
    keys = {"engine": str(tmp_path / "x.plan"), "build.backend": "strong"}
    found = locate(merged(config, keys))
    assert found.triage.fault is not Fault.ENGINE_RIGHT
    assert any(line.startswith("the engine (run here) does not agree with FP32") for line in found.triage.evidence)
    made_up = locate(merged(config, keys | {"inputs": None, "made": 2}))
    assert any(line.startswith("the engine (run here)") for line in made_up.triage.evidence), "a plan runs on any inputs"


def test_a_plan_without_a_gpu_is_refused_before_any_work(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "can_execute", lambda: (False, "no NVIDIA driver"))
    monkeypatch.setattr(hunt, "gather", lambda *_: pytest.fail("worked"))
    (tmp_path / "x.engine").write_bytes(b"plan")
    for key in ("engine", "fp32_engine"):
        with pytest.raises(BackendMissingError, match="none can run here: no NVIDIA driver") as caught:
            locate(merged(config, {key: str(tmp_path / "x.engine")}))
        assert caught.value.exit_code == 3
        assert "record its outputs there" in caught.value.hint


def test_what_leads_nowhere_is_refused_before_any_work(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hunt, "gather", lambda *_: pytest.fail("worked"))
    (tmp_path / "x.onnx").write_bytes(b"")
    for key, path, says in (
        ("reference", "missing", "is no folder of outputs\n"),
        ("reference", "x.plan", "is no folder of outputs\n"),
        ("engine", "x.onnx", "is no folder of outputs, and no plan\n"),
        ("engine", "x.plan", "no such plan"),
    ):
        with pytest.raises(SampleError, match=says):
            locate(merged(config, {key: str(tmp_path / path)}))
    alone = merged(Config(), {"model": str(config.model), "engine": recorded(config, "engine")})
    with pytest.raises(ConfigError, match="only with the inputs they were computed from\n  → give them with -i"):
        locate(alone)


def test_one_file_too_few_names_the_sample(config: Config) -> None:
    place = Path(recorded(config, "engine"))
    (place / "c.npz").unlink()
    with pytest.raises(SampleError, match="no outputs of sample 'c'"):
        locate(merged(config, {"engine": str(place)}))


def test_a_module_is_let_go_once_it_was_heard(config: Config) -> None:
    pytest.importorskip("torch")
    (Path(config.inputs or "").parent / "net.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return -x.exp()\n"
    )
    summoned = summon(merged(config, {"module": str(Path(config.inputs or "").parent / "net.py") + ":Net"}))
    assert summoned.module is not None
    evidence = summoned.heard(gather(config, Stages(Silent())), Stages(Silent()))
    assert summoned.module is None
    assert evidence.reference is not None
    assert (evidence.reference.oracle, evidence.reference.samples, evidence.strict.samples) == ("module", 4, 2)
