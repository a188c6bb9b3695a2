"""Another package's rule and oracle: installed for real, found, used, and refused by name where they are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.errors import ConfigError
from fp16fix.plugins import found
from tests.models import proto

ROOT = Path(__file__).parent.parent
ILL = "g (float[64] x) => (float[64] y) <float k = {1000}> { [scale] a = Mul (x, k) [square] s = Mul (a, a) [root] y = Sqrt (s) }"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ``docs/extending`` is installed, beside this environment."""
    folder = tmp_path_factory.mktemp("site")
    source = folder / "source"
    # Building writes beside the sources.
    subprocess.run(["cp", "-r", str(ROOT / "docs" / "extending"), str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(folder / "lib"), str(source)]
    subprocess.run(pip, check=True, capture_output=True)
    return folder / "lib"


Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fp16fix(packages: Path, tmp_path: Path) -> Call:
    onnx.save(proto(ILL), tmp_path / "m.onnx")
    (tmp_path / "samples").mkdir()
    for seed in range(2):
        np.savez(tmp_path / "samples" / f"{seed}.npz", x=np.random.default_rng(seed).standard_normal(64).astype(np.float32) + 2)

    def call(command: str, *arguments: str, path: Path = packages) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "fp16fix", command, str(tmp_path / "m.onnx"), "-i", str(tmp_path / "samples"), *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), *sys.path])}
        return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)

    return call


def test_a_rule_from_elsewhere_repairs_and_replays(fp16fix: Call, tmp_path: Path) -> None:
    done = fp16fix("repair", "-o", str(tmp_path / "x.onnx"))
    assert done.returncode == 0, done.stderr
    edits = json.loads((tmp_path / "x.outcome.json").read_text())["recipe"]["edits"]
    assert ("root-of-square", "root") in {(edit["by"], edit["node"]) for edit in edits}
    assert {node.op_type for node in onnx.load(tmp_path / "x.onnx").graph.node} == {"Cast", "Mul", "Abs"}


def test_an_oracle_from_elsewhere_is_asked(fp16fix: Call, tmp_path: Path) -> None:
    done = fp16fix("locate", "--minimise", "--oracle", "finite", "-o", str(tmp_path / "x.json"))
    assert done.returncode == 0, done.stderr
    minimal = json.loads((tmp_path / "x.json").read_text())["minimal"]
    assert (minimal["oracle"], minimal["pins"]) == ("no new NaN or infinity under strict FP16 emulation", ["square", "root"])


def test_a_metric_from_elsewhere_holds_the_verdict(fp16fix: Call, tmp_path: Path) -> None:
    """The bound on dB lets everything pass; top-1 does not: in FP16 all values are infinite, and the first of them wins."""
    loose = ("--set", "tolerance.sqnr_db=-1000", "--set", "tolerance.metrics=[same-order]", "--allow", "*")
    done = fp16fix("repair", "-o", str(tmp_path / "x.onnx"), *loose)
    assert done.returncode == 1, done.stdout
    assert "metric same-order: 0, the limit is 0.99" in done.stdout
    done = fp16fix("repair", "-o", str(tmp_path / "x.onnx"), *loose[:4])
    assert done.returncode == 0, done.stdout
    (reading,) = json.loads((tmp_path / "x.outcome.json").read_text())["verdict"]["metrics"]
    assert (reading["metric"], reading["value"], reading["passes"]) == ("same-order", 1.0, True)


def test_an_unknown_metric_is_refused(fp16fix: Call, tmp_path: Path) -> None:
    done = fp16fix("repair", "-o", str(tmp_path / "x.onnx"), "--set", "tolerance.metrics=[same-order]", path=tmp_path)
    assert done.returncode == 2
    assert "there is no metric 'same-order'" in done.stderr


def test_an_unknown_oracle_is_refused_with_the_known_ones(fp16fix: Call, tmp_path: Path) -> None:
    done = fp16fix("locate", "--minimise", "--oracle", "finite", path=tmp_path)
    assert done.returncode == 2
    assert "there is no oracle 'finite'" in done.stderr
    assert "choose one of command, strict, tensorrt" in done.stderr


@pytest.mark.parametrize(
    ("target", "words"), [("absent_module:X", "does not load (ModuleNotFoundError"), ("json:dumps", "is not what the group wants")]
)
def test_a_broken_offer_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, words: str) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fp16fix.rules]\nbad = {target}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        found("fp16fix.plugins", [], "fp16fix.rules", lambda kind: hasattr(kind, "propose"))
    assert words in str(caught.value)
    assert "entry point 'bad' of fp16fix.rules, by broken" in str(caught.value)
