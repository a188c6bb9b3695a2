"""One run at a time on an output folder: a lock of the system's, which ends with whoever holds it, however that ends."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from fp16fix.config import ZooConfig
from fp16fix.config.urls import is_url, url_of
from fp16fix.errors import InputError
from fp16fix.zoo import storage
from fp16fix.zoo.plan import RUNNING


@contextmanager
def holding(zoo: ZooConfig, wait_s: float) -> Iterator[None]:
    """Nobody else runs on this output folder within the block.

    Raises:
        InputError: somebody does, still after ``wait_s`` seconds, and who; or the folder cannot be made.
    """
    path = lock_of(zoo)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise InputError(f"cannot be a folder ({fault.strerror})", where=str(path.parent), hint="choose another output_dir") from fault
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout as fault:
        said = f"another run works on this output folder ({holder(path)})"
        raise InputError(
            said, where=url_of(zoo.output_dir), hint="wait for it with --wait SECONDS, or choose another output_dir"
        ) from fault
    except OSError as fault:
        raise InputError(f"cannot be locked ({fault.strerror})", where=str(path), hint="choose another output_dir") from fault
    try:
        note = path.with_suffix(".who")
        note.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def lock_of(zoo: ZooConfig) -> Path:
    """In the output folder; for one that is elsewhere, among this machine's temporary files."""
    if is_url(zoo.output_dir):
        return Path(tempfile.gettempdir()) / f"fp16fix-{storage.key(url_of(zoo.output_dir))[:16]}.lock"
    return zoo.output_dir / RUNNING


def holder(path: Path) -> str:
    """Who said that it holds the lock."""
    try:
        return path.with_suffix(".who").read_text()
    except OSError:
        return "it has not said which"
