"""The bench over ONNX's backend suite tells ends apart: processed, refused, not asked of anybody, and a child that dies."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.models import normal, proto
from tools.bench import onnx_suite
from tools.bench.onnx_suite import Ending, Subject, ended, page

CHAIN = "g (float[4] x) => (float[4] y) { a = Neg (x) y = Exp (a) }"


def subject(text: str, *inputs: np.ndarray) -> Subject:
    return Subject("one", proto(text), inputs)


@pytest.mark.parametrize(
    ("text", "value", "end"),
    [
        (CHAIN, normal(4), "verified"),
        (CHAIN, np.full(4, np.inf, np.float32), "verified"),
        (CHAIN, np.array([0, 1, 2, np.nan], np.float32), "NaN among its inputs"),
        ("g (float[4] x) => (float[4] y) { y = Exp (x) }", np.full(4, np.inf, np.float32), "no finite float"),
        (CHAIN, normal(5), "ONNX Runtime does not run it"),
        ("g (float[4] x) => (int64[1] y) { y = Shape (x) }", normal(4), "no float output"),
    ],
)
def test_ends(text: str, value: np.ndarray, end: str, tmp_path: Path) -> None:
    assert ended(subject(text, value), tmp_path).end == end


def test_a_child_that_dies_is_a_crash_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_suite, "ended", lambda *_: os.abort())
    assert onnx_suite.apart(subject(CHAIN, normal(4))) == Ending("one", "crash", "SIGABRT")


def test_the_note_counts_what_is_asked() -> None:
    text = page([Ending("a", "verified"), Ending("b", "refused", "x | y"), Ending("c", "no float output")])
    assert "1 of 2 are processed (50.0%)" in text
    assert "| b | refused | x / y |" in text
    assert "| c |" not in text


def test_the_suite_is_there() -> None:
    first = next(onnx_suite.subjects())
    assert isinstance(first.model, onnx.ModelProto)
    assert first.inputs
