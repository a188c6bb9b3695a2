"""Whatever ends a conversation with the child, nothing but a whole plan is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fp16fix.engines import supervise as supervising
from fp16fix.engines.options import BuildOptions
from fp16fix.engines.story import Story, stopped
from fp16fix.engines.supervise import Request, limit, listen, supervise
from fp16fix.errors import BuildError


def request_for(folder: Path, **options: Any) -> Request:
    return Request("build", "rtx", BuildOptions(backend="rtx", **options), folder / "x.onnx", folder / "x.plan")


def child_that(write: Callable[[Path], object], ends: BaseException | None) -> Callable[..., dict[str, Any]]:
    """A conversation in which the child writes and then ends."""

    def converse(_request: Request, target: Path, _progress: object) -> dict[str, Any]:
        write(target)
        if ends is not None:
            raise ends
        return {"version": "1"}

    return converse


@pytest.mark.parametrize("ends", [stopped("died", "x.onnx", "", "crash", "write", ()), KeyboardInterrupt()])
def test_half_a_plan_goes_with_its_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: BaseException) -> None:
    (tmp_path / "x.plan").write_bytes(b"an older plan")
    monkeypatch.setattr(supervising, "converse", child_that(lambda target: target.write_bytes(b"half"), ends))
    with pytest.raises(type(ends)):
        supervise(request_for(tmp_path), None)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x.plan": b"an older plan"}


def test_a_whole_plan_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "converse", child_that(lambda target: target.write_bytes(b"whole"), None))
    assert supervise(request_for(tmp_path), None) == {"version": "1"}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x.plan": b"whole"}


def test_the_childs_words_make_its_story() -> None:
    story, told = Story(), []
    for event in (
        {"stage": "parse", "done": 0.5},
        {"message": "careful"},
        {"suspects": ["attn"]},
        {"failure": {"kind": "BuildError", "what": "no", "hint": "", "nodes": ["n"]}},
    ):
        listen(event, story, lambda stage, done: told.append((stage, done)))
    assert (story.stage, story.messages, story.suspects, told) == ("parse", ["careful"], ("attn",), [("parse", 0.5)])
    assert story.failure is not None
    assert story.failure["nodes"] == ["n"]


def test_time_and_memory_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "resident_mib", lambda _: 100)
    within, over = request_for(tmp_path, timeout_s=10.0, memory_mib=101), request_for(tmp_path, timeout_s=10.0, memory_mib=99)
    limit(within, 0, Story(), 9.0)
    limit(within, 0, Story(result={}), 11.0)
    for asked, spent in ((within, 11.0), (over, 9.0)):
        with pytest.raises(BuildError, match="allow more"):
            limit(asked, 0, Story(), spent)
