"""``python -m tools.bench.speed.counted OUT.json repair …``: the command line, with what each stage takes written to OUT.json.

Seconds of CPU and wall, sessions opened and the CPU-seconds of that, passes run and theirs; a stage inside another counts for itself.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OUTSIDE = "imports, files, page"
"""What belongs to no stage."""


@dataclass
class Spent:
    """What a stage took."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    sessions: int = 0
    opening_s: float = 0.0
    passes: int = 0
    running_s: float = 0.0


@dataclass
class Ledger:
    """By stage; what runs is charged to the innermost."""

    stages: dict[str, Spent] = field(default_factory=dict)
    open: list[str] = field(default_factory=lambda: [OUTSIDE])
    since: tuple[float, float] = field(default_factory=lambda: (cpu_s(), time.perf_counter()))

    @property
    def now(self) -> Spent:
        """Of the innermost stage."""
        return self.stages.setdefault(self.open[-1], Spent())

    def charge(self) -> None:
        """What was spent since the last time, to the innermost stage."""
        then, self.since = self.since, (cpu_s(), time.perf_counter())
        self.now.cpu_s += self.since[0] - then[0]
        self.now.wall_s += self.since[1] - then[1]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """From here to the end of the block."""
        self.charge()
        self.open.append(name)
        try:
            yield
        finally:
            self.charge()
            self.open.pop()


def cpu_s() -> float:
    """Of this process and the children it waited for, on all cores."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def watch(ledger: Ledger) -> None:
    """Let sessions and stages tell the ledger."""
    import onnxruntime as ort

    from fp16fix.graph.converted import caster
    from fp16fix.half import FP16, FP32

    # What converts weights is no pass of a graph: opened before anything is counted.
    for each in (FP16, FP32):
        caster(each.onnx)

    class Counted(ort.InferenceSession):  # type: ignore[misc]  # untyped
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            began = cpu_s()
            super().__init__(*arguments, **keywords)
            ledger.now.sessions += 1
            ledger.now.opening_s += cpu_s() - began

        def run(self, *arguments: Any, **keywords: Any) -> Any:
            began = cpu_s()
            found = super().run(*arguments, **keywords)
            ledger.now.passes += 1
            ledger.now.running_s += cpu_s() - began
            return found

    ort.InferenceSession = Counted
    from fp16fix.progress import Stages

    plain: Callable[..., Any] = Stages.stage

    @contextmanager
    def stage(self: Stages, name: str, total: int | None = None) -> Iterator[Any]:
        with ledger.stage(name), plain(self, name, total) as tick:
            yield tick

    Stages.stage = stage  # type: ignore[method-assign]


def main() -> None:
    """Run the command line to its end, whatever that is."""
    out, ledger = Path(sys.argv[1]), Ledger()
    sys.argv = ["fp16fix", *sys.argv[2:]]
    watch(ledger)
    from fp16fix.cli import run

    try:
        run()
    finally:
        ledger.charge()
        out.write_text(json.dumps({name: asdict(spent) for name, spent in ledger.stages.items()}), encoding="utf-8")


if __name__ == "__main__":
    main()
