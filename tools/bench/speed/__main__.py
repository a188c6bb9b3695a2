"""How long repairs take, against the floor of one FP32 pass a sample to measure and one to judge; AutoCast beside them.

    python -m tools.bench.speed --out notes/speed.md [--env DIR] [--only NAME …] [--picture notes/speed.svg]

Every repair is a whole process started from nothing, one after another; ``--env`` is where AutoCast's environment is kept, without it
there is no such column. CPU-seconds are over all cores: what else the machine does hardly touches them. Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from tools.bench.autocast import environment
from tools.bench.bert_base import Cost, measured
from tools.bench.speed.picture import drawn
from tools.bench.speed.subjects import SUBJECTS, Subject

LIMIT_S, GONE = 600, 124
"""Seconds that AutoCast is given, and what ``timeout`` ends with then."""
TOLD = ("BERT-base", "U-Net")
"""Whose stages the page shows."""
FLOOR = """
import sys, time; from pathlib import Path; import numpy as np; import onnxruntime as ort
options = ort.SessionOptions(); options.log_severity_level = 4
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feeds = [dict(np.load(path)) for path in sorted(Path(sys.argv[2]).glob("*.npz"))][:8]
session.run(None, feeds[0]); began = time.process_time()
for feed in feeds: session.run(None, feed)
print((time.process_time() - began) / len(feeds))
"""


@dataclass(frozen=True, slots=True)
class Line:
    """What came of one subject."""

    subject: Subject
    nodes: int
    file_mib: float
    pass_s: float
    """CPU-seconds of one FP32 pass."""
    ours: Cost
    stages: dict[str, dict[str, float]]
    theirs: Cost | None

    @property
    def floor_s(self) -> float:
        """Two passes a sample."""
        return 2.0 * self.pass_s * self.subject.samples

    def total(self, what: str) -> float:
        """Over the stages."""
        return sum(each[what] for each in self.stages.values())


def line(subject: Subject, python: Path | None) -> Line:
    """Make the model, repair it, let AutoCast convert it.

    Raises:
        subprocess.CalledProcessError: a process ends otherwise than with or without a verdict.
    """
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        folder = Path(scratch)
        code = f"from pathlib import Path; from tools.bench.speed.subjects import made; made({subject.name!r}, Path({scratch!r}))"
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        model, samples, told = folder / "model.onnx", folder / "samples", folder / "stages.json"
        ran = subprocess.run([sys.executable, "-c", FLOOR, model, samples], check=True, stdout=subprocess.PIPE, text=True)
        flags: list[str | Path] = ["repair", model, "-o", folder / "ours.onnx", "--inputs", samples, "--keep-unverified"]
        ours = measured([sys.executable, "-m", "tools.bench.speed.counted", told, *flags], Path.cwd(), allowed=(0, 1))
        theirs = None
        if python is not None and subject.rival:
            their_flags: list[str | Path] = ["--onnx_path", model, "--output_path", folder / "theirs.onnx", "--calibration_data", samples]
            limited: list[str | Path] = ["timeout", str(LIMIT_S), python, "-m", "modelopt.onnx.autocast", *their_flags, "--keep_io_types"]
            theirs = measured(limited, folder, allowed=(0, GONE))
        nodes = len(onnx.load(model, load_external_data=False).graph.node)
        size = sum(file.stat().st_size for file in folder.glob("model.*")) / 2**20
        return Line(subject, nodes, size, float(ran.stdout), ours, json.loads(told.read_text(encoding="utf-8")), theirs)


def ratios(ours: Cost, theirs: Cost | None) -> tuple[str, str, str]:
    """CPU-seconds, wall time and peak memory of ours over theirs, in words; of one that was ended, what they are less than."""
    if theirs is None:
        return "", "", ""
    less = "< " if theirs.seconds >= LIMIT_S else ""
    found = (ours.cpu_seconds / theirs.cpu_seconds, ours.seconds / theirs.seconds)
    return f"{less}{found[0]:.2f}", f"{less}{found[1]:.2f}", f"{ours.peak_mib / theirs.peak_mib:.2f}"


def note(lines: Sequence[Line], picture: str) -> str:
    """The page."""
    rows = []
    for each in lines:
        rival, beside, memory = ratios(each.ours, each.theirs)
        passes = f"{each.total('passes') / each.subject.samples:.1f}"
        rows.append(
            f"| {each.subject.name} | {each.nodes:,} | {each.file_mib:,.1f} | {each.subject.samples} | {each.ours.cpu_seconds:.1f} "
            f"| {each.ours.seconds:.1f} | {each.ours.peak_mib:,.0f} | {each.ours.peak_mib / each.file_mib:.1f} | {each.total('sessions'):.0f} "
            f"| {passes} | {each.floor_s:.2f} | {rival} | {beside} | {memory} |"
        )
    table = "\n".join(rows)
    profiles = "\n\n".join(profile(each) for each in lines if each.subject.name in TOLD)
    seen = f"\n![CPU-seconds by stage]({picture})\n" if picture else ""
    return f"""# How long a repair takes

Made by `python -m tools.bench.speed`, on {os.cpu_count()} cores: whole processes, one after another. A repair loads, simplifies, measures, repairs, verifies (half
of the samples held out; 16 blends, three seeds of jitter, sums in FP16) and writes the page. The floor is one FP32 pass a sample to
measure and one to judge. Passes are of any graph, whole or in stretches; the gates of the verdict alone are 4 a sample, and 32 for blends. Ratios are fp16fix / AutoCast, which is ended after {LIMIT_S} s (< then).

| model | nodes | MiB | samples | CPU-s | wall s | peak MiB | peak / file | sessions | passes a sample | floor CPU-s | CPU ratio | wall ratio | memory ratio |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
{table}
{seen}
{profiles}
"""


def profile(each: Line) -> str:
    """Where the time of one went."""
    kept = sorted(each.stages.items(), key=lambda pair: -pair[1]["cpu_s"])
    rows = "\n".join(
        f"| {name} | {spent['cpu_s']:.1f} | {spent['sessions']:.0f} | {spent['opening_s']:.1f} | {spent['passes']:.0f} | {spent['running_s']:.1f} "
        f"| {spent['cpu_s'] / max(each.floor_s, 1e-9):.1f} |"
        for name, spent in kept
    )
    return f"""## {each.subject.name} by stage

| stage | CPU-s | sessions | opening, CPU-s | passes | running, CPU-s | of the floor |
|---|---|---|---|---|---|---|
{rows}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, help="where AutoCast's environment is kept")
    parser.add_argument("--only", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS), metavar="NAME", help=", ".join(SUBJECTS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path, help="an SVG of the stages")
    given = parser.parse_args(arguments)
    python = environment(given.env.resolve()) if given.env is not None else None
    lines = []
    for name in given.only:
        lines.append(line(SUBJECTS[name], python))
        sys.stdout.write(f"{name}: {lines[-1].ours.cpu_seconds:.1f} CPU-s, {lines[-1].ours.seconds:.1f} s\n")
        sys.stdout.flush()
    if given.picture is not None:
        given.picture.write_text(drawn({each.subject.name: {k: v["cpu_s"] for k, v in each.stages.items()} for each in lines}), "utf-8")
    given.out.write_text(note(lines, given.picture.name if given.picture is not None else ""), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
