"""A ``Request`` → the child's result: one process per request, watched for time and memory; whatever kills it becomes a ``BuildError``."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fp16fix.engines.options import BuildOptions
from fp16fix.engines.story import Story, judge, last_words, stopped
from fp16fix.errors import ConfigError
from fp16fix.process.children import command, environment

POLL_S = 0.05
"""How often memory and the clock are looked at."""
GRACE_S = 1.0
"""What a cancelled child is given to leave by itself."""


@dataclass(frozen=True, slots=True)
class Request:
    """One piece of work for a child process."""

    task: str
    """``status``, ``check`` or ``build``; ``run``, ``latency`` or ``intermediates`` (then ``onnx_path`` is the plan)."""
    flavour: str
    options: BuildOptions
    onnx_path: Path = Path()
    plan_path: Path | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Where samples are and what to do with them, for the tasks that run a plan."""

    def line(self, target: Path | None) -> str:
        """As the child reads it."""
        body = {
            "task": self.task,
            "flavour": self.flavour,
            "options": self.options.to_json(),
            "onnx": str(self.onnx_path),
            "plan": str(target or ""),
            **self.extra,
        }
        return json.dumps(body) + "\n"

    @property
    def where(self) -> str:
        """For errors."""
        return self.onnx_path.name or f"backend {self.flavour}"


def supervise(request: Request, progress: Callable[[str, float], None] | None) -> dict[str, Any]:
    """Run a request in a child process and return its result.

    The plan is written beside its destination under a hidden name, synced, and renamed only after the child has succeeded and
    left. Ctrl-C, or an exception out of ``progress``, ends the child and removes what it wrote.

    Raises:
        BuildStoppedError, BackendMissingError, ConfigError: as the child reports, or as its death is understood.
    """
    target = None
    if request.plan_path is not None:
        if not request.plan_path.parent.is_dir():
            raise ConfigError("the folder for the plan does not exist", where=str(request.plan_path.parent))
        target = request.plan_path.with_name(f".{request.plan_path.name}.{secrets.token_hex(4)}.tmp")
    try:
        result = converse(request, target, progress)
        if target is not None and request.plan_path is not None:
            os.replace(target, request.plan_path)  # noqa: PTH105 - the one atomic rename
            sync_folder(request.plan_path.parent)
        return result
    finally:
        if target is not None:
            target.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where folders can be synced (POSIX)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def converse(request: Request, target: Path | None, progress: Callable[[str, float], None] | None) -> dict[str, Any]:
    """Start the child, follow its story to the end, judge how it ended."""
    story = Story()
    began = time.monotonic()
    with tempfile.TemporaryFile() as noise, running(noise) as child:
        send(child, request.line(target))
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=pump, args=(child.stdout, lines), daemon=True).start()
        while (line := next_line(lines)) is not None:
            if line:
                listen(json.loads(line), story, progress)
            limit(request, child.pid, story, time.monotonic() - began)
        code = child.wait()
        noise.seek(0)
        return judge(request.where, story, code, noise.read().decode(errors="replace"))


@contextlib.contextmanager
def running(noise: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    """The child, in a session of its own so that a terminal's Ctrl-C reaches only this process; gone when the block is left."""
    child = subprocess.Popen(
        command("fp16fix.engines.child"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=noise,
        text=True,
        encoding="utf-8",
        start_new_session=True,
        env=environment(),
    )
    try:
        yield child
    finally:
        end(child)


def end(child: subprocess.Popen[str]) -> None:
    """Closing its input asks the child to cancel; after the grace it is killed."""
    if child.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()


def send(child: subprocess.Popen[str], line: str) -> None:
    """The request goes in; the pipe stays open, its end being the signal to cancel."""
    assert child.stdin is not None
    # A child that died at once is judged by its exit code, not by this pipe.
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(line)
        child.stdin.flush()


def pump(source: IO[str] | None, lines: queue.Queue[str | None]) -> None:
    """Move the child's lines to a queue, then None."""
    assert source is not None
    # The pipe may be closed under this thread while the child is being ended.
    with contextlib.suppress(ValueError):
        for line in source:
            lines.put(line)
    lines.put(None)


def next_line(lines: queue.Queue[str | None]) -> str | None:
    """The next line, an empty string if none came for a while, None at the end."""
    try:
        return lines.get(timeout=POLL_S)
    except queue.Empty:
        return ""


def listen(event: dict[str, Any], story: Story, progress: Callable[[str, float], None] | None) -> None:
    """One JSON line from the child: exactly one of stage, message, suspects, result, failure."""
    if "stage" in event:
        story.stage = event["stage"]
        if progress is not None:
            progress(event["stage"], float(event["done"]))
    elif "message" in event:
        story.messages.append(event["message"])
    elif "suspects" in event:
        story.suspects = tuple(event["suspects"])
    elif "result" in event:
        story.result = event["result"]
    elif "failure" in event:
        story.failure = event["failure"]


def limit(request: Request, pid: int, story: Story, spent_s: float) -> None:
    """Stop the conversation when time or memory is used up.

    Memory is the resident set, read from outside: an address-space limit would count CUDA's reserved gigabytes.
    """
    options = request.options
    if story.result is None and spent_s > options.timeout_s:
        what = f"no result after {options.timeout_s:g} s, during stage {story.stage!r}{last_words(story)}"
        raise stopped(what, request.where, "allow more with timeout_s (--timeout), or lower optimization_level", "timeout", story.stage, ())
    if options.memory_mib and (used := resident_mib(pid)) > options.memory_mib:
        what = f"{used} MiB resident in stage {story.stage!r}, over the limit of {options.memory_mib} MiB{last_words(story)}"
        raise stopped(what, request.where, "allow more with memory_mib, or lower workspace_mib", "memory", story.stage, ())


def resident_mib(pid: int) -> int:
    """Resident memory of a process in MiB; 0 where the system does not tell (not Linux) or the process has left."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20
