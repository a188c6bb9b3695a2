"""The field report's story, from the command line: FP32 is right, autocast is right, the FP16 engine is off by pixels. Which layers, and why?"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.inputs.files import write_npz

from .test_detector import CULPRITS, HERE, run, strict

MODULE = HERE.parents[1] / "tools" / "demo_detector.py"
TRUE = {name for names in CULPRITS.values() for name in names if name.endswith(("Pow", "/Mul_1"))}
"""Where error is born; the other culprits of the construction read what these make."""


def test_locate_names_the_true_culprits_from_what_a_user_has(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    shutil.copy(HERE / "detector.onnx", tmp_path)
    samples, engine = tmp_path / "samples", tmp_path / "engine"
    samples.mkdir()
    engine.mkdir()
    model = onnx.load(HERE / "detector.onnx")
    off = 0.0
    for file in sorted((HERE / "samples").glob("*.npz"))[:3]:
        shutil.copy(file, samples)
        images = dict(np.load(file))["images"]
        # An engine computed by other means than fp16fix's own emulator.
        logits, boxes = run(strict(onnx.load(HERE / "detector.onnx")), images)
        off = max(off, float(np.abs(boxes - run(model, images)[1]).max()))
        write_npz(engine / file.name, {"logits": logits, "boxes": boxes})
    assert off > 3.0, "wrong by units, as in the report"
    command = [sys.executable, "-m", "fp16fix", "locate", "detector.onnx", "-i", "samples", "--json", "--minimise"]
    command += ["--module", f"{MODULE}:trained", "--engine", "engine"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    triage, culprits = found["triage"], found["culprits"]

    assert triage["fault"] == "range"
    assert triage["verdict"].startswith("A range fault: strict FP16 emulation reproduces it")
    said = "\n".join(triage["evidence"])
    assert "FP32 agrees with the PyTorch module" in said
    assert "autocast to FP16 (cpu) agrees with PyTorch FP32" in said
    assert "the engine (recorded outputs) does not agree with FP32" in said

    named = [each["node"] for each in culprits]
    assert set(named) >= TRUE, "none missing"
    assert set(named) - TRUE <= {"/decoder/pointer/Div"}, "it divides what vanished by what vanished"
    assert set(named[:4]) <= TRUE, "at the top"
    assert [each["share"] for each in culprits] == sorted((each["share"] for each in culprits), reverse=True)
    assert found["explained"] > 0.9
    assert found["cures"] is True
    assert {each["node"]: each["kind"] for each in culprits}["/decoder/pointer/Mul_1"] == "vanish"
    assert all(each["kind"] == "overflow" for each in culprits if each["node"].endswith("Pow"))
    assert all(each["why"] and not each["repair"].startswith("none") for each in culprits)
    assert not TRUE & set(found["carried"])
    assert set(found["minimal"]["pins"]) >= TRUE
    assert found["minimal"]["complete"]
    assert json.loads((tmp_path / "detector.locate.json").read_text()) == found
    page = (tmp_path / "detector.locate.html").read_text()
    assert all(name.rpartition("/")[2] in page for name in TRUE)
    assert triage["verdict"].split("(")[0].strip() in page
