"""How every command speaks: help, exit codes, quiet and verbose, the log, colour, a standard output of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.conftest import Fp16fix
from tests.models import normal, proto

ROOT = Path(__file__).parent.parent
ILL = """g (float[4,64] x) => (float[4,64] y) <float two = {2.0}, float eps = {0.00001}> {
    p = Pow (x, two) m = ReduceMean <axes = [1]> (p) v = Add (m, eps) s = Sqrt (v) y = Div (x, s)
}"""
WELL = "g (float[4,64] x) => (float[4,64] y) { y = Relu (x) }"
COMMANDS = "batch build diagnose diff doctor export init locate repair replay report schema verify weights".split()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ill model and a well one, two samples, as the working directory."""
    monkeypatch.chdir(tmp_path)
    onnx.save(proto(ILL), "ill.onnx")
    onnx.save(proto(WELL), "well.onnx")
    Path("samples").mkdir()
    for seed in range(2):
        np.savez(f"samples/{seed}.npz", x=normal(4, 64, scale=3000.0, seed=seed))
    return tmp_path


def shell(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment}
    return subprocess.run([sys.executable, "-m", "fp16fix", *words], capture_output=True, text=True, check=False, env=variables)


def test_help_cuts_no_summary_and_tells_every_exit_code(capsys: pytest.CaptureFixture[str], fp16fix: Fp16fix) -> None:
    fp16fix("-h")
    listed = capsys.readouterr().out
    assert "..." not in listed.partition("Commands:")[2]
    assert "one that fails never stops the rest" in " ".join(listed.split())
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| ?(.*?) ?\|$", (ROOT / "docs" / "exit-codes.md").read_text(), re.MULTILINE)
    assert sorted(name for name, *_ in rows) == COMMANDS
    for name, good, bad in rows:
        fp16fix(name, "-h")
        said = " ".join(capsys.readouterr().out.split())
        assert f"Exit codes: 0 {good} · {f'1 {bad} · ' if bad else ''}2 bad input" in said, name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_same_manners(name: str, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]) -> None:
    assert fp16fix(name, "--help") == 0
    said = capsys.readouterr().out
    assert all(flag in said for flag in ("-q, --quiet", "-v, --verbose", "--log-file", "--color", "-h, --help"))


def test_shells_complete_commands_and_flags() -> None:
    words = {"_FP16FIX_COMPLETE": "complete_bash", "COMP_WORDS": "fp16fix re", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'fp16fix'; from fp16fix.__main__ import main; main()"
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **words}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=variables)
    assert done.stdout.split() == ["repair", "report", "replay"]


LOADER = """
import os
import numpy as np

def load():
    for seed in range(2):
        print("loading", seed)
        os.write(1, b"from below\\n")
        yield {"x": np.full((4, 64), 300.0 + seed, np.float32)}
"""


@pytest.mark.parametrize("command", ["repair", "diagnose", "locate"])
def test_json_has_standard_output_for_itself(command: str, here: Path) -> None:
    (here / "load.py").write_text(LOADER)
    done = shell(command, "ill.onnx", "-i", "load.py:load", "--json")
    assert json.loads(done.stdout)
    assert "loading 1" in done.stderr
    assert "from below" in done.stderr


def test_results_are_all_there_is_without_json_too(here: Path) -> None:
    (here / "load.py").write_text(LOADER)
    done = shell("diagnose", "ill.onnx", "-i", "load.py:load")
    assert "hazards in 5 nodes" in done.stdout
    assert "loading" not in done.stdout
    assert "from below" not in done.stdout


def test_quiet_says_errors_only(here: Path, fp16fix: Fp16fix, capfd: pytest.CaptureFixture[str]) -> None:
    assert fp16fix("repair", "ill.onnx", "-i", "samples", "-o", "x.onnx", "-q") == 0
    assert capfd.readouterr() == ("", "")
    assert fp16fix("repair", "none.onnx", "-q") == 2
    assert "no such file" in capfd.readouterr().err
    assert fp16fix("schema", "-q") == 0
    assert json.loads(capfd.readouterr().out)
    assert fp16fix("doctor", "-q", "-v") == 2
    assert "exclude each other" in capfd.readouterr().err


def test_verbose_says_each_edit_and_every_row(here: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]) -> None:
    chain = "".join(f"a{k + 1} = Mul (a{k}, big) b{k} = Mul (a{k + 1}, small) a{k + 2} = Relu (b{k})" for k in range(0, 40, 2))
    text = f"g (float[4,64] a0) => (float[4,64] a40) <float big = {{100000.0}}, float small = {{0.00001}}> {{ {chain} }}"
    onnx.save(proto(text), "long.onnx")
    np.savez("one.npz", a0=normal(4, 64, scale=10.0))
    words = ("repair", "long.onnx", "-i", "one.npz", "-o", "x.onnx", "--no-simplify")
    fp16fix(*words)
    few = capsys.readouterr().out
    fp16fix(*words, "-v")
    many = capsys.readouterr().out
    assert "… and " in few
    assert "… and " not in many
    assert "  edit rescale" in many
    assert "  seconds: load " in many


def test_the_log_holds_what_is_told_with_the_time(here: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]) -> None:
    assert fp16fix("repair", "ill.onnx", "-i", "samples", "-o", "x.onnx", "-q", "--log-file", "log.txt") == 0
    assert fp16fix("repair", "none.onnx", "--log-file", "log.txt") == 2
    lines = (here / "log.txt").read_text().splitlines()
    for said in ("measure ranges …", "measure ranges: ", "VERIFIED on 2 samples", "error: none.onnx: no such file"):
        assert any(re.match(r"\d\d:\d\d:\d\d ", line) and said in line for line in lines) or said in "\n".join(lines), said
    assert capsys.readouterr().out == ""
    assert fp16fix("doctor", "--log-file", "none/log.txt") == 2
    assert "--log-file none/log.txt: cannot be written" in capsys.readouterr().err


def test_colour_is_as_asked(here: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]) -> None:
    for color, escapes in (("always", True), ("never", False), ("auto", False)):
        fp16fix("verify", "well.onnx", "well.onnx", "-i", "samples", "--color", color)
        assert ("\x1b[" in capsys.readouterr().out) is escapes, color


def test_in_a_pipe_a_stage_is_named_when_it_begins(here: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]) -> None:
    fp16fix("verify", "well.onnx", "well.onnx", "-i", "samples")
    lines = capsys.readouterr().err.splitlines()
    assert lines[lines.index("  strict run (2) …") + 1].startswith("  strict run: ")


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(here: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.rglob("*"))
    words = ("repair", "ill.onnx", "-i", "samples", "-o", "new/x.onnx", "--journal", "j.jsonl", "--dry-run")
    assert fp16fix(*words) == 0
    said = capsys.readouterr().out
    assert all(each in said for each in ("nothing is written", "raise-eps@", "onnx, if verified: new/x.onnx", "does not pass"))
    assert fp16fix(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["edits"][0]["by"] == "rescale"
    assert sorted(here.rglob("*")) == before
    assert fp16fix("repair", "well.onnx", "-i", "samples", "--dry-run") == 0
    assert "no edit would be made" in capsys.readouterr().out
    assert fp16fix("repair", "ill.onnx", "-o", "ill.onnx", "--dry-run") == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("diagnose", "ill.onnx"), 0),
        (("diagnose", "ill.onnx", "--fail-on", "hazard"), 1),
        (("diagnose", "ill.onnx", "--fail-on", "any"), 1),
        (("diagnose", "well.onnx", "--fail-on", "any"), 0),
        (("diagnose", "well.onnx", "--fail-on", "some"), 2),
        (("locate", "ill.onnx"), 0),
        (("locate", "ill.onnx", "--fail-on", "fault"), 1),
        (("locate", "well.onnx", "--fail-on", "fault"), 0),
    ],
)
def test_fail_on(here: Path, fp16fix: Fp16fix, words: tuple[str, ...], code: int) -> None:
    assert fp16fix(*words, "-i", "samples") == code


def test_verify_takes_tolerances_and_prints_digests(here: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str]) -> None:
    from hashlib import sha256

    from fp16fix.graph.load import load
    from fp16fix.graph.lower import lower
    from fp16fix.graph.save import save_model

    save_model(lower(load("well.onnx"), {}), Path("half.onnx"))
    words = ("verify", "well.onnx", "half.onnx", "-i", "samples")
    assert fp16fix(*words) == 0
    digest = sha256((here / "half.onnx").read_bytes()).hexdigest()
    assert f"SHA-256 of the candidate: {digest}" in capsys.readouterr().out
    for bound in (("--max-abs", "0.001"), ("--max-rel", "0.000001"), ("--cosine", "1"), ("--set", "tolerance.outputs.y.max_abs=0")):
        assert fp16fix(*words, *bound, "--json") == 1, bound
        assert json.loads(capsys.readouterr().out)["digests"]["candidate"] == digest


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("repair", "."), "is a folder, not a file"),
        (("diagnose", "samples"), "samples: is a folder, not a file"),
        (("verify", "ill.onnx", "samples"), "samples: is a folder, not a file"),
        (("weights", "samples"), "is a folder, not a file"),
        (("locate", "ill.onnx", "-i", "samples", "--module", "none.py:f"), "none.py: no such file"),
        (("diagnose", "ill.onnx", "-i", "bad.py:load"), "bad.py:2: KeyError: 'b'\n  2 | yield {'a': 1}['b']"),
    ],
)
def test_errors_name_what_was_done(
    here: Path, fp16fix: Fp16fix, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    (here / "bad.py").write_text("def load():\n    yield {'a': 1}['b']\n")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert fp16fix(*words) == 2
    assert says in capsys.readouterr().err
