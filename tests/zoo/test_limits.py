"""One worker within its limits: whatever becomes of it is a row with its stage and last words, and nothing of it stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fp16fix.process.children import command
from fp16fix.report.batch import Row
from tests.zoo.test_run import gone, until
from tests.zoo.zoos import ROOT, SECONDS, STUB, apart, ran, zoo_in

__all__ = ["apart"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    """One batch of everything that may happen."""
    folder = tmp_path_factory.mktemp("limits")
    models = {"hang": "hang", "eat": "eat 300", "segv": "die SIGSEGV", "killed": "die SIGKILL", "orphan": "orphan", "good": "good"}
    path = zoo_in(folder, models, "jobs: 3")
    path.write_text(
        "defaults: {inputs: samples, threads: 1}\njobs: 3\nmodels: ['[gsko]*.onnx', {model: hang.onnx, limits: {time_s: 1}}, {model: eat.onnx, limits: {memory_mib: 200}}]\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fp16fix.zoo.task.WORKER", STUB)
        patch.setenv("PYTHONPATH", str(ROOT))
        made, _ = ran(path)
    for name in ("hang", "orphan"):
        gone(int((folder / f"{name}.pid").read_text()))
    assert (folder / "good.threads").read_text() == "1", "BLAS sums alike wherever a model is worked on"
    return {row.name: row for row in made.rows}


@pytest.mark.parametrize(
    ("name", "status", "why"),
    [
        ("hang", "timed out", "no result after 1 s (limits.time_s)"),
        ("eat", "out of memory", "more than 200 MiB (limits.memory_mib); "),
        ("segv", "crashed", "the process was ended by SIGSEGV"),
        ("killed", "crashed", "the process was killed from outside, most likely by the system for want of memory"),
    ],
)
def test_a_death_is_a_row_with_its_stage(rows: dict[str, Row], name: str, status: str, why: str) -> None:
    row = rows[name]
    assert (row.status, row.work) == (status, "failed")
    assert row.reasons[0].startswith(why)
    assert row.stage == {"segv": "die", "killed": "die"}.get(name, name)
    assert rows["good"].verified
    assert rows["orphan"].verified


def test_last_words_are_kept_and_safe_mode_was_tried_where_it_may_help(rows: dict[str, Row]) -> None:
    assert "still here" in rows["hang"].last_words
    assert "last words" in rows["segv"].last_words
    assert (rows["segv"].attempts, rows["killed"].attempts, rows["good"].attempts) == (2, 1, 1)


def test_memory_is_that_of_the_whole_family(rows: dict[str, Row]) -> None:
    assert rows["eat"].peak_mib > 200
    assert 0 < rows["good"].peak_mib < 200


def guard(folder: Path, what: str, **changes: Any) -> subprocess.Popen[bytes]:
    """A guard that watches a stub."""
    zoo_in(folder, {"m": what})
    work = {"name": "m", "entry": {"model": str(folder / "m.onnx"), "output": str(folder / "out" / "m.onnx")}}
    request = {"module": STUB, "work": work, "time_s": None, "memory_mib": None, "environment": {}} | changes
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    made = subprocess.Popen(command("fp16fix.zoo.guard"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert made.stdin is not None
    made.stdin.write(json.dumps(request).encode() + b"\n")
    made.stdin.flush()
    return made


def test_a_guard_that_nobody_waits_for_ends_all_it_watches(tmp_path: Path) -> None:
    (tmp_path / "stay").touch()
    watching = guard(tmp_path, "orphan")
    until(tmp_path / "m.pid")
    assert watching.stdin is not None
    watching.stdin.close()
    assert watching.wait(SECONDS) == 0
    gone(int((tmp_path / "m.pid").read_text()))
    assert watching.stdout is not None
    assert b'"ended"' not in watching.stdout.read()


@pytest.mark.skipif(sys.platform != "linux", reason="a signal at a parent's death is Linux's")
def test_a_worker_ends_with_its_guard(tmp_path: Path) -> None:
    watching = guard(tmp_path, "hang")
    until(tmp_path / "m.pid")
    watching.send_signal(signal.SIGKILL)
    watching.communicate(timeout=SECONDS)
    gone(int((tmp_path / "m.pid").read_text()))


def test_scratch_files_of_a_worker_that_was_killed_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    watching = guard(tmp_path, "hang", time_s=1.0)
    until(tmp_path / "m.pid")
    assert list((tmp_path / "tmp").iterdir())
    assert watching.stdout is not None
    assert json.loads(watching.stdout.read().splitlines()[-1])["broke"] == "time"
    watching.communicate(timeout=SECONDS)
    assert not list((tmp_path / "tmp").iterdir())
