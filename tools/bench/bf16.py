"""The table of every ill model with BF16 as the base → ``notes/bf16.md``, between its markers.

    python -m tools.bench.bf16                  writes it
    python -m tools.bench.bf16 --only layernorm prints those rows

Exit code 1 if a row is verified and wrong on inputs kept outside of its samples; the table is written all the same.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fp16fix.config import Config
from fp16fix.graph.load import load
from fp16fix.graph.lower import lower
from fp16fix.graph.opset import with_forms
from fp16fix.half import BF16
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.report.outcome import Outcome
from fp16fix.tasks.repair import repair
from tools.bench.row import Score
from tools.bench.subjects import Subject, subjects

NOTE = Path(__file__).parents[2] / "notes" / "bf16.md"
MARKERS = ("<!-- table -->\n", "<!-- end -->")
HEAD = "| model | plain BF16 | repaired | on inputs beyond | FP32 nodes | FP32 FLOPs | rules | verdict |\n|---|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Measured:
    """One subject, repaired."""

    subject: Subject
    plain: Score
    strict: Score
    """On its samples."""
    beyond: Score | None
    """On what was kept outside of them on purpose; None where there is nothing."""
    outcome: Outcome

    @property
    def false(self) -> bool:
        """Whether it says verified and is wrong beyond its samples."""
        return self.outcome.verified and self.beyond is not None and not self.beyond.right


def measured(subject: Subject, folder: Path) -> Measured:
    """Repair a subject and judge what comes out, ``max_fp32_share`` or not; ``folder`` holds the files and must be empty."""
    path, inputs = subject.write(folder)
    output = folder / "repaired" / path.name
    output.parent.mkdir()
    config = Config(model=path, inputs=str(inputs), output=output, precision="bf16", keep_unverified=True, fast=True)
    outcome = repair(config)
    typed = load(Path(outcome.files.get("onnx") or outcome.files["onnx (unverified)"]), simplified=False, widened=False)
    file = load(path, simplified=False)
    raised = load(path, simplified=False)
    raised.narrow = BF16
    plain = lower(with_forms(raised, None), {}, narrow=BF16)

    def scores(samples: Sequence[object]) -> tuple[Score, Score]:
        with StrictOracle(file, samples, config.tolerance.of) as oracle:  # type: ignore[arg-type]
            return Score.of(oracle.verdict(plain)), Score.of(oracle.verdict(typed))

    before, after = scores(list(subject.samples()))
    beyond = list(subject.beyond())
    return Measured(subject, before, after, scores(beyond)[1] if beyond else None, outcome)


def line(each: Measured) -> str:
    """A row of the table."""
    counts, recipe = each.outcome.counts, each.outcome.recipe
    share = counts.flops_fp32 / counts.flops_total if counts.flops_total else 0.0
    rules = ", ".join(sorted({edit.by for edit in recipe.rewrites})) or "–"
    beyond = "–" if each.beyond is None else figure(each.beyond)
    told = "verified" if each.outcome.verified else f"**not**: {each.outcome.verdict.reasons[-1].partition(',')[0]}"
    nodes = f"{counts.fp32_nodes} / {counts.float_nodes}"
    return f"| {each.subject.name} | {figure(each.plain)} | {figure(each.strict)} | {beyond} | {nodes} | {share:.0%} | {rules} | {told} |"


def figure(score: Score) -> str:
    """``41.3``; bold where it is wrong."""
    said = "lost" if score.nonfinite else f"{score.db:.1f}"
    return said if score.right else f"**{said}**"


def totals(rows: Sequence[Measured]) -> Iterator[str]:
    """What the rows add up to."""
    wide = [each for each in rows if each.outcome.counts.fp32_nodes]
    verified = sum(each.outcome.verified for each in rows)
    right, shown = sum(each.plain.right for each in rows), [each for each in rows if each.beyond is not None]
    held = sum(each.beyond.right for each in shown if each.beyond is not None)
    yield (
        f"{len(rows)} models: {verified} verified at {Config(precision='bf16').tolerance.sqnr_db:g} dB; plain BF16 is right on the samples of "
        f"{right}. {len(wide)} have FP32 nodes, {sum(each.outcome.counts.fp32_nodes for each in rows)} of "
        f"{sum(each.outcome.counts.float_nodes for each in rows):,} float nodes together. Of {len(shown)} with inputs kept beyond the samples "
        f"on purpose {held} are right there."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """All rows, or some."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.bf16", description="Every ill model with BF16 as the base.")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="PART", help="subjects whose name holds one of these; printed, not written"
    )
    only = parser.parse_args(arguments).only
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for subject in subjects():
            if only and not any(part in subject.name for part in only):
                continue
            folder = Path(root) / subject.name
            folder.mkdir()
            rows.append(measured(subject, folder))
            print(line(rows[-1]), file=sys.stderr, flush=True)
    text = "\n".join((HEAD, *map(line, rows), "", *totals(rows))) + "\n"
    if only:
        print(text)
    else:
        before, _, rest = NOTE.read_text(encoding="utf-8").partition(MARKERS[0])
        NOTE.write_text(before + MARKERS[0] + text + MARKERS[1] + rest.partition(MARKERS[1])[2], encoding="utf-8")
    return 1 if any(each.false for each in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
