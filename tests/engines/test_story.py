from __future__ import annotations

import pickle

import pytest

from fp16fix.engines.story import BuildStoppedError, Story, judge
from fp16fix.errors import BackendMissingError, ConfigError


def ending(story: Story, code: int, noise: str = "") -> BuildStoppedError:
    with pytest.raises(BuildStoppedError) as caught:
        judge("m.onnx", story, code, noise)
    return caught.value


def test_a_result_is_a_result() -> None:
    assert judge("m.onnx", Story(result={"version": "1"}), 0, "") == {"version": "1"}


def test_a_death_after_the_result_is_still_a_death() -> None:
    assert ending(Story(stage="write", result={}), -11).reason == "crash"


@pytest.mark.parametrize(("code", "name"), [(-11, "SIGSEGV"), (139, "SIGSEGV"), (-6, "SIGABRT"), (134, "SIGABRT"), (-9, "SIGKILL")])
def test_signals_are_named(code: int, name: str) -> None:
    error = ending(Story(stage="build"), code)
    assert name in error.what
    assert "stage 'build'" in error.what
    assert (error.reason, error.stage) == ("crash", "build")


def test_a_kill_speaks_of_memory() -> None:
    error = ending(Story(stage="build"), -9)
    assert "want of memory" in error.what
    assert "workspace_mib" in error.hint


def test_the_last_messages_are_told_and_no_more() -> None:
    error = ending(Story(stage="build", messages=[f"message {index}" for index in range(20)]), -11)
    assert "message 19" in error.what
    assert "message 13" not in error.what


def test_without_messages_the_error_stream_speaks() -> None:
    error = ending(Story(stage="load"), 70, "Traceback\nValueError: a bug of ours\n")
    assert "exit code 70" in error.what
    assert "a bug of ours" in error.what


def test_suspects_are_named() -> None:
    error = ending(Story(stage="build", suspects=("attn",)), -11)
    assert error.nodes == ("attn",)
    assert "attn" in error.hint


@pytest.mark.parametrize("kind", [ConfigError, BackendMissingError])
def test_the_childs_own_errors_keep_their_kind(kind: type[Exception]) -> None:
    failure = {"kind": kind.__name__, "what": "no", "hint": "do", "nodes": []}
    with pytest.raises(kind, match=r"m\.onnx: no"):
        judge("m.onnx", Story(failure=failure), 1, "")


def test_a_refusal_carries_its_nodes_through_pickling() -> None:
    error = ending(Story(stage="parse", failure={"kind": "BuildError", "what": "no", "hint": "do", "nodes": ["a"]}), 1)
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, BuildStoppedError)
    assert (copy.reason, copy.stage, copy.nodes, str(copy)) == ("refused", "parse", ("a",), "m.onnx: no\n  → do")
