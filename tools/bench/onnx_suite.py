"""The whole backend suite that the ``onnx`` package brings → how each of its models ends, by class of outcome: a table in ``notes/``.

    python -m tools.bench.onnx_suite [--only TEXT] [--every N] [--jobs N] [--out FILE] [--lines FILE]

Every model is repaired as a file, with the suite's own inputs, in a process of its own that nothing can take down but itself; what ONNX
Runtime does not run, or what has no finite float to compare, is not asked of anybody. Exit code 1 if a model ends in a way that is a fault
of ours: a traceback, a crash, a hang, or an error of exit code 4.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.loader import load_model_tests

from fp16fix.config import Config
from fp16fix.errors import Fp16fixError
from fp16fix.tasks.repair import repair

LIMIT_S = 120
"""Seconds that a model of the suite may take; most take less than one."""
KINDS = ("simple", "pytorch-converted", "pytorch-operator")
"""Of the suite's models that lie in files; those of single operators are made by the package when asked for."""
FAULTS = frozenset({"our fault", "crash", "hang"})
OUTSIDE = frozenset(
    {"ONNX Runtime does not run it", "no float output", "no finite float", "NaN among its inputs", "no input that is a tensor"}
)
"""What is not asked of anybody; a sample with a NaN is refused on purpose, as no measurement."""


@dataclass(frozen=True)
class Ending:
    """How one model ended."""

    name: str
    end: str
    """The class."""
    said: str = ""


@dataclass(frozen=True)
class Subject:
    """One model and its inputs."""

    name: str
    model: onnx.ModelProto
    inputs: tuple[Any, ...]


def subjects() -> Iterator[Subject]:
    """Every model, with the first of its data sets."""
    for case in collect_testcases(None):
        if case.model is not None and case.data_sets:
            yield Subject(case.name, case.model, tuple(map(as_array, case.data_sets[0][0])))
    for kind in KINDS:
        for each in load_model_tests(kind=kind):
            folder = Path(each.model_dir or "")
            yield Subject(f"{kind}/{each.name}", onnx.load(folder / "model.onnx"), stored(folder / "test_data_set_0"))


def as_array(value: Any) -> Any:
    """A tensor as an array; sequences and absent optionals stay as they are."""
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, (np.generic, float, int, bool)) else value


def stored(folder: Path) -> tuple[Any, ...]:
    """Inputs of a model that lies in files."""
    files = sorted(folder.glob("input_*.pb"), key=lambda file: int(file.stem.split("_")[1]))
    return tuple(onnx.numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes())) for file in files)


def ended(subject: Subject, folder: Path) -> Ending:
    """Repair one model, in this process."""
    path, samples = folder / "model.onnx", folder / "samples"
    onnx.save(subject.model, path)
    held = {tensor.name for tensor in subject.model.graph.initializer}
    names = [value.name for value in subject.model.graph.input if value.name not in held]
    feeds = dict(zip(names, subject.inputs, strict=False))
    outside = unasked(path, feeds)
    if outside:
        return Ending(subject.name, *outside)
    samples.mkdir()
    np.savez(samples / "0.npz", **feeds)
    try:
        outcome = repair(Config(model=path, inputs=str(samples), output=folder / "fixed.onnx", threads=1))
    except Fp16fixError as error:
        kinds = {2: "refused", 3: "backend", 4: "our fault"}
        return Ending(subject.name, kinds.get(error.exit_code, "our fault"), str(error).splitlines()[0][:300])
    except Exception as error:  # noqa: BLE001 - whatever nobody foresaw is what this is for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Ending(subject.name, "our fault", f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"[:300])
    return Ending(subject.name, "verified" if outcome.verified else "not verified", "; ".join(outcome.verdict.reasons)[:300])


def unasked(path: Path, feeds: dict[str, Any]) -> tuple[str, str] | None:
    """Why a model is none of those that must be processed."""
    if any(not isinstance(value, np.ndarray) for value in feeds.values()):
        return "no input that is a tensor", ""
    if any(np.isnan(value).any() for value in feeds.values() if value.dtype.kind == "f"):
        return "NaN among its inputs", ""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        found = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feeds)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no base class
        return "ONNX Runtime does not run it", str(error).splitlines()[0][:120]
    floats = [value for value in found if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
    if not floats:
        return "no float output", ""
    return None if any(np.isfinite(value).any() for value in floats) else ("no finite float", "")


def apart(subject: Subject) -> Ending:
    """The same in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="suite-") as folder:
        report = Path(folder) / "ending.json"
        child = os.fork()
        if not child:
            silence()
            report.write_text(json.dumps(asdict(ended(subject, Path(folder)))))
            os._exit(0)
        return waited(subject.name, child, report)


def silence() -> None:
    """What a child of the suite says, and what it may take."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    signal.alarm(LIMIT_S)


def waited(name: str, child: int, report: Path) -> Ending:
    """What became of a child."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -signal.SIGALRM:
        return Ending(name, "hang", f"more than {LIMIT_S} s")
    if code or not report.exists():
        return Ending(name, "crash", signal.Signals(-code).name if code < 0 else f"exit code {code}")
    return Ending(**json.loads(report.read_text()))


def share(chosen: Sequence[Subject], number: int, jobs: int, pipe: Any) -> None:
    """Every ``jobs``-th model, from ``number`` on."""
    for subject in chosen[number::jobs]:
        pipe.send(apart(subject))
    pipe.send(None)


def run(chosen: Sequence[Subject], jobs: int) -> list[Ending]:
    """All of them; each worker forks a child for each model."""
    context = multiprocessing.get_context("fork")
    ends = []
    for number in range(jobs):
        mine, theirs = context.Pipe()
        context.Process(target=share, args=(chosen, number, jobs, theirs), daemon=True).start()
        ends.append(mine)

    def drain(pipe: Any) -> list[Ending]:
        return list(iter(pipe.recv, None))

    with ThreadPoolExecutor(jobs) as pool:
        return sorted((each for found in pool.map(drain, ends) for each in found), key=lambda each: each.name)


def page(endings: Sequence[Ending]) -> str:
    """The note."""
    counts = Counter(each.end for each in endings)
    asked = sum(count for end, count in counts.items() if end not in OUTSIDE)
    processed = counts["verified"] + counts["not verified"]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("onnx", "onnxruntime", "onnxsim"))
    lines = [
        "# The ONNX backend suite",
        "",
        f"Made by `python -m tools.bench.onnx_suite` with {versions}: every model that the `onnx` package brings for tests of backends,",
        "repaired as a file with the suite's own input. Of those that ONNX Runtime runs on the CPU and that give a finite float,",
        f"{processed} of {asked} are processed ({processed / max(1, asked):.1%}).",
        "",
        "| end | models |",
        "|---|---|",
        *(f"| {end} | {count} |" for end, count in counts.most_common()),
        "",
        "What was not processed, and why:",
        "",
        "| model | end | in its words |",
        "|---|---|---|",
    ]
    odd = [each for each in endings if each.end not in OUTSIDE | {"verified", "not verified"}]
    return "\n".join([*lines, *(f"| {each.name} | {each.end} | {each.said.replace('|', '/')} |" for each in odd)]) + "\n"


def main() -> int:
    """Run, print, write; 1 if anything is a fault of ours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("--every", type=int, default=1, help="every N-th of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="the note")
    parser.add_argument("--lines", type=Path, help="one JSON line a model")
    arguments = parser.parse_args()
    chosen = [each for each in subjects() if arguments.only in each.name][:: arguments.every]
    endings = run(chosen, arguments.jobs)
    if arguments.lines:
        arguments.lines.write_text("".join(json.dumps(asdict(each)) + "\n" for each in endings), encoding="utf-8")
    text = page(endings)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return int(any(each.end in FAULTS for each in endings))


if __name__ == "__main__":
    sys.exit(main())
