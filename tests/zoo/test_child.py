"""The worker itself: its journal is the content's, what changes under it is nobody's result, and it only says what it means to."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from fp16fix.config import Entry
from fp16fix.errors import InputError, ReplayError
from fp16fix.search.journal import Journal
from fp16fix.zoo import child
from fp16fix.zoo.cache import Cache
from tests.models import proto

SUBJECT = {"model": "m"}


def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repair: Any, **entry: Any) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the events of a worker that repairs in another way."""
    (tmp_path / "m.onnx").write_bytes(proto("g (float[4] x) => (float[4] y) { y = Tanh (x) }").SerializeToString())
    work = {
        "name": "m",
        "entry": {"model": str(tmp_path / "m.onnx"), "output": str(tmp_path / "out.onnx"), **entry},
        "cache": str(tmp_path / "cache"),
        "command": [],
        "places": {},
    }
    monkeypatch.setattr(child, "repair", repair)
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(work).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    kept, (out, into) = os.dup(1), os.pipe()
    os.dup2(into, 1)
    try:
        code = child.main()
    finally:
        os.dup2(kept, 1)
        for each in (kept, into):
            os.close(each)
    with os.fdopen(out) as stream:
        return code, [json.loads(line) for line in stream]


def refuse(*_: Any) -> None:
    raise InputError("enough")


def test_its_journal_is_that_of_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals: list[Path | None] = []

    def repair(entry: Entry, *_: Any) -> None:
        journals.append(entry.search.journal)
        refuse()

    _, events = told(tmp_path, monkeypatch, repair)
    told(tmp_path, monkeypatch, repair)
    told(tmp_path, monkeypatch, repair, seed=3)
    told(tmp_path, monkeypatch, repair, search={"journal": str(tmp_path / "mine")})
    assert journals[0] == journals[1] != journals[2]
    assert journals[0] is not None
    assert journals[0].parent == Cache(tmp_path / "cache").journal("x").parent
    assert journals[3] == tmp_path / "mine"
    assert list(events[0]["content"]["model"]) == ["m.onnx"]


@pytest.mark.parametrize("damage", [b"\x00" * 100 + b"\n", b"{}\n", b'{"journal": 2, "subject": {"model": "other"}}\n'])
def test_a_journal_that_is_no_good_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes) -> None:
    found: list[tuple[Any, ...]] = []

    def repair(entry: Entry, *_: Any) -> None:
        assert entry.search.journal is not None
        if not found:
            found.append(())
            entry.search.journal.write_bytes(damage)
        with Journal(entry.search.journal, SUBJECT) as journal:
            found.append(journal.records)
            refuse()

    code, events = told(tmp_path, monkeypatch, repair)
    assert found == [(), ()]
    assert (code, events[-1]) == (2, {"error": "enough"})


def test_a_journal_that_is_being_written_is_left_to_its_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals: list[Path | None] = []

    def repair(entry: Entry, *_: Any) -> None:
        journals.append(entry.search.journal)
        if entry.search.journal is None:
            refuse()
        with Journal(entry.search.journal or "", SUBJECT), Journal(entry.search.journal or "", SUBJECT):
            pass

    assert told(tmp_path, monkeypatch, repair)[1][-1] == {"error": "enough"}
    assert [each is None for each in journals] == [False, True]


def test_a_users_own_journal_is_not_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_text("years of work")

    def repair(*_: Any) -> None:
        raise ReplayError("this is not a journal", where=str(tmp_path / "mine"))

    _, events = told(tmp_path, monkeypatch, repair, search={"journal": str(tmp_path / "mine")})
    assert "this is not a journal" in events[-1]["error"]
    assert (tmp_path / "mine").read_text() == "years of work"


def test_a_model_that_changes_meanwhile_has_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def repair(entry: Entry, *_: Any) -> None:
        assert entry.model is not None
        entry.model.write_bytes(b"another export")

    code, events = told(tmp_path, monkeypatch, repair)
    assert code == 2
    assert "changed while it was worked on: model" in events[-1]["error"]


def test_what_is_printed_is_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def repair(*_: Any) -> None:
        os.write(1, b'{"row": {"status": "verified"}}\n')
        refuse()

    _, events = told(tmp_path, monkeypatch, repair)
    assert [list(each) for each in events] == [["content"], ["error"]]
    assert "verified" in capfd.readouterr().err
