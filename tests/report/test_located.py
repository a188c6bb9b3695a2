from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fp16fix.errors import ReplayError
from fp16fix.report import outcome as outcomes
from fp16fix.report.document import tag_of
from fp16fix.report.located import VERSION, Located, from_json, load, save, to_json
from tests.report.locations import culprit, healthy, located
from tests.report.outcomes import outcome


def raw() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(to_json(located()))
    return content


def edited(**changes: Any) -> str:
    return json.dumps(raw() | changes)


def without(key: str) -> str:
    return json.dumps({name: value for name, value in raw().items() if name != key})


@pytest.mark.parametrize("made", [located(), located(minimal=None), located(culprits=(), along=())])
def test_what_is_saved_is_what_is_loaded(made: Located, tmp_path: Path) -> None:
    save(made, tmp_path / "x.locate.json")
    assert load(tmp_path / "x.locate.json") == made


def test_the_json_is_stable_and_standard() -> None:
    text = to_json(located())
    assert text == to_json(from_json(text))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads(text, parse_constant=refuse)
    assert content["culprits"][0]["sqnr_out_db"] == "-inf"
    assert content["triage"]["fault"] == "range"
    assert list(content)[:3] == ["triage", "culprits", "minor"]
    assert (content["document"], content["version"]) == ("location", VERSION)


def test_numbers_without_a_json_word_come_back() -> None:
    again = from_json(to_json(healthy())).along
    assert math.isnan(again[0].sqnr_db)
    assert again[1].sqnr_db == math.inf


def test_names_that_only_unicode_could_love_come_back(tmp_path: Path) -> None:
    made = located(culprits=(culprit('<script>"\u2028\u202e\x00\\é'),))
    made = replace(made, model=replace(made.model, path="caf\udce9.onnx"))
    save(made, tmp_path / "x.locate.json")
    assert load(tmp_path / "x.locate.json") == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "no version"),
        ("{}", "no version"),
        (edited(version=VERSION + 1), f"location version {VERSION + 1}"),
        (edited(document="outcome"), "document is 'outcome'"),
        (without("document"), "document is 'missing'"),
        (edited(culprit=[]), "culprit is unknown"),
        (edited(explained="0.97"), "explained"),
        (edited(triage=raw()["triage"] | {"fault": "bad luck"}), "triage.fault"),
        (edited(minimal=raw()["minimal"] | {"calls": "17"}), "minimal.calls"),
        (edited(culprits=[raw()["culprits"][0] | {"born": True}]), r"culprits\[0\].born"),
        (edited(samples={"source": "x"}), "samples.digest"),
        (without("files"), "files"),
    ],
)
def test_anything_else_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(ReplayError, match=said):
        from_json(text)


def test_outcome_and_location_are_not_taken_for_one_another(tmp_path: Path) -> None:
    save(located(), tmp_path / "x.locate.json")
    outcomes.save(outcome(), tmp_path / "x.outcome.json")
    assert (tag_of(tmp_path / "x.locate.json"), tag_of(tmp_path / "x.outcome.json")) == ("location", None)
    with pytest.raises(ReplayError, match="no location: its key document"):
        load(tmp_path / "x.outcome.json")
    with pytest.raises(ReplayError, match="no outcome: its key document is 'location'"):
        outcomes.load(tmp_path / "x.locate.json")


@pytest.mark.parametrize("content", [b"\xff", b"{", b"[1]", b'{"document": 3}'])
def test_a_file_that_says_nothing_has_no_tag(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    assert tag_of(tmp_path / "x.json") is None
    assert tag_of(tmp_path / "none.json") is None


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "notes" / "location.md").read_text(encoding="utf-8")

    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {key for each in value.values() for key in keys(each)}
        return {key for each in value for key in keys(each)} if isinstance(value, list) else set()

    content = raw()
    for free in ("versions", "stages", "files"):
        content[free] = 0
    assert {key for key in keys(content) if f"`{key}`" not in page} == set()
