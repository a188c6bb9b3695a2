"""The table of what a compiler makes of every repaired ill model and of the demo: pins, fused attention, conditions, cost.

    python -m tools.bench.compiled                      writes notes/compiled.md
    python -m tools.bench.compiled --only layernorm     prints those rows only

Needs TensorRT-RTX, no GPU. Exit code 1 if a pin was taken back, or a plan was not read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fp16fix.config import Config, merged
from fp16fix.errors import Fp16fixError
from fp16fix.report.outcome import Outcome
from fp16fix.tasks.repair import repair
from fp16fix.verdict.verdict import Verdict
from tools.bench.subjects import Subject, subjects

NOTE = Path(__file__).parents[2] / "notes" / "compiled.md"
HEAD = """# Every ill model, compiled

Made by `python -m tools.bench.compiled`: each model of `tests/ill` and the demo detector is repaired into a plan by TensorRT-RTX (no GPU), and the plan is
read (`engines/compiled.py`).

- *compiled*, *accumulate*, *pessimistic*: worst output in dB under each profile ([what they assume](arithmetic.md)); *accumulate* is that of one sample.
  A dash: not asked, for the answer is not verified.
- *condition*: verified where products accumulate in FP32.
- *narrowed*: pins that the compiler took back; *attention*: kernels that are attention as a whole; *alphas*: scalar factors behind a product's sum.
- *Float products*: products that multiply FP32 operands; *TF32* is what the plan was built with.
- *bytes*: what kernels read and write, constants apart, and the share of it in FP32; *kernels*: that compute.

"""
COLUMNS = "model | verified | compiled | accumulate | pessimistic | condition | narrowed | attention | alphas | Float products | TF32 | kernels | bytes | FP32 bytes"


@dataclass(frozen=True, slots=True)
class Line:
    """One model."""

    name: str
    outcome: Outcome | None
    why: str = ""
    """Why there is none."""

    @property
    def fault(self) -> bool:
        """A plan that is not what was asked for, or that nobody read."""
        became = None if self.outcome is None else self.outcome.engine.compiled
        return became is not None and (bool(became.narrowed) or became.source != "plan")

    def cells(self) -> str:
        """As a row."""
        if self.outcome is None:
            return f"| {self.name} | – | {self.why} |" + " |" * (COLUMNS.count("|") - 2)
        found, became = self.outcome, self.outcome.engine.compiled
        told = [
            self.name,
            "yes" if found.verified else "no",
            *(decibels(each) for each in (found.verdict, found.accumulate, found.pessimistic)),
        ]
        told.append("FP32 sums" if found.conditions else "")
        if became is None:
            return "| " + " | ".join([*told, *["–"] * (COLUMNS.count("|") + 1 - len(told))]) + " |"
        counts = (len(became.narrowed), len(became.attention), len(became.alphas), len(became.float_products))
        wide = f"{became.crossing.get('fp32', 0) / became.bytes:.0%}" if became.bytes else "–"
        told += [*map(str, counts), "on" if found.engine.tf32 else "off", str(became.kernels), f"{became.bytes:,}", wide]
        return "| " + " | ".join(told) + " |"


def decibels(verdict: Verdict | None) -> str:
    """Of the worst output."""
    shown = None if verdict is None else verdict.worst
    return "–" if shown is None else "lost" if shown.lost or shown.mismatches else f"{shown.sqnr_db:.1f}"


def line(subject: Subject, folder: Path) -> Line:
    """Repair one into a plan."""
    folder.mkdir()
    model, samples = subject.write(folder)
    given = {"model": str(model), "inputs": str(samples), "output": str(folder / "x.plan"), "keep_unverified": True}
    try:
        return Line(subject.name, repair(merged(Config(), given)))
    except Fp16fixError as error:
        return Line(subject.name, None, error.what.splitlines()[0][:120])


def main(arguments: Sequence[str] | None = None) -> int:
    """All rows, or some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names; the rows are printed, not written")
    given = parser.parse_args(arguments)
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="compiled-") as scratch:
        for each in subjects(given.only):
            lines.append(line(each, Path(scratch) / each.name))
            print(lines[-1].cells(), file=sys.stderr, flush=True)
    rows = [f"| {COLUMNS} |", "|" + "---|" * (COLUMNS.count("|") + 1), *(each.cells() for each in lines)]
    text = HEAD + "\n".join(rows) + "\n"
    if given.only:
        print(text)
    else:
        NOTE.write_text(text, encoding="utf-8")
    return int(any(each.fault for each in lines))


if __name__ == "__main__":
    sys.exit(main())
