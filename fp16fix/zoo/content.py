"""What a result is made of, as digests: the model's files, the samples, the config, the versions. Two that are equal have one key."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import fp16fix
from fp16fix.config import Entry
from fp16fix.config.urls import is_url
from fp16fix.process.versions import versions
from fp16fix.report.batch import Content, digest_of
from fp16fix.zoo import storage

ELSEWHERE = {"model", "inputs", "output", "limits", "json_", "threads"}
"""Keys of a config that do not decide its result, or stand in ``Content`` by themselves."""


def content_of(entry: Entry, external: Sequence[str]) -> Content:
    """Digest everything that a row is made of.

    Args:
        entry: complete.
        external: names of the model's weight files below its folder.

    Raises:
        InputError: something cannot be read.
    """
    assert entry.model is not None
    assert entry.output is not None
    home = entry.model.parent
    return Content(
        model={name: digest(home / name) for name in (entry.model.name, *sorted(external))},
        samples={path.name: digest(path) for path in sample_files(entry)},
        config=config_digest(entry),
        name=entry.output.name,
        versions={"fp16fix": fp16fix.__version__, **versions()},
    )


def digest(path: Path) -> str:
    """SHA-256; a file that many models share is read once, as long as its size and times stay."""
    if is_url(path) or not path.is_file():
        return storage.digest(path)
    found = path.stat()
    return digested(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@lru_cache(maxsize=4096)
def digested(path: Path, *_stamp: int) -> str:
    """The same of a file of this machine."""
    return storage.digest(path)


def sample_files(entry: Entry) -> tuple[Path, ...]:
    """Files that samples are read from; of ``file.py:function`` that file, for what it reads in turn nobody knows."""
    if entry.inputs is None:
        return ()
    return storage.files_in(Path(code_file(entry.inputs) or entry.inputs))


def code_file(spec: str) -> str:
    """The file of ``file.py:function``; empty for anything else."""
    file, colon, _ = spec.rpartition(":")
    return file if colon and file.endswith(".py") else ""


def weights_of(model: Path | None) -> list[str]:
    """Names of the files in which a model's weights lie, below its folder; none of what is no model, as loading it will say."""
    import onnx

    from fp16fix.graph.external import is_external, tensors_of

    assert model is not None
    try:
        proto = onnx.load(model, load_external_data=False)
    except Exception:  # noqa: BLE001 - whatever is wrong with it is said, in better words, by whoever loads it
        return []
    said = ({entry.key: entry.value for entry in tensor.external_data} for tensor in tensors_of(proto) if is_external(tensor))
    inside = (each.get("location", "") for each in said)
    return sorted({name for name in inside if name and not Path(name).is_absolute() and ".." not in Path(name).parts})


def config_digest(entry: Entry) -> str:
    """Of the keys that decide, and of the files that they name; where those lie does not matter."""
    raw = entry.model_dump(by_alias=True, exclude=ELSEWHERE)
    raw["search"].pop("journal")
    raw["inputs"] = entry.inputs if entry.inputs is None or code_file(entry.inputs) else "files"
    named = [digest(path) for path in sorted(set(files_named(raw)))]
    return digest_of([placeless(raw), named])


def placeless(value: Any) -> Any:
    """The same without folders."""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, dict):
        return {str(key): placeless(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [placeless(each) for each in value]
    return Path(value).name if isinstance(value, str) and code_file(value) else value


def files_named(value: Any) -> Iterator[Path]:
    """Files that a config names: paths, files of Python functions, and what stands in a command."""
    if isinstance(value, Path):
        yield from storage.files_in(value)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from files_in_command(each) if key == "check" and each else files_named(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from files_named(each)
    elif isinstance(value, str) and code_file(value):
        yield Path(code_file(value))


def files_in_command(text: str) -> Iterator[Path]:
    """Words of a command that are files."""
    for word in shlex.split(text):
        if "{" not in word and Path(word).is_file():
            yield Path(word)
