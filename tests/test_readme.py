"""The README's two set-up commands are the ones that run: one by CI, the other here on an installed copy."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SETUP = [block.strip() for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)]


def test_there_are_exactly_two_set_up_commands() -> None:
    assert len(SETUP) == 2
    assert all("\n" not in command for command in SETUP)


def test_ci_runs_the_second() -> None:
    assert (ROOT / ".ci" / "run").read_text().strip().endswith(f"exec {SETUP[1]}")
    assert (ROOT / SETUP[1]).stat().st_mode & 0o111


def test_the_first_ends_in_a_repair_into_a_real_plan(tmp_path: Path) -> None:
    """What stands behind the installation, word for word but for the output folder."""
    pytest.importorskip("tensorrt_rtx")
    words = shlex.split(SETUP[0].split("&&")[-1])
    assert words[0] == ".venv/bin/fp16fix"
    command = [sys.executable, "-m", "fp16fix", *words[1:], "-o", str(tmp_path / "detector.plan")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcome = json.loads((tmp_path / "detector.outcome.json").read_text())
    assert outcome["verdict"]["verified"]
    assert outcome["engine"]["status"] == "built, not executed"
    assert outcome["engine"]["fp16_layers"] > 100
    assert outcome["counts"]["fp32_nodes"] == 0
    assert (tmp_path / "detector.plan").stat().st_size == outcome["engine"]["plan_bytes"] > 100_000
    boxes = next(figures for figures in outcome["before"] if figures["output"] == "boxes")
    assert boxes["max_abs"] > 2.0, "plain FP16 is off by pixels"
    assert next(f for f in outcome["verdict"]["outputs"] if f["output"] == "boxes")["max_abs"] < 0.25


def test_pages_are_named_not_linked() -> None:
    """The README is what PyPI shows, where a relative link leads nowhere, and the project has no public address to write instead."""
    assert re.findall(r"\]\((?!https?:)", README) == []
    named = re.findall(r"`((?:docs|notes|configs|tests|tools)/[\w./-]*|[A-Z]+\.md)`", README)
    assert len(named) >= 6
    assert all((ROOT / each).exists() for each in named), named


@pytest.mark.parametrize("page", [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")])
def test_links_lead_somewhere(page: str) -> None:
    place = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", place.read_text(encoding="utf-8")):
        assert target.startswith("http") or (place.parent / target).exists(), target


def test_every_command_of_the_table_exists() -> None:
    named = set(re.findall(r"^\| `fp16fix (\w+)", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`fp16fix (\w+)", README)) <= named
    help_text = subprocess.run([sys.executable, "-m", "fp16fix", "--help"], capture_output=True, text=True, check=True).stdout
    assert named
    assert all(re.search(rf"^\W*{name}\b", help_text, re.MULTILINE) for name in named), named


def test_the_python_example_runs_as_written_and_is_typed(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "example.py").write_text(code)
    shutil.copy(ROOT / "tests" / "demo" / "detector.onnx", tmp_path / "model.onnx")
    shutil.copytree(ROOT / "tests" / "demo" / "samples", tmp_path / "samples")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("True 0 2\n", 0), done.stderr
    typed = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "setup.cfg"), str(tmp_path / "example.py")]
    checked = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
