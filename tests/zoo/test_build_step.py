"""A batch in a build: what is stale or missing fails a check, a lock holds inputs, what became worse is named, and JUnit shows it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from junitparser import Error, Failure, JUnitXml

from fp16fix.cli import run
from fp16fix.errors import InputError, ReplayError
from fp16fix.report.outcome import save
from fp16fix.zoo.junit import junit
from tests.report.batches import batch, died, row
from tests.report.outcomes import outcome
from tests.zoo.zoos import calls, ran, stubbed, summary, zoo_in

__all__ = ["stubbed"]
pytestmark = pytest.mark.usefixtures("stubbed")
Said = Callable[..., tuple[int, str]]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """Exit code and everything that a command line says."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["fp16fix", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out + captured.err

    return call


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(each): (each.stat().st_mtime_ns, each.read_bytes()) for each in sorted(folder.rglob("*")) if each.is_file()}


def test_a_check_tells_what_is_missing_stale_or_unverified_and_does_nothing(tmp_path: Path, said: Said) -> None:
    path = zoo_in(tmp_path, {"a": "good", "b": "good 2", "c": "wrong"})
    assert said("batch", path, "--check") == (1, "".join(f"✗ {name}: missing: it was never repaired\n" for name in "abc"))
    assert not (tmp_path / "out").exists()
    said("batch", path)
    before, worked = snapshot(tmp_path), calls(tmp_path)
    assert said("batch", path, "--check") == (1, "✗ c: not verified\n✓ a: verified\n✓ b: verified\n")
    assert said("batch", path, "--check", "--only", "a", "--only", "b") == (0, "✓ a: verified\n✓ b: verified\n")
    assert said("batch", path, "--check", "--fail-on", "never")[0] == 0
    assert (snapshot(tmp_path), calls(tmp_path)) == (before, worked)
    os.utime(tmp_path / "samples" / "0.npz", (1, 1))
    assert said("batch", path, "--check", "--only", "a")[0] == 0
    (tmp_path / "samples" / "0.npz").write_bytes(b"other")
    assert said("batch", path, "--check", "--only", "a") == (1, "✗ a: stale: samples changed\n")
    (tmp_path / "samples" / "0.npz").write_bytes(b"0.npz")
    (tmp_path / "b.onnx").write_text("good 3")
    (tmp_path / "out" / "a.onnx").unlink()
    assert said("batch", path, "--check", "--only", "a", "--only", "b") == (
        1,
        "✗ a: missing: a file that was delivered is gone or changed\n✗ b: stale: model changed\n",
    )
    assert json.loads(said("batch", path, "--check", "--only", "a", "--json")[1])[0]["good"] is False


@pytest.mark.parametrize(("fail_on", "code"), [("conditions", 1), ("unverified", 0), ("made-up", 1), ("error", 0), ("never", 0)])
def test_what_fails_is_said_by_the_exit_code_of_run_and_check_alike(tmp_path: Path, said: Said, fail_on: str, code: int) -> None:
    path = zoo_in(tmp_path, {"a": "conditional"}, f"fail_on: {fail_on}", defaults="threads: 1")
    assert said("batch", path)[0] == code
    assert summary(tmp_path).failed is bool(code)
    assert said("batch", path, "--check")[0] == code
    assert said("batch", path, "--fail-on", "never")[0] == 0
    assert said("batch", path, "--fail-on", "sometimes")[0] == 2


def test_a_lock_is_made_once_and_anew_only_on_request(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "value=0.02"})
    ran(path)
    first = (tmp_path / "fp16fix.lock").read_text()
    assert "a:\n    verdict: verified" in first
    assert "max_abs: 0.02" in first
    assert not any(str(tmp_path) in line for line in first.splitlines()), "a lock is for every checkout"
    (tmp_path / "a.onnx").write_text("value=3.1")
    made, _ = ran(path)
    assert made.rows[0].worse == ("y: 0.02 → 3.1 px",)
    assert (tmp_path / "fp16fix.lock").read_text() == first
    ran(path, lock=True)
    assert ran(path)[0].rows[0].worse == ()
    changed = [
        (old, new) for old, new in zip(first.splitlines(), (tmp_path / "fp16fix.lock").read_text().splitlines(), strict=True) if old != new
    ]
    assert {old.split(":")[0].strip() for old, _ in changed} <= {"made", "max_abs", "a.onnx", "onnx"}


def test_a_lock_of_some_keeps_the_others(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "value=0.02", "b": "good"})
    ran(path)
    (tmp_path / "a.onnx").write_text("value=3.1")
    ran(path, only=("a",), lock=True)
    text = (tmp_path / "fp16fix.lock").read_text()
    assert "max_abs: 3.1" in text
    assert "\n  b:\n    verdict: verified" in text
    assert ran(path, locked=True)[1] == []


def test_what_became_worse_is_named_by_run_check_page_and_junit(tmp_path: Path, said: Said) -> None:
    path = zoo_in(tmp_path, {"boxes": "value=0.02"})
    said("batch", path)
    (tmp_path / "boxes.onnx").write_text("value=3.1")
    told = "y: 0.02 → 3.1 px since the locked run"
    assert f"boxes: {told}" in said("batch", path)[1]
    assert told in said("batch", path, "--check")[1]
    assert "y: 0.02 → 3.1 px" in (tmp_path / "out" / "index.html").read_text()


def test_locked_refuses_a_change_of_inputs_before_any_work(tmp_path: Path, said: Said) -> None:
    path = zoo_in(tmp_path, {"a": "good", "b": "good 2"})
    with pytest.raises(InputError, match="no lock"):
        ran(path, locked=True)
    ran(path)
    assert ran(path, locked=True)[1] == []
    for each in (tmp_path / "out").rglob("*"):
        each.unlink() if each.is_file() else None
    assert ran(path, locked=True)[1] == ["a", "b"], "the lock knows what the cache has lost"
    worked = calls(tmp_path)
    (tmp_path / "samples" / "0.npz").write_bytes(b"other")
    (tmp_path / "b.onnx").write_text("good 3")
    (tmp_path / "c.onnx").write_text("good 4")
    code, text = said("batch", path, "--locked")
    assert code == 2
    assert [line.strip() for line in text.splitlines()[1:4]] == ["c: is not in the lock", "a: samples changed", "b: model, samples changed"]
    assert calls(tmp_path) == worked


@pytest.mark.parametrize("text", ["version: 7", "[]", "{version: 1, made: x, models: {a: {}}}", "version: 1"])
def test_a_lock_that_was_damaged_is_told(tmp_path: Path, text: str) -> None:
    path = zoo_in(tmp_path, {"a": "good"})
    (tmp_path / "fp16fix.lock").write_text(text)
    with pytest.raises(ReplayError, match="make it again with --lock"):
        ran(path)


def test_junit_shows_failures_and_errors() -> None:
    rows = (row("good"), row("wrong", status="not verified", reasons=("y: 40 dB, wanted 50",)), died("dead\x1b"), row("made", made_up=True))
    document = JUnitXml.fromstring(junit(batch(*rows, fail_on=("made-up",))).decode())
    cases = {case.name: case for suite in document for case in suite}
    kinds = {name: [type(each) for each in case.result] for name, case in cases.items()}
    assert kinds == {"good": [], "wrong": [Failure], "dead\\u001b": [Error], "made": [Failure]}
    assert (document.tests, document.failures, document.errors) == (4, 2, 1)
    assert cases["wrong"].result[0].message == "not verified; y: 40 dB, wanted 50"
    assert "a\nb" in cases["dead\\u001b"].result[0].text
    assert "rests on made-up inputs" in cases["made"].result[0].message
    assert "y: 71.4 dB" in cases["good"].system_out


def test_two_summaries_or_two_outcomes_are_compared(tmp_path: Path, said: Said) -> None:
    path = zoo_in(tmp_path, {"a": "value=0.02", "b": "good", "c": "good 2"})
    ran(path)
    (tmp_path / "then.json").write_bytes((tmp_path / "out" / "summary.json").read_bytes())
    now = tmp_path / "out" / "summary.json"
    assert said("diff", tmp_path / "then.json", now) == (0, "nothing changed that is worth a line\n")
    (tmp_path / "a.onnx").write_text("value=3.1")
    (tmp_path / "b.onnx").unlink()
    (tmp_path / "d.onnx").write_text("good 5")
    ran(path)
    assert said("diff", tmp_path / "then.json", now) == (
        1,
        "✗ a: y: 0.02 → 3.1 px\n· d: model: not there → verified\n✗ b: model: verified → not there\n",
    )
    save(outcome(), tmp_path / "x.outcome.json")
    assert said("diff", tmp_path / "x.outcome.json", tmp_path / "x.outcome.json")[0] == 0
    assert said("diff", tmp_path / "x.outcome.json", now)[0] == 2
    assert said("diff", tmp_path / "a.onnx", now)[0] == 2
