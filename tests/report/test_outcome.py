from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fp16fix.errors import ReplayError
from fp16fix.report.outcome import VERSION, Outcome, from_json, load, save, to_json
from tests.report.outcomes import outcome


def edited(**changes: Any) -> str:
    return json.dumps(json.loads(to_json(outcome())) | changes)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    save(outcome(), tmp_path / "x.outcome.json")
    assert load(tmp_path / "x.outcome.json") == outcome()


def test_the_json_is_stable_and_standard() -> None:
    text = to_json(outcome())
    assert text == to_json(from_json(text))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    raw = json.loads(text, parse_constant=refuse)
    assert raw["verdict"]["outputs"][1]["sqnr_db"] == "inf"
    assert raw["along"][-1]["before_db"] == "-inf"
    assert list(raw)[:3] == ["tool", "command", "model"]


def test_numbers_without_a_json_word_come_back() -> None:
    figures = replace(outcome().before[0], sqnr_db=math.nan, max_rel=math.inf)
    (again, _) = from_json(to_json(outcome(before=(figures, outcome().before[1])))).before
    assert math.isnan(again.sqnr_db)
    assert again.max_rel == math.inf


def test_names_that_only_unicode_could_love_come_back() -> None:
    name = '<script>"\u2028\u202e\x00\\é'
    made = outcome()
    made = replace(made, ranges=(replace(made.ranges[0], tensor=name),))
    assert from_json(to_json(made)).ranges[0].tensor == name


def test_a_path_that_is_not_unicode_comes_back(tmp_path: Path) -> None:
    made = outcome()
    made = replace(made, model=replace(made.model, path="caf\udce9.onnx"))
    save(made, tmp_path / "x.outcome.json")
    assert load(tmp_path / "x.outcome.json") == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "no version"),
        ("{}", "no version"),
        (edited(version=VERSION + 1), f"outcome version {VERSION + 1}"),
        (edited(version=True), "outcome version True"),
        (edited(verdikt=1), "verdikt"),
        (edited(headroom="2.0"), "headroom"),
        (edited(headroom=None), "headroom"),
        (edited(samples=json.loads(to_json(outcome()))["samples"] | {"cuont": 1}), "samples.cuont"),
        (edited(samples={"source": "x"}), "samples.digest"),
        (edited(model=json.loads(to_json(outcome()))["model"] | {"nodes": "412"}), "model.nodes"),
        (json.dumps({k: v for k, v in json.loads(to_json(outcome())).items() if k != "files"}), "files"),
    ],
)
def test_anything_else_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(ReplayError, match=said):
        from_json(text)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.outcome.json"
    with pytest.raises(ReplayError) as missing:
        load(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ReplayError) as binary:
        load(path)
    assert missing.value.where == binary.value.where == str(path)


def test_a_pin_that_did_not_hold_is_not_verified() -> None:
    made = outcome()
    assert made.verified
    assert not replace(made, engine=replace(made.engine, problems=("node 'a' is pinned to fp32 and has layers in fp16",))).verified
    assert not replace(made, verdict=replace(made.verdict, verified=False)).verified


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "notes" / "outcome.md").read_text(encoding="utf-8")

    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {key for each in value.values() for key in keys(each)}
        return {key for each in value for key in keys(each)} if isinstance(value, list) else set()

    raw = json.loads(to_json(outcome()))
    for free in ("versions", "stages", "files"):
        raw[free] = 0
    assert {key for key in keys(raw) if f"`{key}`" not in page} == set()


def test_reading_needs_pydantic_and_the_module_does_not() -> None:
    code = "import sys, fp16fix.report.outcome; assert 'pydantic' not in sys.modules and 'jinja2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_outcome_is_frozen() -> None:
    made: Outcome = outcome()
    with pytest.raises(AttributeError):
        made.tool = "x"  # type: ignore[misc]
