"""``summary.json``: typed, documented, read back as it was written; what fails a batch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fp16fix.errors import ReplayError
from fp16fix.report.batch import DOCUMENT
from fp16fix.report.compare import changes, judged
from tests.report.batches import LOST, batch, died, measured, row


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    made = batch(row(), row("vae", after=(measured(sqnr_db=float("inf")),)), died("x"))
    DOCUMENT.save(made, tmp_path / "summary.json")
    assert DOCUMENT.load(tmp_path / "summary.json") == made
    with pytest.raises(ReplayError):
        DOCUMENT.from_json(DOCUMENT.to_json(made).replace('"seconds": 34.2', '"seconds": "34.2"'))


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "notes" / "summary.md").read_text(encoding="utf-8")

    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {key for each in value.values() for key in keys(each)}
        return {key for each in value for key in keys(each)} if isinstance(value, list) else set()

    raw = json.loads(DOCUMENT.to_json(batch(row(), died("x"))))
    for each in (raw, *(each["content"] for each in raw["rows"] if each["content"])):
        for free in ("versions", "files", "model", "samples"):
            each[free] = 0
    for each in raw["rows"]:
        each["products"] = list(each["products"].values())
    assert {key for key in keys(raw) if f"`{key}`" not in page} == set()


@pytest.mark.parametrize(
    ("fail_on", "fails"),
    [
        ("never", ""),
        ("error", "dead"),
        ("unverified", "dead wrong"),
        ("conditions", "dead wrong conditional"),
        ("made-up", "dead wrong made"),
        ("conditions made-up", "dead wrong conditional made"),
        ("error conditions", "dead wrong conditional"),
        ("never conditions", ""),
    ],
)
def test_what_fails_a_batch(fail_on: str, fails: str) -> None:
    rows = [
        row("good"),
        died("dead", "timed out"),
        row("wrong", status="not verified"),
        row("conditional", conditions=("fp32-accumulation",)),
        row("made", made_up=True),
    ]
    assert [each.name for each in rows if each.fails(fail_on.split())] == fails.split()


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (measured("boxes", max_abs=0.02, unit="px"), measured("boxes", max_abs=3.1, unit="px"), "✗ boxes: 0.02 → 3.1 px"),
        (measured("boxes", max_abs=3.1, unit="px"), measured("boxes", max_abs=0.02, unit="px"), "· boxes: 3.1 → 0.02 px"),
        (measured("boxes", max_abs=0.02, unit="px"), measured("boxes", max_abs=0.021, unit="px"), ""),
        (measured("boxes", max_abs=0.02), measured("boxes", max_abs=3.1), ""),
        (measured(sqnr_db=60.0), measured(sqnr_db=59.5), ""),
        (measured(sqnr_db=60.0), measured(sqnr_db=52.0), "✗ y: 60.0 dB → 52.0 dB"),
        (measured(sqnr_db=52.0), measured(sqnr_db=float("inf")), "· y: 52.0 dB → exact"),
        (measured("boxes", unit="px"), replace(LOST, unit="px"), "✗ boxes: 0.02 px → 12 lost"),
        (measured(), measured("z"), "· z: not there → 60.0 dB; ✗ y: 60.0 dB → not there"),
    ],
)
def test_a_figure_that_moved_is_told_in_its_own_unit(then: Any, now: Any, said: str) -> None:
    found = changes(judged(row(after=(then,))), judged(row(after=(now,))))
    assert "; ".join(f"{'✗' if each.worse else '·'} {each.said()}" for each in found) == said


def test_verdict_conditions_and_inputs_are_compared() -> None:
    worse = row(status="not verified", conditions=("fp32-accumulation",), made_up=True)
    found = changes(judged(row()), judged(worse))
    assert [each.said() for each in found] == [
        "verdict: verified → not verified",
        "conditions: none → fp32-accumulation",
        "inputs: given → made up",
    ]
    assert all(each.worse for each in found)
    assert not any(each.worse for each in changes(judged(worse), judged(row())))
