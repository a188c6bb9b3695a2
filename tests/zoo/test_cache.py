"""What is kept is whole, or absent; what a row is made of decides its key, and nothing else does."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from fp16fix.config import Entry
from fp16fix.errors import InputError
from fp16fix.zoo import storage
from fp16fix.zoo.cache import Cache
from fp16fix.zoo.content import content_of


@pytest.fixture(params=["file", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache" if request.param == "file" else Path(f"memory:/{tmp_path.name}"))


def test_a_note_is_what_was_written_or_absent(cache: Cache) -> None:
    assert cache.noted("rows", "k") is None
    cache.note("rows", "k", {"a": [1, "ü"]})
    assert cache.noted("rows", "k") == {"a": [1, "ü"]}
    path = cache.folder / "rows" / "k.json"
    whole = storage.read(path) or b""
    for damaged in (whole[:-3], b"", b"[]", b"\xff", whole.replace(b"1", b"2"), json.dumps({"value": {}}).encode()):
        storage.write(path, damaged)
        assert cache.noted("rows", "k") is None


def test_a_copy_is_whole_or_absent(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"product")
    digest = hashlib.sha256(b"product").hexdigest()
    assert not cache.holds(digest)
    cache.keep(tmp_path / "x", digest)
    assert cache.holds(digest)
    storage.write(cache.object(digest), b"prod")
    assert not cache.holds(digest)
    assert not storage.exists(cache.object(digest))
    storage.write(cache.object(digest), b"prod")
    cache.keep(tmp_path / "x", digest)
    assert cache.holds(digest)


def entry_in(folder: Path, **changes: object) -> Entry:
    (folder / "samples").mkdir(exist_ok=True)
    for name in ("m.onnx", "w.bin", "f.py", "check.sh", "samples/0.npz", "samples/.hidden"):
        (folder / name).write_text(name) if not (folder / name).exists() else None
    raw = {"model": "m.onnx", "inputs": "samples", "output": "out/m.plan"} | changes
    return Entry.model_validate(raw, context={"folder": folder})


@pytest.mark.parametrize(
    ("changes", "file", "differs"),
    [
        ({}, None, ()),
        ({"threads": 3, "limits": {"time_s": 5}, "json": True}, None, ()),
        ({}, "samples/.hidden", ()),
        ({"seed": 3}, None, ("config",)),
        ({"tolerance": {"outputs": {"y": {"max_abs": 1}}}}, None, ("config",)),
        ({"output": "other/m.plan"}, None, ()),
        ({"output": "out/n.plan"}, None, ("config",)),
        ({}, "m.onnx", ("model",)),
        ({}, "w.bin", ("model",)),
        ({}, "samples/0.npz", ("samples",)),
        ({"inputs": "f.py:a"}, None, ("samples", "config")),
        ({"inputs": None}, None, ("samples", "config")),
    ],
)
def test_what_decides_is_in_the_key_and_nothing_else(
    tmp_path: Path, changes: dict[str, object], file: str | None, differs: tuple[str, ...]
) -> None:
    before = content_of(entry_in(tmp_path), ["w.bin"])
    if file is not None:
        (tmp_path / file).write_text("changed")
    after = content_of(entry_in(tmp_path, **changes), ["w.bin"])
    assert after.differs(before) == differs
    assert (after.key == before.key) == (not differs)


@pytest.mark.parametrize(
    "changes",
    [{"inputs": "f.py:a"}, {"module": "f.py:m"}, {"build": {"plugins": ["f.py"]}}, {"search": {"check": "bash {folder}/f.py {model}"}}],
)
def test_files_that_a_config_names_are_in_the_key(tmp_path: Path, changes: dict[str, object]) -> None:
    changes = json.loads(json.dumps(changes).replace("{folder}", str(tmp_path)))
    before = content_of(entry_in(tmp_path, **changes), [])
    (tmp_path / "f.py").write_text("changed")
    assert content_of(entry_in(tmp_path, **changes), []).key != before.key


def test_a_checkout_elsewhere_has_the_same_key(tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        keys.add(content_of(entry_in(tmp_path / name, module="f.py:m", build={"plugins": ["w.bin"]}), ["w.bin"]).key)
    assert len(keys) == 1


def test_samples_that_models_share_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = storage.digest

    def digest(path: Path) -> str:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(storage, "digest", digest)
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_text(name)
        content_of(entry_in(tmp_path, model=name), [])
    assert read.count("0.npz") == 1


def test_storage_says_what_could_not_be_done(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        storage.write(tmp_path / "file" / "x", b"")
    with pytest.raises(InputError, match="does not exist"):
        storage.fetch(tmp_path / "x", tmp_path / "y")
    with pytest.raises(InputError, match="nosuch://bucket/x"):
        storage.read(Path("nosuch:/bucket/x"))
    assert storage.read(tmp_path / "x") is None
    assert storage.digest(tmp_path / "x") == ""
    assert storage.files_in(tmp_path / "x") == ()
    os.mkfifo(tmp_path / "pipe")
    assert not storage.is_file(tmp_path / "pipe")
