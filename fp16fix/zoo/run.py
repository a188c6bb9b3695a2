"""``ZooConfig`` → a ``Summary``: every model repaired in a process of its own, the rest untouched by one that fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from fp16fix.config import Config, ZooConfig
from fp16fix.errors import InputError
from fp16fix.graph import safe
from fp16fix.graph.save import write_atomically
from fp16fix.process.children import command as python
from fp16fix.process.children import environment
from fp16fix.progress import Watcher
from fp16fix.report.document import portable
from fp16fix.report.html import Row, write_index
from fp16fix.report.outcome import Outcome, load
from fp16fix.report.words import error
from fp16fix.verdict.verdict import worst

if TYPE_CHECKING:
    from typing_extensions import Self

STATUS = {0: "verified", 1: "not verified", 2: "bad input", 3: "backend failed", 4: "our fault"}


@dataclass(frozen=True, slots=True)
class Summary:
    """A batch in one table."""

    rows: tuple[Row, ...]
    files: dict[str, str] = field(default_factory=dict)

    @property
    def verified(self) -> bool:
        """All of them."""
        return all(row.status == STATUS[0] for row in self.rows)


def run_zoo(zoo: ZooConfig, jobs: int, watcher: Watcher, command: Sequence[str] = ()) -> Summary:
    """Repair every model of a zoo and write ``summary.json`` and ``index.html``.

    Args:
        zoo: models with complete configs; those without an output get ``<output_dir>/<name>.onnx`` or ``.plan``.
        jobs: processes at a time; 0 is one for each core.
        watcher: told of every model that ends.
        command: what reproduces this.

    Raises:
        InputError: the folder for all of it cannot be made.
    """
    try:
        zoo.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise InputError(f"cannot be a folder ({fault.strerror})", where=str(zoo.output_dir), hint="choose another output_dir") from fault
    configs = with_outputs(zoo)
    began = time.perf_counter()
    watcher.begin("models", len(configs))

    def one(config: Config, children: Children) -> Row:
        row = repair_one(config, zoo.output_dir, command, children)
        watcher.tick()
        watcher.say(f"{row.name}: {row.status}")
        return row

    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool, Children() as children:
        rows = tuple(pool.map(lambda config: one(config, children), configs))
    watcher.end("models", time.perf_counter() - began)
    files = {"summary": str(zoo.output_dir / "summary.json"), "index": str(zoo.output_dir / "index.html")}
    summary = Summary(rows, files)
    document = {"version": 1, "command": list(command), "verified": summary.verified, **asdict(summary)}
    write_atomically(Path(files["summary"]), json.dumps(portable(document), indent=1).encode())
    write_index(rows, Path(files["index"]), f"{len(rows)} models")
    return summary


def with_outputs(zoo: ZooConfig) -> list[Config]:
    """Every config with its own output path; models of one name are told apart by their folder, then by number."""
    taken: set[Path] = {config.output for config in zoo.models if config.output is not None}
    found = []
    for config in zoo.models:
        if config.output is None and config.model is not None:
            stem, suffix = config.model.stem, ".plan" if config.build.targets else ".onnx"
            names = [stem, f"{config.model.parent.name}-{stem}", *(f"{stem}-{n}" for n in range(2, len(zoo.models) + 2))]
            output = next(path for name in names if (path := zoo.output_dir / f"{name}{suffix}") not in taken)
            taken.add(output)
            found.append(config.model_copy(update={"output": output}))
        else:
            found.append(config)
    return found


NOTHING: Mapping[str, str] = MappingProxyType({})


class Children:
    """The processes that run now: none outlives the block, and none starts once it is being left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            for each in list(self._running):
                each.terminate()

    def run(self, arguments: Sequence[str], more: Mapping[str, str] = NOTHING) -> subprocess.CompletedProcess[str]:
        """Run one to its end, with ``more`` in its environment; its error stream is kept."""
        with self._lock:
            if self._closed:
                raise KeyboardInterrupt
            child = subprocess.Popen(
                arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", env={**environment(), **more}
            )
            self._running.add(child)
        try:
            _, said = child.communicate()
        finally:
            with self._lock:
                self._running.discard(child)
        return subprocess.CompletedProcess(arguments, child.returncode, "", said)


def repair_one(config: Config, folder: Path, command: Sequence[str], children: Children) -> Row:
    """One model in a child process."""
    name = config.output.stem if config.output is not None else str(config.model)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fp16fix-") as scratch:
        request, result = Path(scratch) / "config.json", Path(scratch) / "result.json"
        request.write_text(config.model_dump_json(by_alias=True, exclude_unset=False), encoding="utf-8")
        arguments = python("fp16fix.zoo.child", str(request), str(result), json.dumps(list(command)))
        done = children.run(arguments)
        if why := safe.ended_by_library(done.returncode):
            done = children.run(arguments, {safe.VARIABLE: why})
        said = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    seconds = time.perf_counter() - began
    if "outcome" in said:
        return row_of(name, load(Path(said["outcome"])), folder, seconds, STATUS[done.returncode])
    error = said.get("error") or crash(done)
    return Row(name, STATUS.get(done.returncode, "crashed") if said else "crashed", "", "", "", seconds, error, "")


def crash(done: subprocess.CompletedProcess[str]) -> str:
    """What is known of a child that died without a word."""
    if done.returncode < 0:
        return f"the process was ended by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"the process ended with code {done.returncode}"


def row_of(name: str, outcome: Outcome, folder: Path, seconds: float, status: str) -> Row:
    """One line of the table."""
    page = outcome.files.get("report", "")
    link = os.path.relpath(page, folder) if page else ""
    nodes = f"{outcome.counts.fp32_nodes} of {outcome.counts.float_nodes}"
    return Row(
        name, status, error(worst(outcome.before)), error(outcome.verdict.worst), nodes, seconds, "; ".join(outcome.verdict.reasons), link
    )
