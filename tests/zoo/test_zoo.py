"""Many models: each in its own process, none stopping the rest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.cli import run
from tests.models import normal, proto

GOOD = "g (float[4,16] x) => (float[4,16] y) { a = Exp (x) y = Tanh (a) }"
ILL = """g (float[4,16] x) => (float[4,16] y) <float k = {100000.0}, float d = {0.00001}> { a = Mul (x, k) y = Mul (a, d) }"""


def test_one_bad_model_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("good", GOOD), ("ill", ILL)):
        onnx.save(proto(text), tmp_path / f"{name}.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    (tmp_path / "samples").mkdir()
    for seed in range(2):
        np.savez(tmp_path / "samples" / f"{seed}.npz", x=normal(4, 16, seed=seed))
    (tmp_path / "zoo.yaml").write_text("defaults: {inputs: samples, threads: 1}\nmodels: ['*.onnx']\noutput_dir: out\njobs: 2\n")
    monkeypatch.setattr(sys, "argv", ["fp16fix", "batch", str(tmp_path / "zoo.yaml")])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {row["name"]: row["status"] for row in summary["rows"]} == {"broken": "bad input", "good": "verified", "ill": "verified"}
    assert "broken.onnx" in next(row["reasons"][0] for row in summary["rows"] if row["name"] == "broken")
    index = (tmp_path / "out" / "index.html").read_text()
    assert "good.report.html" in index
    assert all((tmp_path / "out" / f"{name}.onnx").exists() for name in ("good", "ill"))
    assert not (tmp_path / "out" / "broken.onnx").exists()
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("good", "ill", "broken"))


def test_the_example_zoo_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``configs/zoo.yaml`` as it stands, but for where it writes."""
    example = Path(__file__).parents[2] / "configs" / "zoo.yaml"
    text = example.read_text().replace("../out/zoo", str(tmp_path / "zoo")).replace("../tests", str(example.parent.parent / "tests"))
    (tmp_path / "zoo.yaml").write_text(text)
    monkeypatch.setattr(sys, "argv", ["fp16fix", "batch", str(tmp_path / "zoo.yaml"), "--json"])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 0
    assert json.loads((tmp_path / "zoo" / "summary.json").read_text())["verified"]
