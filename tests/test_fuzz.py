"""The fuzzer: a few of its mutants here, and proof that it would notice what it looks for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.errors import BackendError, ModelError, SampleError
from fp16fix.inputs.files import write_npz
from tools.bench.fuzz import trial as trials
from tools.bench.fuzz.__main__ import page
from tools.bench.fuzz.mutations import MUTATIONS, damaged
from tools.bench.fuzz.seeds import SEEDS
from tools.bench.fuzz.trial import FAILURES, End, apart, ended, off, write

ROOT = Path(__file__).parents[1]
FEW = 40
"""Mutants that every run of the tests tries; the table has two thousand."""


def test_a_few_mutants_end_as_they_may() -> None:
    words = [sys.executable, "-m", "tools.bench.fuzz", "--count", str(FEW), "--only", "5000"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout
    row = next(line for line in done.stdout.splitlines() if line.startswith("| **all**"))
    counts = [int(cell) for cell in row.split("|")[2:-1]]
    assert sum(counts) == FEW
    assert counts[0] > 0, "some are repaired and verified"


def test_the_same_number_is_the_same_mutant_and_numbers_differ(tmp_path: Path) -> None:
    def made(number: int, name: str) -> tuple[object, dict[str, bytes]]:
        folder = tmp_path / name
        folder.mkdir()
        told = write(folder, np.random.default_rng([12, number]))
        return told, {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.onnx")}

    assert made(3, "a") == made(3, "b")
    assert made(3, "c") != made(4, "d")


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_every_seed_is_a_model(seed: object) -> None:
    made = next(each for each in SEEDS if each is seed).model()
    onnx.checker.check_model(made)


def test_every_mutation_can_change_something() -> None:
    for mutation in MUTATIONS:
        changed = 0
        for number in range(12):
            rng = np.random.default_rng(number)
            seed = SEEDS[0]
            model, samples = seed.model(), seed.samples(np.random.default_rng(0))
            mutation.change(model, samples, rng)
            same = model == seed.model() and all(
                a.keys() == b.keys() and all(a[key].dtype == b[key].dtype and np.array_equal(a[key], b[key]) for key in a)
                for a, b in zip(samples, seed.samples(np.random.default_rng(0)), strict=True)
            )
            changed += not same
        assert changed, mutation.name
    assert damaged(bytes(100), np.random.default_rng(0)) != bytes(100)


def killed() -> tuple[str, str]:
    os.kill(os.getpid(), signal.SIGUSR1)
    return "verified", ""


def endless() -> tuple[str, str]:
    time.sleep(60)
    return "verified", ""


def broken() -> tuple[str, str]:
    raise ZeroDivisionError


def test_a_crash_and_no_end_are_ends() -> None:
    assert apart(lambda: ("verified", "well"), 10) == ("verified", "well")
    assert apart(killed, 10)[0] == "crash"
    assert apart(broken, 10)[0] == "crash"
    assert apart(endless, 0.2)[0] == "hang"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelError("no model"), "refused"),
        (SampleError("no sample"), "refused"),
        (BackendError("no backend"), "traceback"),
        (ZeroDivisionError(), "traceback"),
    ],
)
def test_what_repair_raises_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str) -> None:
    def repair(_: object) -> None:
        raise error

    monkeypatch.setattr(trials, "repair", repair)
    assert ended(tmp_path)[0] == kind


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_a_verdict_that_is_wrong_is_noticed(tmp_path: Path, scale: float) -> None:
    """What is at ``o.onnx`` is held against the mutant by another evaluator than ours."""
    seed = SEEDS[0]
    model = seed.model()
    (tmp_path / "samples").mkdir()
    write_npz(tmp_path / "samples" / "0.npz", seed.samples(np.random.default_rng(0))[0])
    onnx.save(model, tmp_path / "m.onnx")
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.array(9000 * scale, np.float32), "k"))
    onnx.save(model, tmp_path / "o.onnx")
    assert bool(trials.fault(tmp_path)) is (scale != 1.0)
    assert trials.runs(tmp_path)


def test_what_is_off() -> None:
    exact = np.array([1.0, 2.0, 1e6, np.inf], np.float32)
    assert off(exact, exact) == ""
    assert "shape" in off(exact, exact[:2])
    assert off(exact, np.array([1.0, np.nan, 1e6, np.inf], np.float16)) == "not finite where FP32 is"
    assert off(exact, np.array([1.0, 2.0, np.inf, np.inf], np.float16)) == ""
    assert off(exact, np.array([1.5, 1.0, 1e4, np.inf], np.float16)).endswith("dB")


def test_the_page_counts_by_mutation() -> None:
    ends = [
        End(0, "mlp", ("weight",), "verified"),
        End(1, "mlp", ("weight", "opset"), FAILURES[0], "what"),
        End(2, "old", ("opset",), "refused, though ONNX Runtime runs it", "of 3 'x'"),
    ]
    lines = page(ends).splitlines()
    assert "| opset | 0 | 0 | 0 | 1 | 1 | 0 | 0 | 0 |" in lines
    assert "| weight | 1 | 0 | 0 | 0 | 1 | 0 | 0 | 0 |" in lines
    assert "| **all** | 1 | 0 | 0 | 1 | 1 | 0 | 0 | 0 |" in lines
    assert "- 1 × of … …" in lines


@pytest.mark.parametrize("number", [120, 299, 1557, 1575, 1978])
def test_what_once_ended_otherwise_ends_as_it_may(number: int) -> None:
    """Two bytes of INT2, an axis past all, and three verdicts that the judge was wrong about."""
    assert trials.trial(number).kind in trials.SANE
