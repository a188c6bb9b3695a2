"""Files here or elsewhere, by one set of functions over fsspec: a ``Path`` that came from a URL (``config.urls``) keeps its protocol."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from fp16fix.config.urls import is_url, url_of
from fp16fix.errors import InputError, first_line

CHUNK = 1 << 20
"""Bytes read at a time."""


@contextmanager
def reached(path: Path, doing: str) -> Iterator[tuple[Any, str]]:
    """The file system of a path and its name there.

    Raises:
        InputError: whatever the file system raises, said as what could not be done to what.
    """
    try:
        yield url_to_fs(url_of(path))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("does not exist", where=url_of(path)) from error
    except Exception as error:  # every file system has its own
        hint = "is it reachable, and its package installed (s3fs for s3://)?" if is_url(path) else "is the disk full, or the path a folder?"
        raise InputError(f"cannot {doing} ({type(error).__name__}: {first_line(error)})", where=url_of(path), hint=hint) from error


def exists(path: Path) -> bool:
    """Whether something is there."""
    with reached(path, "be looked for") as (system, name):
        return bool(system.exists(name))


def is_file(path: Path) -> bool:
    """Whether a file is there."""
    with reached(path, "be looked for") as (system, name):
        return bool(system.isfile(name))


def size(path: Path) -> int:
    """Bytes; 0 of what is not there."""
    with reached(path, "be looked at") as (system, name):
        return int(system.size(name) or 0) if system.isfile(name) else 0


def files_in(folder: Path) -> tuple[Path, ...]:
    """The visible files of a folder, by name; the file itself if it is one; nothing of what is not there."""
    with reached(folder, "be listed") as (system, name):
        if system.isfile(name):
            return (folder,)
        listed = system.ls(name, detail=True) if system.isdir(name) else []
        names = (each["name"].rstrip("/").rsplit("/", 1)[-1] for each in listed if each["type"] == "file")
        return tuple(folder / each for each in sorted(names) if each and not each.startswith("."))


def read(path: Path, first: int | None = None) -> bytes | None:
    """What a file holds, or its ``first`` bytes; None of what is not there."""
    with reached(path, "be read") as (system, name):
        try:
            return bytes(system.cat_file(name, end=first))
        except FileNotFoundError:
            return None


def digest(path: Path, first: int | None = None) -> str:
    """SHA-256 of a file, or of its ``first`` bytes; empty of what is not there."""
    total, left = hashlib.sha256(), first
    with reached(path, "be read") as (system, name):
        if not system.isfile(name):
            return ""
        with system.open(name, "rb") as stream:
            while chunk := stream.read(CHUNK if left is None else min(CHUNK, left)):
                total.update(chunk)
                left = None if left is None else left - len(chunk)
    return total.hexdigest()


def key(text: str) -> str:
    """A name of a file for any text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def write(path: Path, data: bytes) -> None:
    """Write a file, whole where the file system can rename."""
    with replacing(path) as (system, name):
        system.pipe_file(name, data)


def send(source: Path, path: Path) -> None:
    """Copy a file of this machine to ``path``."""
    with replacing(path) as (system, name):
        system.put_file(str(source), name)


def fetch(path: Path, target: Path) -> None:
    """Copy a file to this machine."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with reached(path, "be copied here") as (system, name):
        system.get_file(name, str(target))


def remove(path: Path) -> None:
    """Take a file away if it is there."""
    with reached(path, "be removed") as (system, name), suppress(FileNotFoundError):
        system.rm_file(name)


@contextmanager
def replacing(path: Path) -> Iterator[tuple[Any, str]]:
    """A name to write to, which takes the place of ``path`` when the block ends well; elsewhere writing is whole by itself."""
    with reached(path, "be written") as (system, name):
        if not isinstance(system, LocalFileSystem):
            yield system, name
            return
        system.makedirs(os.path.dirname(name), exist_ok=True)  # noqa: PTH120 - a name of the file system, no path
        temporary = f"{name}.{secrets.token_hex(4)}.tmp"
        try:
            yield system, temporary
            Path(temporary).replace(name)
        finally:
            Path(temporary).unlink(missing_ok=True)
