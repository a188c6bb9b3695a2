"""The user's own code: run once, spooled to disk, its faults reported at its own line."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from fp16fix.errors import SampleError
from fp16fix.inputs import function
from fp16fix.inputs.function import run


def code(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "calib.py"
    path.write_text("import numpy as np\n" + text)
    return path


def fails(path: Path, name: str = "samples") -> str:
    with pytest.raises(SampleError) as caught:
        run(path, name)
    return str(caught.value)


def test_a_generator_is_run_once_and_read_often(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("START = 5\n")
    text = """
import sys
from dataclasses import dataclass
from neighbour import START

@dataclass
class Once:
    runs: int = 0

ONCE = Once()

def samples():
    ONCE.runs += 1
    for index in range(3):
        yield {"x": np.full(2, START + index + 100 * ONCE.runs), "y": [index]}
"""
    found = run(code(tmp_path, text), "samples")
    for _ in range(2):
        assert [entry.read()["x"].tolist() for entry in found] == [[105, 105], [106, 106], [107, 107]]
    assert found[2].read()["y"].tolist() == [2]
    assert [entry.name for entry in found] == ["samples[0]", "samples[1]", "samples[2]"]


def test_a_list_will_do(tmp_path: Path) -> None:
    assert len(run(code(tmp_path, "def samples():\n    return [{'x': np.ones(1)}] * 2\n"), "samples")) == 2


def test_the_scratch_folder_goes_with_the_last_sample(tmp_path: Path) -> None:
    found = run(code(tmp_path, "def samples():\n    return [{'x': np.ones(1)}] * 2\n"), "samples")
    last, folder = found[1], found[0].path.parent
    del found
    gc.collect()
    assert last.read()["x"].tolist() == [1.0]
    del last
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("def samples():\n    yield {'x': np.ones(1)}\n    return 1 / 0\n", 4, "ZeroDivisionError: division by zero"),
        ("import nowhere_to_be_found\n", 2, "ModuleNotFoundError"),
        ("def samples(:\n", 2, "SyntaxError"),
        ("def helper():\n    raise KeyError('k')\ndef samples():\n    return helper()\n", 3, "KeyError: 'k'"),
        ("raise SystemExit(3)\n", 2, "SystemExit: 3"),
        ("def samples():\n    yield {'x': np.ones(3).reshape(2)}\n", 3, "ValueError: cannot reshape"),
    ],
)
def test_faults_are_reported_at_the_users_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = code(tmp_path, text)
    message = fails(path)
    assert message.startswith(f"{path}:{line}: ")
    assert says in message


def test_faults_are_reported_at_their_line_by_a_relative_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text, line in (("def samples():\n    return 1 / 0\n", 3), ("def samples(:\n", 2)):
        code(tmp_path, text)
        assert fails(Path("calib.py")).startswith(f"calib.py:{line}: ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def sample(): pass\n", "has no function 'samples'\n  → it has sample"),
        ("samples = 3\n", "has no function 'samples'\n  → it has none"),
        ("def samples(path): pass\n", "TypeError: samples() missing 1 required positional argument"),
        ("def samples(): return {'x': np.ones(1)}\n", "expected dicts one after the other, found dict"),
        ("def samples(): pass\n", "found NoneType"),
        ("def samples(): yield np.ones(1)\n", "sample 0: expected a dict of arrays by input name, found ndarray"),
        ("def samples(): yield {3: np.ones(1)}\n", "expected a dict of arrays by input name"),
        ("def samples(): yield {'x': object()}\n", "input 'x' is no array of numbers (object)"),
    ],
)
def test_what_is_no_function_of_samples(tmp_path: Path, text: str, says: str) -> None:
    assert says in fails(code(tmp_path, text))


def test_a_generator_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function, "LIMIT", 3)
    assert "yields more than 3 samples" in fails(code(tmp_path, "def samples():\n    while True:\n        yield {'x': np.ones(1)}\n"))


def test_torch_like_tensors_are_taken_by_their_array(tmp_path: Path) -> None:
    text = "class T:\n    def __array__(self, dtype=None, copy=None):\n        return np.arange(2)\ndef samples():\n    yield {'x': T()}\n"
    assert np.array_equal(run(code(tmp_path, text), "samples")[0].read()["x"], [0, 1])
