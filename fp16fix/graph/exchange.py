"""Several files put in place as one: all of them, or those that were there before."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fp16fix.errors import InputError
from fp16fix.graph.save import sync, unwritable
from fp16fix.process.interrupts import placed, undisturbed


@dataclass(frozen=True, slots=True)
class Move:
    """A whole file and where it belongs; both on one file system, so that a rename does it."""

    source: Path
    target: Path


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """A hidden folder beside ``path``, so that what is made there is moved, not copied; gone after the block.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    made = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".fp16fix-", dir=path.parent)
    except OSError as error:
        raise InputError(f"cannot write here: {error.strerror or error}", where=str(path), hint="choose another output folder") from error
    try:
        with scratch as name:
            yield Path(name)
    finally:
        for folder in made:
            # What was made for nothing goes; the first folder that holds something ends it.
            with suppress(OSError):
                folder.rmdir()


def staged(source: Path, scratch: Path) -> Path:
    """A file in a scratch folder of its own name: moved there, or copied where that is another file system."""
    return source if source.parent == scratch else Path(shutil.move(source, scratch / source.name))


def exchange(moves: Sequence[Move], aside: Sequence[Move] = ()) -> None:
    """Move former files ``aside``, then make every move; the last target, which speaks of the others, is away while they change.

    Signals wait until it is done. A process that is killed in between leaves whole files, and none that speaks of another's.

    Raises:
        InputError: a move fails (a folder in the way, a disk that is full); everything is as it was then.
    """
    for each in moves:
        sync(each.source)
    undo: list[Move] = []
    backups: list[Path] = []
    with undisturbed():
        try:
            for each in (*aside, *moves):
                if each.target.is_dir():
                    raise IsADirectoryError(f"{each.target} is a folder")
            if moves and moves[-1].target.exists():
                put_away(moves[-1].target, undo, backups)
            for each in (*aside, *moves):
                keep(each.target, undo, backups)
                each.source.replace(each.target)
                undo.append(Move(each.target, each.source))
            placed(*(each.target for each in moves))
        except OSError as error:
            for back in reversed(undo):
                back.source.replace(back.target)
            raise unwritable(each.target, error) from error
        finally:
            for backup in backups:
                backup.unlink(missing_ok=True)
    for folder in {each.target.absolute().parent for each in moves}:
        sync(folder)


def put_away(target: Path, undo: list[Move], backups: list[Path]) -> None:
    """Rename what stands at ``target``, for ``undo`` to bring back."""
    name = beside(target)
    target.replace(name)
    backups.append(name)
    undo.append(Move(name, target))


def keep(target: Path, undo: list[Move], backups: list[Path]) -> None:
    """A second name for what stands at ``target``, which stays there; where the file system has none, it is put away."""
    if not target.exists():
        return
    name = beside(target)
    try:
        os.link(target, name, follow_symlinks=False)
    except OSError:
        put_away(target, undo, backups)
    else:
        backups.append(name)
        undo.append(Move(name, target))


def beside(target: Path) -> Path:
    """A hidden name that nobody has."""
    return target.with_name(f".fp16fix-{secrets.token_hex(8)}")
