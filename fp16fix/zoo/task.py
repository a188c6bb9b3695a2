"""One model, from its files to its ``Row``, wherever it is worked on: a thread of the batch or a task of a cluster runs just this."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fp16fix.config import Entry
from fp16fix.errors import Fp16fixError, OwnFaultError, first_line
from fp16fix.graph import safe
from fp16fix.process.children import command, environment
from fp16fix.report.batch import CRASHED, OUT_OF_MEMORY, STATUS, TIMED_OUT, Content, Product, Row
from fp16fix.report.document import adapter, portable
from fp16fix.zoo import storage
from fp16fix.zoo.cache import Cache
from fp16fix.zoo.staging import Stage, staged

if TYPE_CHECKING:
    from typing_extensions import Self

Listen = Callable[[dict[str, Any]], None]
WORKER = "fp16fix.zoo.child"
"""The module that works on one model."""
WORDS = 12
"""Lines of the error stream that a row repeats."""


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that working on one model takes; plain data, so that it travels."""

    name: str
    entry: str
    """Of ``Entry``, as JSON."""
    output: Path
    cache: Path
    command: tuple[str, ...]
    folder: str
    """The working directory; another one where the machine has not got it."""
    scratch: Path | None = None
    scratch_mib: int | None = None
    worker: str = field(default_factory=lambda: WORKER)
    """The module that a guard runs."""

    @property
    def parsed(self) -> Entry:
        """The entry."""
        return Entry.model_validate_json(self.entry, context={"folder": Path()})


@dataclass(slots=True)
class Story:
    """What a worker and its guard have said so far."""

    stage: str = "start"
    content: Content | None = None
    row: dict[str, Any] | None = None
    products: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    ended: int | None = None
    broke: str = ""
    seconds: float = 0.0
    peak_mib: float = 0.0
    words: str = ""
    attempts: int = 1

    def hear(self, event: Mapping[str, Any]) -> None:
        """One event; those that only tell of progress leave nothing behind but the stage."""
        if event.get("content"):
            self.content = Content(**event["content"])
        for key in ("stage", "row", "products", "error", "ended", "broke", "seconds", "peak_mib", "words"):
            if key in event:
                setattr(self, key, event[key])


class Guarded:
    """One worker under its guard; ended with everything it started when the block is left."""

    def __init__(self, work: Mapping[str, Any], task: Task, entry: Entry, seconds: float | None, more: Mapping[str, str]) -> None:
        request = {
            "module": task.worker,
            "work": work,
            "time_s": seconds,
            "memory_mib": entry.limits.memory_mib,
            "environment": dict(more),
        }
        # In a session of its own: a terminal's Ctrl-C reaches this process only.
        self._guard = subprocess.Popen(
            command("fp16fix.zoo.guard"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=task.folder if Path(task.folder).is_dir() else None,
            start_new_session=True,
        )
        assert self._guard.stdin is not None
        self._guard.stdin.write(json.dumps(request).encode() + b"\n")
        self._guard.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._guard.wait()
        assert self._guard.stdout is not None
        self._guard.stdout.close()

    @property
    def runs(self) -> bool:
        """Whether the guard has not ended."""
        return self._guard.poll() is None

    def leave(self) -> None:
        """Let the guard know that nobody waits any more."""
        assert self._guard.stdin is not None
        with suppress(BrokenPipeError):
            self._guard.stdin.close()

    def follow(self, listen: Listen) -> Story:
        """Until there is nothing more to hear."""
        story = Story()
        assert self._guard.stdout is not None
        for line in self._guard.stdout:
            event = heard(line)
            story.hear(event)
            listen(event)
        return story


def heard(line: bytes) -> dict[str, Any]:
    """An event; nothing of a line that a worker left unfinished."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def perform(task: Task, listen: Listen, held: Callable[[Guarded], None]) -> Row:
    """Work on one model: bring its files, repair, keep the result in the cache, take the products where they belong.

    Args:
        task: what.
        listen: told of every event, in this thread.
        held: given every guard that runs, for whoever may have to let go of it.
    """
    entry = task.parsed
    try:
        with staged(entry, task.name, task.scratch, task.scratch_mib) as stage:
            row, story = worked(task, stage, listen, held)
            if row is None or story.content is None:
                return failed(task, entry, story)
            products = {kind: Product(**each) for kind, each in story.products.items()}
            row = replace(row, content=story.content, products=stage.delivered(products))
            remember(Cache(task.cache), row, story.content, products)
            return row
    except Fp16fixError as error:
        return replace(nothing(task.name, entry, STATUS[error.exit_code], "its files"), reasons=(str(error),))
    except Exception as error:  # noqa: BLE001 - one model's surprise is its own row
        said = f"{type(error).__name__}: {first_line(error)}"
        return replace(nothing(task.name, entry, STATUS[OwnFaultError.exit_code], "its files"), reasons=(said,))


def worked(task: Task, stage: Stage, listen: Listen, held: Callable[[Guarded], None]) -> tuple[Row | None, Story]:
    """The worker's row, once more in safe mode where a library ended it."""
    work = {
        "name": task.name,
        "entry": json.loads(stage.entry.model_dump_json(by_alias=True)),
        "cache": str(task.cache),
        "command": list(task.command),
        "places": stage.places,
    }
    seconds, peak, limit, why = 0.0, 0.0, stage.entry.limits.time_s, ""
    for attempt in (1, 2):  # noqa: B007 - told of the story
        left = None if limit is None else max(limit - seconds, 0.0)
        more = threads_of(stage.entry) | ({safe.VARIABLE: why} if why else {})
        with Guarded(work, task, stage.entry, left, more) as guarded:
            held(guarded)
            story = guarded.follow(listen)
        seconds, peak = seconds + story.seconds, max(peak, story.peak_mib)
        why = "" if story.broke or story.ended is None else safe.ended_by_library(story.ended)
        if not why:
            break
    story.seconds, story.peak_mib, story.attempts = seconds, peak, attempt
    if story.row is None or story.ended not in {0, 1}:
        return None, story
    row: Row = adapter(Row).validate_python(story.row)
    return replace(row, seconds=round(seconds, 3), peak_mib=peak, attempts=attempt), story


def threads_of(entry: Entry) -> dict[str, str]:
    """Environment by which BLAS has as many threads as the model: sums that are parted otherwise differ in their last digits."""
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(entry.threads)) if entry.threads else {}


def failed(task: Task, entry: Entry, story: Story) -> Row:
    """A row without a verdict: the limit that was broken, the error that was said, or what is known of the death."""
    limits, code = entry.limits, story.ended
    status, why = CRASHED, f"the process was ended by {signal_name(code)}" if code is not None and code < 0 else ""
    if story.broke == "time":
        status, why = TIMED_OUT, f"no result after {limits.time_s:g} s (limits.time_s)"
    elif story.broke == "memory":
        status, why = OUT_OF_MEMORY, f"more than {limits.memory_mib} MiB (limits.memory_mib); {story.peak_mib:.0f} MiB were seen"
    elif story.error and code in STATUS:
        status, why = STATUS[code], story.error
    elif code is None:
        why = "the process that watched it was ended"
    elif code == -9:
        why = "the process was killed from outside, most likely by the system for want of memory"
    last = "\n".join(story.words.strip().splitlines()[-WORDS:])
    row = nothing(task.name, entry, status, story.stage)
    return replace(
        row,
        reasons=(why or f"the process ended with code {code}",),
        last_words="" if story.error else last,
        content=story.content,
        seconds=round(story.seconds, 3),
        peak_mib=story.peak_mib,
        attempts=story.attempts,
    )


def signal_name(code: int) -> str:
    """``SIGSEGV`` for −11."""
    return signal.Signals(-code).name


def nothing(name: str, entry: Entry, status: str, stage: str) -> Row:
    """A row without a result."""
    return Row(name, str(entry.model), status, "failed", stage=stage, made_up=entry.inputs is None)


def remember(cache: Cache, row: Row, content: Content, products: Mapping[str, Product]) -> None:
    """Keep the result: the files first, then what names them.

    ``products`` are on this machine; ``row`` says where they were taken.
    """
    for each in products.values():
        cache.keep(Path(each.path), each.digest)
    first = next(iter(content.model.values()))
    cache.note("weights", first, {"names": list(content.model)[1:]})
    cache.note("results", content.key, {"row": portable(asdict(row))})
    storage.remove(cache.journal(content.key))
