"""What is installed: everything imported is declared, the wheel is whole and runs by itself where nothing of the checkout is."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import onnx
import pytest

from tests.models import proto

ROOT = Path(__file__).parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
TYPES = {"_typeshed"}
"""For type checkers alone."""
CALLERS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx-cu13", "cuda": "", "onnxruntime_extensions": "onnxruntime-extensions"}
"""Modules that need not be installed here, and what brings them; of cuda, whoever has a GPU brings his own."""


def names(text: str) -> set[str]:
    """Distributions of a list of requirements."""
    found = (re.match(r"[\w.-]+", line.strip()) for line in text.replace("=\n", "\n").splitlines() if not line.strip().startswith("#"))
    return {normal(each.group()) for each in found if each}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_imported_is_declared() -> None:
    extras = {name: names(text) for name, text in SETUP["options.extras_require"].items() if name != "dev"}
    declared = names(SETUP["options"]["install_requires"]).union(*extras.values())
    homes = {**{module: found[0] for module, found in packages_distributions().items()}, **CALLERS}
    for path in sorted((ROOT / "fp16fix").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in {each.partition(".")[0] for each in modules} - set(sys.stdlib_module_names) - TYPES - {"fp16fix"}:
                assert homes[top] == "" or normal(homes[top]) in declared, f"{path.relative_to(ROOT)} imports {top}"


def test_every_hint_names_an_extra_that_exists() -> None:
    extras = set(SETUP["options.extras_require"])
    for path in sorted((ROOT / "fp16fix").rglob("*.py")):
        for extra in re.findall(r"fp16fix\[([\w-]+)\]", path.read_text()):
            assert extra in extras, path


def test_constraints_hold_what_is_declared() -> None:
    held = names((ROOT / "constraints.txt").read_text())
    wanted = names(SETUP["options"]["install_requires"]) | names(SETUP["options.extras_require"]["dev"])
    assert wanted <= held, wanted - held
    assert "-c constraints.txt" in (ROOT / "tools" / "check").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, for building writes beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    for name in filter(None, files):
        if name.split("/")[0] not in {"tests", "notes"} and (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder / "out"),
        str(folder / "source"),
    ]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = (folder / "out").glob("fp16fix-*.whl")
    return found


def test_the_wheel_carries_what_is_read_at_run_time(wheel: Path) -> None:
    held = {name.split(".data/data/")[-1]: name for name in zipfile.ZipFile(wheel).namelist()}
    package = [path for path in (ROOT / "fp16fix").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {str(path.relative_to(ROOT)) for path in package} <= set(held)
    assert {f"share/fp16fix/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")} <= set(held)
    (metadata,) = (name for name in held if name.endswith(".dist-info/METADATA"))
    text = zipfile.ZipFile(wheel).read(held[metadata]).decode()
    assert "Author: the fp16fix authors" in text
    assert "License" in text
    assert any(name.endswith("LICENSE") for name in held)
    assert "Project-URL" not in text


def test_an_install_from_the_wheel_repairs_and_reports(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own that shares nothing but the libraries."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    shared = [path for path in sys.path if path.endswith("site-packages")]
    # A line of a .pth adds a folder without obeying the .pth files in it: an editable fp16fix stays behind.
    (site / "libraries.pth").write_text("\n".join(shared))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--force-reinstall", str(wheel)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    onnx.save(proto("g (float[2,4] x) => (float[2,4] y) { y = Tanh (x) }"), tmp_path / "m.onnx")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    where = run(str(python), "-c", "import fp16fix; print(fp16fix.__file__)").stdout
    assert where.startswith(str(site)), where
    command = str(python.with_name("fp16fix"))
    done = run(command, "repair", "m.onnx", "-o", "x.onnx", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"]["verified"]
    assert (tmp_path / "x.report.html").read_text().startswith("<!doctype html>")
    assert json.loads(run(command, "schema").stdout)["title"]
    assert (tmp_path / "env" / "share" / "fp16fix" / "configs" / "detector.yaml").is_file()
