from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fp16fix.cli import run
from fp16fix.config import Config, merged
from fp16fix.errors import ReplayError
from fp16fix.graph.load import load
from fp16fix.graph.session import Session
from fp16fix.report.outcome import Outcome
from fp16fix.report.replay import changed, pins_for, wide_graph
from fp16fix.tasks import repair as pipeline
from fp16fix.tasks.replay import replay
from tests.models import normal, proto, sqnr_db

ILL = """g (float[4,64] x) => (float[4,64] y) <float two = {2.0}, float eps = {0.00001}> {
    [pow] p = Pow (x, two) [mean] m = ReduceMean <axes = [1]> (p) [add] v = Add (m, eps) [sqrt] s = Sqrt (v) [div] d = Div (x, s)
    [tanh] y = Tanh (d)
}"""


def repaired(folder: Path, **keys: Any) -> Outcome:
    onnx.save(proto(ILL), folder / "ill.onnx")
    (folder / "samples").mkdir()
    for seed in range(2):
        np.savez(folder / "samples" / f"{seed}.npz", x=normal(4, 64, scale=3000.0, seed=seed))
    base = {"model": str(folder / "ill.onnx"), "output": str(folder / "x.onnx"), "inputs": str(folder / "samples"), "threads": 2}
    return pipeline.repair(merged(Config(), base | keys))


def test_pins_speak_of_the_graph_that_the_recipe_makes(tmp_path: Path) -> None:
    outcome = repaired(tmp_path, pin=("tanh",))
    assert changed(outcome)
    graph = wide_graph(outcome)
    assert "tanh" in graph.node_map()
    assert {str(tensor.dtype) for tensor in graph.tensors().values()} <= {"float32", "int64"}
    sample = {"x": normal(4, 64, scale=3000.0)}
    assert sqnr_db(Session(load(tmp_path / "ill.onnx")).run(sample)["y"], Session(graph).run(sample)["y"]) > 100.0
    assert "--layerPrecisions=tanh:fp32" in pins_for(outcome, "trtexec")
    assert "'tanh': 'fp32'" in pins_for(outcome, "polygraphy")


def test_another_file_is_no_replay(tmp_path: Path) -> None:
    outcome = repaired(tmp_path)
    onnx.save(proto(ILL.replace("Tanh", "Erf")), tmp_path / "other.onnx")
    with pytest.raises(ReplayError, match="SHA-256"):
        wide_graph(outcome, tmp_path / "other.onnx")
    shutil.move(tmp_path / "ill.onnx", tmp_path / "moved.onnx")
    assert wide_graph(outcome, tmp_path / "moved.onnx").nodes()


def test_export_writes_flags_script_and_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    repaired(tmp_path, pin=("tanh",))

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["fp16fix", "export", str(tmp_path / "x.outcome.json"), *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        return int(stop.value.code or 0)

    assert call("--format", "trtexec") == 0
    out, err = capsys.readouterr()
    assert out.startswith("--fp16 --precisionConstraints=obey")
    assert "--format onnx" in err, "the pins are of a rewritten graph"
    assert call("--format", "polygraphy", "-o", str(tmp_path / "pins.py")) == 0
    compile((tmp_path / "pins.py").read_text(), "pins.py", "exec")
    assert call("--format", "onnx") == 2
    assert call("--format", "onnx", "-o", str(tmp_path / "wide.onnx")) == 0
    assert "tanh" in load(tmp_path / "wide.onnx", simplified=False).node_map()


@pytest.mark.parametrize("keys", [{}, {"pin": ("tanh",)}, {"io": "fp16"}, {"simplify": False, "headroom": 12.0, "pin": ("pow",)}])
def test_the_recipe_gives_the_delivered_graph_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], keys: dict[str, Any]
) -> None:
    outcome = repaired(tmp_path, keep_unverified=True, **keys)
    delivered = Path(next(path for kind, path in outcome.files.items() if kind.startswith("onnx"))).read_bytes()
    again = replay(tmp_path / "x.outcome.json", tmp_path / "again.onnx")
    assert again.read_bytes() == delivered
    assert replay(outcome, tmp_path / "third.onnx", tmp_path / "ill.onnx").read_bytes() == delivered
    monkeypatch.setattr(sys, "argv", ["fp16fix", "replay", str(tmp_path / "x.outcome.json"), "-o", str(tmp_path / "fourth.onnx")])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "fourth.onnx")
    assert (tmp_path / "fourth.onnx").read_bytes() == delivered


def test_replay_writes_nothing_where_it_is_refused(tmp_path: Path) -> None:
    outcome = repaired(tmp_path)
    onnx.save(proto(ILL.replace("Tanh", "Erf")), tmp_path / "other.onnx")
    with pytest.raises(ReplayError):
        replay(outcome, tmp_path / "y.onnx", tmp_path / "other.onnx")
    assert not (tmp_path / "y.onnx").exists()
