"""As many models at once as cores and memory allow, and what is said while they go on."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fp16fix.config import load_zoo
from fp16fix.console.watch import CrowdLines
from fp16fix.errors import ConfigError
from fp16fix.zoo import run
from fp16fix.zoo.cache import Cache
from fp16fix.zoo.executors import Load, local
from fp16fix.zoo.plan import jobs_of
from fp16fix.zoo.standing import standing
from fp16fix.zoo.task import Task
from tests.zoo.zoos import ROOT, SECONDS, STUB, ran, stubbed, zoo_in

__all__ = ["stubbed"]


def load(name: str, cores: int = 1, memory_mib: float = 100.0) -> Load:
    return Load(Task(name, "{}", Path(), Path(), (), ""), cores, memory_mib, 0.0)


def room(jobs: int = 0, cores: int = 4, memory_mib: float = 1000.0) -> local.Room:
    found = local.Room(jobs)
    found.cores, found.memory_mib = cores, memory_mib
    return found


@pytest.mark.parametrize(
    ("found", "running", "waiting", "starts"),
    [
        (room(), [], [load("a", 9, 9e9)], "a"),
        (room(), [load("x", 3)], [load("a", 2), load("b", 1)], "b"),
        (room(), [load("x", 1, 500)], [load("a", 1, 600), load("b", 1, 400)], "b"),
        (room(), [load("x", 4)], [load("a")], None),
        (room(), [load("x")], [], None),
        (room(jobs=2), [load("x", 4)], [load("a", 4)], "a"),
        (room(jobs=2), [load("x"), load("y")], [load("a")], None),
        (room(jobs=2), [load("x", 1, 900)], [load("a", 1, 200)], None),
    ],
)
def test_what_is_started_next(found: local.Room, running: list[Load], waiting: list[Load], starts: str | None) -> None:
    chosen = found.next(waiting, running)
    assert (chosen.task.name if chosen is not None else None) == starts


def test_memory_is_that_of_the_container_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = local.available_mib()
    monkeypatch.setattr(local, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1\n")
    assert local.available_mib() == pytest.approx(free, rel=0.5)
    (tmp_path / "memory.max").write_text(f"{300 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{100 << 20}\n")
    assert local.available_mib() == 200


@pytest.mark.usefixtures("stubbed")
def test_what_a_model_takes_is_what_it_took_or_guessed_from_its_size(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "good"})
    with (tmp_path / "a.onnx").open("ab") as file:
        file.truncate(10 << 20)
    config = load_zoo(path)
    found = standing(jobs_of(config)[0], Cache(config.cache))
    assert run.estimate_mib(found) == run.BASE_MIB + 10 * run.TIMES
    assert found.peak_mib == 0


@pytest.mark.usefixtures("stubbed")
def test_several_at_once_have_a_thread_each_unless_told_otherwise(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "good"}, defaults="inputs: samples")
    assert [jobs_of(load_zoo(path).model_copy(update={"jobs": jobs}))[0].entry.threads for jobs in (0, 1, 2)] == [1, 0, 1]
    with pytest.raises(ConfigError, match="no executor 'slurm'"):
        ran(path, executor="slurm")


def test_lines_say_stages_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    eyes = CrowdLines()
    eyes.expect(2)
    eyes.start("a")
    eyes.stage("a", "measure ranges", 8)
    eyes.ticks("a", 3)
    eyes.done("a", "verified, 3 s")
    eyes.done("b", "timed out, 9 s")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "  a: measure ranges (8)"
    assert re.fullmatch(r"  a: verified, 3 s \(1 of 2, about \d+ ms left\)", said[1])
    assert said[2] == "  b: timed out, 9 s (2 of 2)"


def test_a_terminal_shows_bars_with_a_time_left(tmp_path: Path) -> None:
    zoo_in(tmp_path, {"a": "good", "b": "good 2"}, "jobs: 1")
    code = f"import sys; sys.argv = ['fp16fix', 'batch', 'zoo.yaml']\nimport fp16fix.zoo.task as task\ntask.WORKER = {STUB!r}\nfrom fp16fix.cli import run\nrun()"
    ours, theirs = pty.openpty()
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
    batch = subprocess.Popen([sys.executable, "-P", "-c", code], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            said += chunk
    except OSError:  # Linux: the other end of a terminal is gone
        pass
    os.close(ours)
    assert batch.wait(SECONDS) == 0
    assert all(each in said.decode() for each in ("all", "0/2", "-:--:--", "a: verified", "b: verified", "2 repaired"))
