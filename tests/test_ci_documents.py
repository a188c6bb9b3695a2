"""The Makefile and the workflow of ``docs/ci``, run on a zoo of two models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from tests.models import normal, proto

ROOT = Path(__file__).parent.parent
CI = ROOT / "docs" / "ci"
SMALL = "g (float[2,4] x) => (float[2,4] y) <float k = {0.5}> { m = Mul (x, k)  y = Tanh (m) }"
LARGE = "g (float[2,4] x) => (float[2,4] y) <float big = {1000}> { m = Mul (x, big)  s = Mul (m, m)  y = Sqrt (s) }"
STEPS = yaml.safe_load((CI / "fp16fix.yml").read_text())["jobs"]["models"]["steps"]


def sample(folder: Path, number: int, seed: int) -> None:
    np.savez(folder / "samples" / f"{number}.npz", x=normal(2, 4, seed=seed))


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two models, and ``fp16fix`` on its path."""
    folder = tmp_path_factory.mktemp("build")
    for name, text in {"small": SMALL, "large": LARGE}.items():
        onnx.save(proto(text), folder / f"{name}.onnx")
    (folder / "samples").mkdir()
    for number in range(2):
        sample(folder, number, number)
    (folder / "zoo.yaml").write_text("defaults: {inputs: samples, threads: 1}\nmodels: ['*.onnx']\njobs: 2\n")
    shutil.copy(CI / "Makefile", folder)
    (folder / "bin").mkdir()
    command = folder / "bin" / "fp16fix"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fp16fix "$@"\n')
    command.chmod(0o755)
    return folder


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return run(["make", *words], folder)


def test_the_makefile_locks_holds_and_checks(build: Path) -> None:
    missing = make(build, "check")
    assert missing.returncode == 2
    assert "missing: it was never repaired" in missing.stdout
    locked = make(build, "lock")
    assert locked.returncode == 0, locked.stdout + locked.stderr
    assert (build / "fp16fix.lock").exists()
    assert make(build, "check").returncode == 0
    sample(build, 1, 7)
    assert "stale: samples changed" in make(build, "check").stdout
    refused = make(build)
    assert refused.returncode == 2
    assert "lock" in refused.stderr
    sample(build, 1, 1)
    again = make(build, "models")
    assert again.returncode == 0, again.stdout + again.stderr
    assert make(build, "check", "FAIL_ON=conditions").returncode == 0


def test_the_makefile_writes_the_schema(build: Path) -> None:
    assert make(build, "zoo.schema.json").returncode == 0
    assert '"models"' in (build / "zoo.schema.json").read_text()


def test_the_steps_of_the_workflow_run_after_one_another(build: Path) -> None:
    """All but the installation, as the runner does it, where the lock is committed."""
    if not (build / "fp16fix.lock").exists():
        run(["fp16fix", "batch", "zoo.yaml", "--lock"], build)
    steps = [each for each in STEPS if "run" in each]
    assert [each["name"] for each in steps[:1]] == ["Install"]
    shutil.rmtree(build / "out")
    for each in steps[1:]:
        done = run(["bash", "-e", "-c", each["run"]], build)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_workflow_uploads_is_what_was_written(build: Path) -> None:
    (upload,) = [each for each in STEPS if each.get("uses", "").startswith("actions/upload-artifact")]
    assert upload["if"] == "always()", "failures are what pages are for"
    if not (build / "out").exists():
        run(["fp16fix", "batch", "zoo.yaml"], build)
    for pattern in upload["with"]["path"].split():
        assert list(build.glob(pattern)), pattern


def test_the_workflow_is_whole() -> None:
    raw: dict[Any, Any] = yaml.safe_load((CI / "fp16fix.yml").read_text())
    assert set(raw[True]) == {"pull_request", "push", "schedule"}, "YAML 1.1 reads `on` as true"
    assert all(("uses" in each) != ("run" in each) for each in STEPS)
    (kept,) = [each["with"]["path"] for each in STEPS if each.get("uses", "").startswith("actions/cache")]
    assert kept == "out"
