"""A command in a process of its own: signals reach it, it ends tidily, and its exit code is the command's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_command(number: int, tmp_path: Path) -> None:
    code = "import time, sys; sys.path.insert(0, sys.argv[1])\nfrom fp16fix.cli.survive import survive\nsurvive(lambda: [time.sleep(0.1) for _ in range(600)])"
    # A shell's background job ignores SIGINT and hands that on.
    running = subprocess.Popen(
        [sys.executable, "-c", code, ROOT],
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    while not children.exists() or not children.read_text().split():
        assert running.poll() is None
    os.kill(running.pid, number)
    assert running.wait(timeout=30) == 128 + number


AS_THE_WAIT_BEGINS = """
import ctypes, os, select, signal, sys, time
from functools import partial
from operator import call
sys.path.insert(0, sys.argv[1])
from fp16fix.cli.survive import survive

kill = ctypes.CDLL(None).kill

def struck(wait):
    # One call of C after another: Python calls no handler between the signal and the wait.
    return lambda *given: list(map(call, [partial(kill, os.getpid(), signal.SIGTERM), partial(wait, *given)]))[-1]

os.waitpid, select.select = struck(os.waitpid), struck(select.select)
survive(lambda: time.sleep(20))
"""


def test_a_signal_that_comes_as_the_wait_begins_is_not_lost(tmp_path: Path) -> None:
    started = [sys.executable, "-c", AS_THE_WAIT_BEGINS, ROOT]
    assert subprocess.run(started, cwd=tmp_path, check=False, timeout=60).returncode == 128 + signal.SIGTERM


AT_THE_END = """
import atexit, gc, sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fp16fix.cli.survive import survive

class Held:
    def __init__(self):
        self.self = self
    def __del__(self):
        Path(sys.argv[2], "looked").touch()

def command():
    global held, folder
    held, folder = Held(), tempfile.TemporaryDirectory(dir=sys.argv[2])
    atexit.register(print, "last words", end="")
    print("first words", file=sys.stderr, end="")
    sys.exit(3)

survive(command)
"""


def test_a_command_that_ends_tidies_up_and_frees_nothing_for_its_own_sake(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", AT_THE_END, ROOT, str(tmp_path)]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "last words", "first words")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that takes nothing")
@pytest.mark.parametrize(("said", "code"), [(0, 120), (3, 3)])
def test_words_that_reach_nobody_show_in_the_exit_code(said: int, code: int) -> None:
    text = f"import sys; sys.path.insert(0, sys.argv[1])\nfrom fp16fix.cli.survive import survive\nsurvive(lambda: print('x') or sys.exit({said}))"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", text, ROOT], check=False, stdout=full, env=buffered)
    assert done.returncode == code


@pytest.mark.parametrize("how", ["sys.exit(3)", "os._exit(3)"])
def test_exit_codes_pass_through(how: str) -> None:
    code = f"import os, sys; sys.path.insert(0, sys.argv[1])\nfrom fp16fix.cli.survive import survive\nsurvive(lambda: {how})"
    assert subprocess.run([sys.executable, "-c", code, ROOT], check=False).returncode == 3
