"""A terminal obeys what it is sent: nothing that a file brings along reaches it as it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from fp16fix.cli import run
from fp16fix.console.text import escaped
from fp16fix.console.watch import Lines
from fp16fix.report.words import INVISIBLE
from tests.models import proto

EVIL = "\x1b]0;title\x07\x9b31m\u202e\u2066"
"""A window title, a colour by a control of eight bits, and text that runs backwards."""
ILL = """g (float[4,64] x) => (float[4,64] y) <float k = {{90000.0}}, float two = {{2.0}}> {{
    a = Mul (x, k) p = Pow (a, two) m = ReduceMean <axes = [1], keepdims = 1> (p) s = Sqrt (m) y = Div (a, s)
}}"""

Said = Callable[..., str]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """Everything that a command line says."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["fp16fix", *map(str, arguments)])
        with pytest.raises(SystemExit):
            run()
        captured = capsys.readouterr()
        return captured.out + captured.err

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Nodes, tensors and the output have names that command a terminal."""
    made = proto(ILL.replace("{{", "{").replace("}}", "}"))
    for node in made.graph.node:
        node.name = f"{EVIL}{node.op_type}"
        for names in (node.input, node.output):
            names[:] = [name if name == "x" else f"{EVIL}{name}" for name in names]
    for each in (*made.graph.initializer, *made.graph.output):
        each.name = f"{EVIL}{each.name}"
    onnx.save(made, tmp_path / "m.onnx")
    return tmp_path


def clean(text: str) -> bool:
    import unicodedata

    return not any(unicodedata.category(each) in INVISIBLE and each not in "\n\t" for each in text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("diagnose", "m.onnx"),
        ("diagnose", "m.onnx", "--json"),
        ("repair", "m.onnx", "-o", "o.onnx"),
        ("repair", "m.onnx", "-o", "o.onnx", "--json"),
        ("repair", "m.onnx", "-o", "o.onnx", "--set", "search.builds=3", "--sqnr", "300"),
        ("locate", "m.onnx"),
        ("locate", "m.onnx", "--json"),
        ("verify", "m.onnx", "m.onnx"),
        ("weights", "m.onnx"),
        ("weights", "m.onnx", "--json"),
        ("repair", "m.onnx", "--shape", "x:5x64"),
        ("repair", f"{EVIL}.onnx"),
        ("repair", "m.onnx", f"--{EVIL}"),
        ("batch", "zoo.yaml"),
    ],
)
def test_no_name_commands_the_terminal(model: Path, said: Said, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.chdir(model)
    (model / f"[bold]{EVIL}[x].onnx").write_bytes((model / "m.onnx").read_bytes())
    (model / "zoo.yaml").write_text("models: ['*.onnx']\njobs: 2\n")
    text = said(*arguments)
    assert "Traceback" not in text
    assert clean(text)
    assert "title" in text or "--shape" in arguments


def test_json_still_says_what_it_said() -> None:
    value = {f"{EVIL}name": ["é", "\U000e0041", "\ud800", "line\nbreak", 1.5]}
    document = json.dumps(value, indent=1, ensure_ascii=False)
    assert not clean(document)
    assert clean(escaped(document))
    assert json.loads(escaped(document)) == value


def test_progress_is_no_exception(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().say(f"{EVIL}row")
    assert clean(capsys.readouterr().err)
