"""The command line as a user meets it: exit codes, what is left on disk, what errors say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.conftest import Fp16fix
from tests.models import normal, proto

ILL = """g (float[4,64] x) => (float[4,64] y) <float two = {2.0}, float eps = {0.00001}> {
    p = Pow (x, two) m = ReduceMean <axes = [1]> (p) v = Add (m, eps) s = Sqrt (v) y = Div (x, s)
}"""
WRONG_EVERYWHERE = "g (float[4,64] x) => (float[4,64] y) <float k = {1000000.0}> { y = Mul (x, k) }"


@pytest.fixture
def ill(tmp_path: Path) -> Path:
    """A norm written out whose squares overflow, with four samples beside it."""
    return written(tmp_path, ILL, 3000.0)


def written(folder: Path, text: str, scale: float) -> Path:
    onnx.save(proto(text), folder / "ill.onnx")
    (folder / "samples").mkdir()
    for seed in range(4):
        np.savez(folder / "samples" / f"{seed}.npz", x=normal(4, 64, scale=scale, seed=seed))
    return folder / "ill.onnx"


def test_repair_writes_the_graph_the_outcome_and_the_report(
    ill: Path, tmp_path: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fp16fix("repair", ill, "-i", tmp_path / "samples", "-o", tmp_path / "fixed.onnx") == 0
    printed = capsys.readouterr().out
    assert "VERIFIED on 4 samples" in printed
    assert "FP32 nodes 0" in printed
    outcome = json.loads((tmp_path / "fixed.outcome.json").read_text())
    assert outcome["verdict"]["verified"]
    assert outcome["before"][0]["sqnr_db"] < 20
    assert outcome["verdict"]["outputs"][0]["sqnr_db"] > 50
    assert {row["hazard"]["node"] for row in outcome["hazards"]} >= {"Pow_p"}
    assert (tmp_path / "fixed.report.html").read_text().startswith("<!doctype html>") or "<html" in (
        tmp_path / "fixed.report.html"
    ).read_text()
    onnx.checker.check_model(onnx.load(tmp_path / "fixed.onnx"), full_check=True)


def test_the_repaired_file_verifies_by_itself_and_the_plain_one_does_not(ill: Path, tmp_path: Path, fp16fix: Fp16fix) -> None:
    from fp16fix.graph.load import load
    from fp16fix.graph.lower import lower
    from fp16fix.graph.save import save_model

    samples = tmp_path / "samples"
    assert fp16fix("repair", ill, "-i", samples, "-o", tmp_path / "fixed.onnx") == 0
    assert fp16fix("verify", ill, tmp_path / "fixed.onnx", "-i", samples) == 0
    save_model(lower(load(ill), {}), tmp_path / "plain.onnx")
    assert fp16fix("verify", ill, tmp_path / "plain.onnx", "-i", samples) == 1


def test_what_cannot_be_verified_is_not_delivered(tmp_path: Path, fp16fix: Fp16fix) -> None:
    """Sixty-four decibels more than FP16 storage can give: no recipe with FP16 inputs passes."""
    path = written(tmp_path, ILL, 1.0)
    arguments = ("repair", path, "-i", tmp_path / "samples", "-o", tmp_path / "fixed.onnx", "--sqnr", "140", "--io", "fp16")
    assert fp16fix(*arguments) == 1
    assert not (tmp_path / "fixed.onnx").exists()
    assert (tmp_path / "fixed.outcome.json").exists()
    assert fp16fix(*arguments, "--keep-unverified") == 1
    assert not (tmp_path / "fixed.onnx").exists()
    assert (tmp_path / "fixed.unverified.onnx").exists()


def test_json_is_all_there_is_on_standard_output(ill: Path, tmp_path: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]) -> None:
    assert fp16fix("repair", ill, "-i", tmp_path / "samples", "-o", tmp_path / "fixed.onnx", "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["verified"]
    assert fp16fix("diagnose", ill, "-i", tmp_path / "samples", "--json") == 0
    assert json.loads(capsys.readouterr().out)["hazards"]


def test_locate_writes_the_location_and_its_page_and_report_renders_it_again(
    ill: Path, tmp_path: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fp16fix("locate", ill, "-i", tmp_path / "samples", "--minimise") == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "ill.locate.json").read_text())
    page = (tmp_path / "ill.locate.html").read_text()
    assert found["files"] == {"location": str(tmp_path / "ill.locate.json"), "report": str(tmp_path / "ill.locate.html")}
    assert found["command"][:2] == ["fp16fix", "locate"]
    assert found["triage"]["fault"] == "range"
    first = found["culprits"][0]
    for said in (found["triage"]["verdict"], first["node"], first["repair"], "least that must be FP32"):
        assert said in " ".join(printed.split())
    assert all(path in printed for path in found["files"].values())
    assert all(line.strip() and (len(line) <= 100 or str(tmp_path) in line) for line in printed.splitlines())
    assert first["node"] in page
    assert "The least that must be FP32" in page
    (tmp_path / "ill.locate.html").unlink()
    assert fp16fix("report", tmp_path / "ill.locate.json") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "ill.locate.html")
    assert (tmp_path / "ill.locate.html").read_text() == page
    assert fp16fix("report", tmp_path / "ill.locate.json", "-o", tmp_path / "again.html") == 0
    assert (tmp_path / "again.html").read_text() == page


def test_locate_prints_what_it_writes(ill: Path, tmp_path: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]) -> None:
    assert fp16fix("locate", ill, "-i", tmp_path / "samples", "-o", tmp_path / "new" / "x.json", "--json") == 0
    assert capsys.readouterr().out == (tmp_path / "new" / "x.json").read_text()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["x.html", "x.json"]
    assert not list(tmp_path.glob("*.locate.*"))


def test_made_up_inputs_are_said_everywhere(ill: Path, tmp_path: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]) -> None:
    fp16fix("repair", ill, "-o", tmp_path / "fixed.onnx")
    assert "made-up" in capsys.readouterr().out
    assert json.loads((tmp_path / "fixed.outcome.json").read_text())["samples"]["made_up"] is True
    assert "made-up" in (tmp_path / "fixed.report.html").read_text()
    fp16fix("diagnose", ill)
    assert "made-up" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("repair", "none.onnx"), "no such file"),
        (("repair",), "no model given"),
        (("repair", "ill.onnx", "-o", "fixed.bin"), ".plan for an engine or .onnx"),
        (("repair", "ill.onnx", "-o", "ill.onnx"), "overwrite the model"),
        (("repair", "ill.onnx", "-i", "nowhere"), "nowhere"),
        (("repair", "ill.onnx", "-i", "samples", "-o", "bad.yaml/x.onnx"), "nothing can be written"),
        (("repair", "ill.onnx", "-i", "samples", "--set", "tolerance.outputs.z.sqnr_db=40"), "no output 'z'"),
        (("repair", "ill.onnx", "--shape", "x=3"), "shape"),
        (("repair", "ill.onnx", "--io", "fp8"), "io"),
        (("repair", "ill.onnx", "--config", "bad.yaml"), "did you mean 'headroom'"),
        (("repair", "ill.onnx", "--no-such-flag"), "--no-such-flag"),
        (("verify", "ill.onnx", "none.onnx", "-i", "samples"), "no such file"),
        (("report", "none.outcome.json"), "not a readable file"),
        (("locate",), "no model given"),
        (("locate", "ill.onnx", "-i", "samples", "-o", "found.html"), "end it in .json"),
        (("locate", "ill.onnx", "-i", "samples", "-o", "bad.yaml/x.json"), "nothing can be written"),
        (("batch", "none.yaml"), "cannot be read"),
        (("build", "none.onnx", "-o", "x.plan"), "no such file"),
        (("locate", "ill.onnx", "-i", "samples", "--engine", "nowhere"), "is no folder of outputs, and no plan"),
        (("locate", "ill.onnx", "-i", "samples", "--reference", "bad.yaml"), "is no folder of outputs"),
        (("locate", "ill.onnx", "-i", "samples", "--module", "model.py"), "expected file.py:function, found 'model.py'"),
        (("locate", "ill.onnx", "-i", "samples", "--module", "none.py:build"), "none.py: no such file"),
    ],
)
def test_a_users_mistake_is_exit_two_and_three_plain_lines(
    arguments: tuple[str, ...], says: str, ill: Path, fp16fix: Fp16fix, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ill.parent)
    (ill.parent / "bad.yaml").write_text("headrom: 2\n")
    before = sorted(path.name for path in ill.parent.iterdir())
    assert fp16fix(*arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said
    assert sorted(path.name for path in ill.parent.iterdir()) == before


def test_a_sample_that_does_not_fit_names_file_input_expected_and_found(
    ill: Path, tmp_path: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "samples" / "0.npz", x=normal(4, 63))
    assert fp16fix("repair", ill, "-i", tmp_path / "samples", "-o", tmp_path / "fixed.onnx") == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("0.npz", "'x'", "64", "63"))


def test_pins_and_allowances_override_everything(ill: Path, tmp_path: Path, fp16fix: Fp16fix) -> None:
    samples = tmp_path / "samples"
    assert fp16fix("repair", ill, "-i", samples, "-o", tmp_path / "a.onnx", "--pin", "Div_*") == 0
    edits = json.loads((tmp_path / "a.outcome.json").read_text())["recipe"]["edits"]
    assert [(edit["format"], edit["because"]) for edit in edits if edit["node"] == "Div_y"] == [("fp32", "the user pins it")]
    assert fp16fix("repair", ill, "-i", samples, "-o", tmp_path / "b.onnx", "--allow", "*") == 1
    outcome = json.loads((tmp_path / "b.outcome.json").read_text())
    assert outcome["counts"]["fp32_nodes"] == 0
    assert {edit["by"] for edit in outcome["recipe"]["edits"]} <= {"saturate"}


def test_import_and_help_are_light() -> None:
    code = "import sys, fp16fix; print(sorted({'onnx', 'onnxruntime', 'scipy', 'pydantic', 'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    code = "import sys; sys.argv = ['fp16fix', '--help']\ntry:\n import fp16fix.cli as c; c.run()\nfinally:\n print(sorted({'onnx', 'onnxruntime', 'scipy', 'torch', 'pydantic', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert done.stdout.strip().endswith("[]")
    assert all(
        command in done.stdout for command in ("repair", "diagnose", "locate", "verify", "build", "weights", "batch", "doctor", "report")
    )


def test_replay_gives_the_same_recipe(ill: Path, tmp_path: Path, fp16fix: Fp16fix) -> None:
    for name in ("a", "b"):
        assert fp16fix("repair", ill, "-i", tmp_path / "samples", "-o", tmp_path / f"{name}.onnx") == 0
    one, two = (json.loads((tmp_path / f"{name}.outcome.json").read_text())["recipe"] for name in ("a", "b"))
    assert one == two
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_any_key_can_be_set(ill: Path, tmp_path: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("repair", ill, "-i", tmp_path / "samples", "-o", tmp_path / "fixed.onnx")
    assert fp16fix(*arguments, "--set", "tolerance.sqnr_db=140", "--set", "io=fp16") == 1
    assert fp16fix(*arguments, "--set", "build.refti=true") == 2
    assert "refit" in capsys.readouterr().err
    assert fp16fix(*arguments, "--set", "headroom") == 2


MODULE = """
import torch


class Norm(torch.nn.Module):
    def forward(self, x):
        return {"y": x / (x.pow(2).mean(1, keepdim=True) + 1e-5).sqrt()}


def fails():
    raise ValueError("no checkpoint")
"""


def test_locate_hears_a_module_and_an_engine(ill: Path, tmp_path: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    (tmp_path / "model.py").write_text(MODULE)
    (tmp_path / "engine").mkdir()
    for file in (tmp_path / "samples").iterdir():
        np.savez(tmp_path / "engine" / file.name, y=np.zeros((4, 64), np.float16))
    arguments = ("locate", ill, "-i", tmp_path / "samples")
    assert fp16fix(*arguments, "--module", f"{tmp_path / 'model.py'}:Norm", "--engine", tmp_path / "engine", "--json") == 0
    found = json.loads(capsys.readouterr().out)["triage"]
    assert found["fault"] == "range"
    assert "the engine: y 0.0 dB" in found["verdict"]
    assert [line.split(": ")[0] for line in found["evidence"]] == [
        "FP32 agrees with the PyTorch module",
        "PyTorch autocast to FP16 (cpu) agrees with PyTorch FP32",
        "autocast runs products in FP16 and leaves much else in FP32 (here whatever still reads FP32); all-FP16 does not",
        "all-FP16, strictly emulated, against FP32",
        "the engine (recorded outputs) does not agree with FP32",
        "strict emulation is closer to the engine than FP32 is",
    ]
    assert fp16fix(*arguments, "--module", f"{tmp_path / 'model.py'}:fails") == 2
    assert f"{tmp_path / 'model.py'}:11: ValueError: no checkpoint" in capsys.readouterr().err


def test_locate_says_how_to_hear_a_plan_where_none_runs(
    ill: Path, tmp_path: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]
) -> None:
    from fp16fix.engines.execute import can_execute

    if can_execute()[0]:
        pytest.skip("engines run here")
    (tmp_path / "x.plan").write_bytes(b"plan")
    assert fp16fix("locate", ill, "-i", tmp_path / "samples", "--engine", tmp_path / "x.plan") == 3
    said = capsys.readouterr().err
    assert "none can run here" in said
    assert "record its outputs there" in said
