"""Small zoos for tests: their models are text, repaired by a worker that does what the text says (``stub``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fp16fix.config import load_zoo
from fp16fix.progress import SilentCrowd
from fp16fix.report.batch import DOCUMENT, Batch
from fp16fix.zoo import task
from fp16fix.zoo.run import Options, run_zoo
from tests.zoo import stub

ROOT = Path(__file__).parents[2]
STUB = "tests.zoo.stub"
SECONDS = 120
"""Ten times what anything here takes."""


def zoo_in(folder: Path, models: dict[str, str], text: str = "", defaults: str = "inputs: samples, threads: 1") -> Path:
    """A zoo of models by name and text, each with the same two samples."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, what in models.items():
        (folder / f"{name}.onnx").write_text(what)
    (folder / "samples").mkdir(exist_ok=True)
    for name in ("0.npz", "1.npz"):
        (folder / "samples" / name).write_bytes(name.encode())
    (folder / "zoo.yaml").write_text(f"defaults: {{{defaults}}}\nmodels: ['*.onnx']\n{text}\n")
    return folder / "zoo.yaml"


class Inside:
    """A stub that works in this process, for tests that are not about processes."""

    def __init__(self, work: dict[str, Any], *_: Any) -> None:
        self._work = work

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    runs = False

    def leave(self) -> None:
        pass

    def follow(self, listen: Callable[[dict[str, Any]], None]) -> task.Story:
        story = task.Story()

        def tell(event: dict[str, Any]) -> None:
            story.hear(event)
            listen(event)

        story.ended = stub.work_on(self._work, tell)
        return story


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are stubs in this process."""
    monkeypatch.setattr(task, "Guarded", Inside)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are stubs in processes of their own."""
    monkeypatch.setattr(task, "WORKER", STUB)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


class Heard(SilentCrowd):
    """A crowd that remembers."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.lines: list[str] = []

    def start(self, name: str) -> None:
        self.started.append(name)

    def say(self, line: str) -> None:
        self.lines.append(line)


def ran(path: Path, **options: Any) -> tuple[Batch, list[str]]:
    """A run in this process: what came of it, and the names of what was worked on, sorted."""
    heard = Heard()
    made = run_zoo(load_zoo(path), heard, Options(**options))
    return made, sorted(heard.started)


def works(made: Batch) -> dict[str, str]:
    """``work`` by name."""
    return {row.name: row.work for row in made.rows}


def summary(folder: Path) -> Batch:
    return DOCUMENT.load(folder / "out" / "summary.json")


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``fp16fix batch zoo.yaml`` in another process, with stubs for workers; killed when the block is left."""
    code = f"import sys; sys.argv = ['fp16fix', *sys.argv[1:]]\nimport fp16fix.zoo.task as task\ntask.WORKER = {STUB!r}\nfrom fp16fix.cli import run\nrun()"
    words = [sys.executable, "-P", "-c", code, "batch", "zoo.yaml", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    batch = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield batch
    finally:
        batch.kill()
        batch.communicate(timeout=SECONDS)


def calls(folder: Path) -> list[str]:
    """Names of models that a stub worked on, in order, one line a beginning."""
    log = folder / "calls"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
