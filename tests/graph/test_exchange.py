"""Several files as one: all of them are in place, or everything is as it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from fp16fix.errors import InputError
from fp16fix.graph.exchange import Move, exchange, scratch_beside, staged

OLD = {"a": b"old a", "b": b"old b", "b.json": b"old json"}
NEW = {"a": b"new a", "b": b"new b", "c": b"new c", "b.json": b"new json"}


def there(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() if each.is_file() else b"folder" for each in folder.iterdir() if not each.name.startswith(".")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    for name, data in OLD.items():
        (tmp_path / "out" / name).write_bytes(data)
    return tmp_path / "out"


def moves(folder: Path, scratch: Path) -> list[Move]:
    for name, data in NEW.items():
        (scratch / name).write_bytes(data)
    return [Move(scratch / name, folder / name) for name in NEW]


def test_all_files_take_their_places_and_former_ones_go_aside(folder: Path) -> None:
    (folder / "d").write_bytes(b"former")
    with scratch_beside(folder / "a") as scratch:
        exchange(moves(folder, scratch), [Move(folder / "d", folder / "d.former")])
    assert there(folder) == {**NEW, "d.former": b"former"}
    assert len(list(folder.iterdir())) == len(NEW) + 1, "no scratch is left"


@pytest.mark.parametrize("linking", [True, False])
@pytest.mark.parametrize("fails_at", range(6))
def test_a_move_that_fails_undoes_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int, linking: bool) -> None:
    (folder / "d").write_bytes(b"former")
    real, made = Path.replace, []

    def failing(source: Path, target: Path) -> Path:
        made.append(source)
        if len(made) == fails_at + 1:
            raise OSError(28, "No space left on device")
        return real(source, target)

    def no_links(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    if not linking:
        monkeypatch.setattr(os, "link", no_links)
    with scratch_beside(folder / "a") as scratch:
        wanted = moves(folder, scratch)
        monkeypatch.setattr(Path, "replace", failing)
        with pytest.raises(InputError, match="No space left"):
            exchange(wanted, [Move(folder / "d", folder / "d.former")])
    assert there(folder) == {**OLD, "d": b"former"}
    assert not [each for each in folder.iterdir() if each.name.startswith(".")]


def test_a_folder_in_the_way_leaves_the_old_set(folder: Path) -> None:
    (folder / "c").mkdir()
    with scratch_beside(folder / "a") as scratch, pytest.raises(InputError, match="is a folder") as caught:
        exchange(moves(folder, scratch))
    assert caught.value.where == str(folder / "c")
    assert there(folder) == {**OLD, "c": b"folder"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, stop)
    real = Path.replace

    def disturbed(source: Path, target: Path) -> Path:
        signal.raise_signal(number)
        return real(source, target)

    try:
        with scratch_beside(folder / "a") as scratch:
            wanted = moves(folder, scratch)
            monkeypatch.setattr(Path, "replace", disturbed)
            with pytest.raises(KeyboardInterrupt):
                exchange(wanted)
            monkeypatch.undo()
    finally:
        signal.signal(number, before)
    assert there(folder) == NEW


def test_what_speaks_of_the_others_is_away_while_they_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may be killed between two moves: then no document is there, rather than one of another product."""
    seen: list[Sequence[str]] = []
    real = Path.replace

    def watched(source: Path, target: Path) -> Path:
        seen.append([name for name in ("b.json",) if (folder / name).exists()])
        return real(source, target)

    with scratch_beside(folder / "a") as scratch:
        wanted = moves(folder, scratch)
        monkeypatch.setattr(Path, "replace", watched)
        exchange(wanted)
    assert seen[0] == ["b.json"]
    assert not any(seen[1:])


def test_folders_made_for_nothing_go_again(tmp_path: Path) -> None:
    with scratch_beside(tmp_path / "new" / "deep" / "x.onnx") as scratch:
        assert scratch.parent == tmp_path / "new" / "deep"
    assert not list(tmp_path.iterdir())
    with scratch_beside(tmp_path / "new" / "deep" / "x.onnx"):
        (tmp_path / "new" / "deep" / "x.onnx").write_bytes(b"")
    assert there(tmp_path / "new" / "deep") == {"x.onnx": b""}


def test_a_staged_file_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with scratch_beside(tmp_path / "y") as scratch:
        assert staged(tmp_path / "x", scratch) == scratch / "x"
        assert staged(scratch / "x", scratch) == scratch / "x"
        assert (scratch / "x").read_bytes() == b"x"
    assert not list(tmp_path.iterdir())
