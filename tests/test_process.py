"""Processes: children never run what lies in the working directory, signals end a run cleanly, and what is said of it is true."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from fp16fix.config import Config
from fp16fix.errors import ModelError
from fp16fix.process import memory
from fp16fix.process.children import HERE, command, environment
from fp16fix.process.interrupts import in_place, placed, terminable, undisturbed
from fp16fix.progress import Silent
from fp16fix.tasks.diagnose import diagnose
from tests.models import proto

ROOT = Path(__file__).parents[1]
SECONDS = 120
"""Ten times what any of these takes."""


def fp16fix(folder: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    """The command line in another process and folder, as an installed script starts it, after some Python."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['fp16fix', *sys.argv[1:]]\n{code}\nfrom fp16fix.__main__ import main\nmain()"
    words = [sys.executable, "-P", "-c", script, *arguments]
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=kept)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(proto("g (float[4,16] x) => (float[4,16] y) { a = Exp (x) y = Tanh (a) }"), tmp_path / "m.onnx")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "module"),
    [(("doctor",), "tensorrt_rtx"), (("doctor",), "queue"), (("batch", "zoo.yaml"), "yaml"), (("batch", "zoo.yaml"), "fp16fix")],
)
def test_a_module_in_the_working_directory_is_not_run(model: Path, arguments: Sequence[str], module: str) -> None:
    (model / "zoo.yaml").write_text("models: [m.onnx]\n")
    (model / f"{module}.py").write_text(f"open({str(model / 'ran')!r}, 'w')\nraise ImportError('planted')\n")
    running = fp16fix(model, "", *arguments)
    said = running.communicate(timeout=SECONDS)
    assert running.returncode == 0, said
    assert not (model / "ran").exists()


def test_nor_is_it_by_python_m(model: Path) -> None:
    (model / "onnx.py").write_text(f"open({str(model / 'ran')!r}, 'w')\n")
    words = [sys.executable, "-m", "fp16fix", "diagnose", "m.onnx"]
    done = subprocess.run(words, cwd=model, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert not (model / "ran").exists()


@pytest.mark.parametrize("given", ["", ":", "/a::/b:", ".:sub:/a"])
def test_no_entry_of_a_path_is_the_working_directory(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("PYTHONPATH", given)
    entries = environment()["PYTHONPATH"].split(os.pathsep)
    assert entries == [str(HERE), *(each for each in ("/a", "/b") if each in given)]
    assert command("x", "y")[1:] == ["-P", "-m", "x", "y"]


def test_telemetry_is_off_before_onnx_runtime_is_imported() -> None:
    code = "import fp16fix, os, sys; assert 'onnxruntime' not in sys.modules; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    )
    assert done.stdout.strip() == "1"


WAITING = """
import pathlib, time
import fp16fix.{module} as inside
def wait(*_, **__):
    pathlib.Path('waits').touch()
    time.sleep(60)
real = inside.{name}
def late(*given, **keys):
    made = real(*given, **keys)
    wait()
    return made
inside.{name} = {how}
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("module", "name", "how", "left"),
    [
        ("tasks.prepare", "gather", "wait", False),
        ("report.delivery", "write_report", "late", False),
        ("tasks.repair", "deliver", "late", True),
    ],
)
def test_a_signal_ends_a_run_and_what_is_said_of_its_files_is_true(
    model: Path, number: signal.Signals, module: str, name: str, how: str, left: bool
) -> None:
    (model / "old").mkdir()
    running = fp16fix(model, WAITING.format(module=module, name=name, how=how), "repair", "m.onnx", "-o", "new/p.onnx")
    began = time.monotonic()
    while not (model / "waits").exists() and running.poll() is None and time.monotonic() - began < SECONDS:
        time.sleep(0.02)
    running.send_signal(number)
    _, said = running.communicate(timeout=SECONDS)
    assert running.returncode == 128 + number
    assert "Traceback" not in said
    names = sorted(each.name for each in (model / "new").iterdir()) if (model / "new").exists() else []
    assert names == (["p.onnx", "p.outcome.json", "p.report.html"] if left else [])
    assert ("nothing was written" in said) is not left
    assert ("p.outcome.json" in said) is left


def test_a_batch_takes_its_children_along(model: Path) -> None:
    (model / "zoo.yaml").write_text("models: [m.onnx]\ndefaults: {inputs: 'wait.py:samples'}\n")
    (model / "wait.py").write_text(
        "import os, pathlib, time\ndef samples():\n    pathlib.Path('pid').write_text(str(os.getpid()))\n    time.sleep(300)\n"
    )
    running = fp16fix(model, "", "batch", "zoo.yaml")
    began = time.monotonic()
    while not (model / "pid").exists() and running.poll() is None and time.monotonic() - began < SECONDS:
        time.sleep(0.02)
    time.sleep(0.1)
    running.terminate()
    _, said = running.communicate(timeout=SECONDS)
    assert running.returncode == 143, said
    with pytest.raises(ProcessLookupError):
        os.kill(int((model / "pid").read_text()), 0)


def test_signals_wait_for_a_step_that_must_be_whole() -> None:
    steps: list[str] = []

    def step() -> None:
        with undisturbed():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            steps.append("whole")
        steps.append("never")

    with terminable() as came, pytest.raises(KeyboardInterrupt):
        step()
    assert (steps, came) == (["whole"], [signal.SIGTERM])


def test_handlers_are_as_they_were_and_other_threads_set_none() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with terminable(), undisturbed():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    done: list[bool] = []

    def elsewhere() -> None:
        with terminable() as came, undisturbed():
            done.append(not came)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == [True]


def test_only_what_is_still_there_is_in_place(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    placed(tmp_path / "x", tmp_path / "gone")
    assert tmp_path / "x" in in_place()
    assert tmp_path / "gone" not in in_place()


HOLES = """
import contextlib, sys
import numpy as np
from fp16fix.process import memory

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

def worked():
    large, small = [], []
    for _ in range(100):
        large.append(np.ones(1 << 18))
        small.append(bytes(2000))
    large.clear()
    return small

np.ones(31 << 17)[:1].copy()
with memory.given_back() if sys.argv[1] == "given" else contextlib.nullcontext():
    before = held()
    kept = worked()
    print(held() - before)
"""


@pytest.mark.skipif(not hasattr(memory.libc(), "mallopt"), reason="no glibc")
def test_large_blocks_between_small_ones_are_given_back() -> None:
    holes, given = (
        int(subprocess.run([sys.executable, "-c", HOLES, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "given")
    )
    assert given < 20 < 100 < holes


def test_the_threshold_is_put_back_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(memory, "libc", lambda: SimpleNamespace(mallopt=lambda _, threshold: told.append(threshold)))
    with pytest.raises(KeyError), memory.given_back():
        raise KeyError(told.copy())
    assert told == [memory.LOW, memory.HIGH]
    monkeypatch.setattr(memory, "libc", lambda: None)
    with memory.given_back():
        pass


class Looking(Silent):
    """Notes how the garbage collector is set while a task runs."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def begin(self, stage: str, total: int | None) -> None:
        self.seen.add(gc.get_threshold()[0])


def test_the_garbage_collector_comes_seldom_while_a_task_runs_and_as_before_after_it(tmp_path: Path) -> None:
    model, before, looking = tmp_path / "m.onnx", gc.get_threshold(), Looking()
    onnx.save(proto("g (float[2] x) => (float[2] y) { y = Relu (x) }"), model)
    diagnose(Config(model=model), looking)
    assert looking.seen == {memory.SELDOM}
    assert gc.get_threshold() == before
    with pytest.raises(ModelError):
        diagnose(Config(model=tmp_path / "none.onnx"))
    assert gc.get_threshold() == before


@pytest.mark.parametrize("least", [0, 2 * memory.SELDOM])
def test_who_collects_less_keeps_that(least: int) -> None:
    before = gc.get_threshold()
    gc.set_threshold(least)
    try:
        with memory.seldom_collected():
            assert gc.get_threshold()[0] == least
    finally:
        gc.set_threshold(*before)


def test_circles_are_looked_for_once_memory_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    held, looks = [memory.GROWN], list[int]()
    monkeypatch.setattr(memory, "resident", lambda _: held[0])
    monkeypatch.setattr(gc, "collect", lambda: looks.append(held[0]))
    circles = memory.Circles(memory.GROWN)
    steps = (0, memory.GROWN, memory.GROWN + 1, 2 * memory.GROWN + 1, 2 * memory.GROWN + 2)
    for held[0] in steps:
        circles.look()
    assert looks == [memory.GROWN + 1, 2 * memory.GROWN + 2], "since the fewest, and since the last look"
