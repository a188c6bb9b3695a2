"""``python -m fp16fix.zoo.guard``: runs one worker within limits of time and memory, and leaves nothing of it behind.

Its standard input is its life-line: the first line is the request, and its end, however that comes about, means that nobody waits any
more. It adopts the orphans of what it runs, so that no process which a loader or a builder starts escapes it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from fp16fix.process.children import command, environment
from fp16fix.process.family import adopt_orphans, end_descendants, end_with_parent, memory_mib

POLL_S = 0.1
"""How often memory and the clock are looked at."""
GRACE_S = 1.0
"""What a worker is given to take its unfinished files away."""
LAST_WORDS = 4096
"""Bytes of the error stream that are kept."""


@dataclass(slots=True)
class Watched:
    """What is known of a worker that runs."""

    words: deque[int]
    peak_mib: float = 0.0
    broke: str = ""
    """The limit that it broke: ``time`` or ``memory``; ``parent`` where nobody waits any more."""


def main() -> int:
    """Relay the worker's events, then one line of how it ended."""
    request = json.loads(sys.stdin.buffer.readline())
    adopt_orphans()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fp16fix-") as scratch:
        worker = subprocess.Popen(
            command(request["module"]),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment(), **request["environment"], "TMPDIR": scratch},
            start_new_session=True,
            preexec_fn=partial(end_with_parent, signal.SIGKILL),  # noqa: PLW1509 - this process has one thread
        )
        assert worker.stdin is not None
        with suppress(BrokenPipeError):
            worker.stdin.write(json.dumps(request["work"]).encode())
            worker.stdin.close()
        watched = Watched(deque(maxlen=LAST_WORDS))
        watch(worker, watched, request["time_s"], request["memory_mib"])
        end(worker, watched)
    if watched.broke != "parent":
        tell(
            ended=worker.returncode,
            broke=watched.broke,
            seconds=time.monotonic() - began,
            peak_mib=round(watched.peak_mib, 1),
            words=bytes(watched.words).decode(errors="replace"),
        )
    return 0


def watch(worker: subprocess.Popen[bytes], watched: Watched, time_s: float | None, limit_mib: float | None) -> None:
    """Until the worker ends, breaks a limit, or nobody waits."""
    assert worker.stderr is not None
    began, streams = time.monotonic(), [sys.stdin.fileno(), worker.stderr.fileno()]
    looked = 0.0
    while worker.poll() is None and not watched.broke:
        ready, _, _ = select.select(streams, [], [], POLL_S)
        listen(ready, streams, watched)
        if time.monotonic() - looked < POLL_S:
            continue
        looked = time.monotonic()
        held = memory_mib(limit_mib)
        watched.peak_mib = max(watched.peak_mib, held)
        if limit_mib is not None and held > limit_mib:
            watched.broke = "memory"
        elif time_s is not None and looked - began > time_s:
            watched.broke = "time"


def listen(ready: list[int], streams: list[int], watched: Watched) -> None:
    """Take what the error stream says; a stream that has ended is listened to no more."""
    for stream in ready:
        said = os.read(stream, 1 << 16)
        if stream == sys.stdin.fileno():
            watched.broke = watched.broke or ("" if said else "parent")
        elif said:
            watched.words.extend(said)
        else:
            streams.remove(stream)


def end(worker: subprocess.Popen[bytes], watched: Watched) -> None:
    """Ask once, then kill the worker and whatever came of it."""
    if worker.poll() is None and watched.broke != "memory":
        worker.terminate()
        with suppress(subprocess.TimeoutExpired):
            worker.wait(GRACE_S)
    if worker.poll() is None:
        worker.kill()
        worker.wait()
    end_descendants()
    assert worker.stderr is not None
    os.set_blocking(worker.stderr.fileno(), False)
    with suppress(BlockingIOError):
        watched.words.extend(worker.stderr.read() or b"")


def tell(**event: Any) -> None:
    """One line, whole, whatever a worker that was killed left unfinished before it; nobody may be there to read it."""
    with suppress(BrokenPipeError):
        os.write(1, f"\n{json.dumps(event)}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
