"""The page for those who come from other tools: its commands run as they stand, and no flag of the others is left out."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from polygraphy.tools.debug.subtool.precision import Precision

from fp16fix.config import Config

from .models import normal, proto

PAGE = (Path(__file__).parent.parent / "docs" / "migration.md").read_text(encoding="utf-8")
COMMANDS = [block.strip() for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)]
ILL = """g (float[4,16] x) => (float[4,16] y) <float big = {300}, float eps = {1e-5}, float[16,16] w = {WEIGHTS}> {
    a = Relu (x) p = Mul (a, big) s = Mul (p, p) m = ReduceMean <axes = [-1], keepdims = 1> (s) e = Add (m, eps) r = Sqrt (e) n = Div (p, r)
    [Softmax_n] f = Softmax (n) y = MatMul (f, w) }"""
AUTOCAST = """onnx_path output_path low_precision_type calibration_data nodes_to_exclude op_types_to_exclude nodes_to_include op_types_to_include
    data_max init_max init_conversion_max_bytes max_depth_of_reduction keep_io_types log_level providers trt_plugins trt_plugins_precision opset
    use_standalone_type_inference"""
"""Of ``modelopt.onnx.autocast.__main__`` in nvidia-modelopt 0.47.0."""


def rows(heading: str) -> dict[str, str]:
    """Flag → what stands beside it, in the table under a heading."""
    section = PAGE.split(heading, 1)[1].split("\n#", 1)[0]
    cells = re.findall(r"^\| (`.*?) \| (.*?) \|$", section, re.MULTILINE)
    return {flag: said for flags, said in cells for flag in re.findall(r"`([^`]+)`", flags)}


def test_every_flag_of_polygraphy_debug_precision_has_a_row() -> None:
    tool, parser = Precision(), argparse.ArgumentParser()
    tool.setup_parser(parser.add_subparsers())
    actions = next(iter(parser._subparsers._group_actions[0].choices.values()))._actions  # type: ignore[union-attr]
    flags = {next((name for name in each.option_strings if name.startswith("--")), each.dest) for each in actions}
    assert len(flags) > 80
    assert flags == set(rows("### Flags of `polygraphy debug precision`"))


def test_every_flag_of_autocast_has_a_row() -> None:
    assert set(rows("### Flags of AutoCast")) == {f"--{name}" for name in AUTOCAST.split()}


def test_what_stands_beside_a_flag_is_there() -> None:
    """Options of our own commands, and keys of the YAML."""
    commands = [[sys.executable, "-m", "fp16fix", name, "--help"] for name in ("repair", "diagnose", "locate")]
    pages = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]
    options = {flag for page in pages for flag in re.findall(r"(--[a-z0-9-]+)", page)}
    said = [text for heading in ("## From `trtexec", "### Flags of `poly", "### Flags of Auto") for text in rows(heading).values()]
    named = [flag for text in said for flag in re.findall(r"`(--[a-z0-9-]+)", text)]
    assert len(named) > 30
    assert set(named) - options - {"--strongly-typed"} == set()
    keys = {key for text in said for key in re.findall(r"`((?:build\.)?[a-z_0-9]+)(?::[^`]*)?`", text)}
    build = Config.model_fields["build"].annotation
    known = {*Config.model_fields, *(f"build.{name}" for name in build.model_fields)}  # type: ignore[union-attr]
    assert {key for key in keys if key.startswith("build.")} <= known
    assert {"seed", "made", "box"} <= known & keys


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page speaks of."""
    folder = tmp_path_factory.mktemp("migration")
    weights = ", ".join(str(value) for value in np.eye(16, dtype=np.float32).ravel())
    onnx.save(proto(ILL.replace("WEIGHTS", weights)), folder / "model.onnx")
    onnx.save(proto('g (float["N",8] x) => (float["N",8] y) { e = Exp (x) y = Neg (e) }'), folder / "dynamic.onnx")
    for name, width in (("samples", (4, 16)), ("rows", (4, 8))):
        (folder / name).mkdir()
        for seed in range(4):
            np.savez(folder / name / f"{seed}.npz", x=normal(*width, seed=seed))
    (folder / "check.py").write_text("import sys, onnx\nonnx.checker.check_model(onnx.load(sys.argv[1]))\n", encoding="utf-8")
    return folder


def test_commands_run_as_they_stand(bench: Path) -> None:
    """One after another: later ones take what earlier ones made."""
    assert len(COMMANDS) == 10
    pytest.importorskip("tensorrt_rtx")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in COMMANDS:
        program, *words = shlex.split(command)
        assert program == "fp16fix"
        done = subprocess.run(
            [sys.executable, "-m", "fp16fix", *words],
            cwd=bench,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert {"model.plan", "dynamic.plan", "model.fixed.onnx", "model.fixed.plan", "where.json"} <= {each.name for each in bench.iterdir()}
