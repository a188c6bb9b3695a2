"""Small models that fail in FP16, run through the tool, and what it says of them as Markdown."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import onnx

import fp16fix
from fp16fix.console.show import outcome as show
from fp16fix.hazards.hazard import Hazard
from fp16fix.passes.recipe import Edit
from fp16fix.report.outcome import Outcome
from fp16fix.report.view import charts
from fp16fix.report.words import counted, detail, error, power
from fp16fix.verdict.verdict import Figures
from tests.ill.case import Feeds, case
from tests.odd.graphs import endless, text

ROOT = Path(__file__).parents[2]
STEPS = 24
"""Additions of the swallowed increments."""
NAMED = 4
"""Nodes of a list that are named before the rest is counted."""
Given = tuple[onnx.ModelProto, list[Feeds]]


def increments() -> Given:
    """A state near 20 that takes steps of a third of its own FP16 spacing, as flows and diffusion do, behind a product that makes them."""
    names = [f"x{step}" for step in range(STEPS)] + ["y"]
    adds = "\n".join(f"{after} = Add ({before}, d)" for before, after in pairwise(names))
    body = f"""g (float[8,64] x0, float[8,64] h) => (float[8,64] y) <float dt = {{0.005}}> {{
        v = MatMul (h, w) speed = Sigmoid (v) d = Mul (speed, dt) {adds} }}"""
    generator = np.random.default_rng(5)
    model = text(body, w=(generator.standard_normal((64, 64)) / 8).astype(np.float32))
    return model, [
        {"x0": (20 + generator.standard_normal((8, 64))).astype(np.float32), "h": 1 + generator.standard_normal((8, 64)).astype(np.float32)}
        for _ in range(4)
    ]


def counting() -> Given:
    """A Loop that adds a small step until a bound is reached."""
    generator = np.random.default_rng(5)
    return endless(), [{"x": generator.standard_normal(4).astype(np.float32)} for _ in range(4)]


OWN: Mapping[str, Callable[[], Given]] = {"increments": increments, "counting": counting}
"""Examples that no ill model of the tests is."""


@dataclass(frozen=True, slots=True)
class Example:
    """One model after its repair, as pages quote it."""

    document: Outcome

    @property
    def console(self) -> str:
        """What the command line prints."""
        out = StringIO()
        with redirect_stdout(out):
            show(self.document, as_json=False)
        return fenced(out.getvalue().strip("\n"))

    @property
    def hazards(self) -> str:
        """Every hazard by name; those of one sentence together."""
        found = self.document.hazards
        lines = []
        for (why, end), group in groupby(found, lambda each: (each.hazard.why, each.end)):
            lines.append(f"{several([each.hazard.node for each in group])}: {why} → {end}")
        return fenced("\n".join(lines))

    @property
    def edits(self) -> str:
        """The recipe as a list; edits for one reason together."""
        order = sorted(self.document.recipe.edits, key=lambda each: (each.by, each.format, each.because))
        groups = [list(group) for _, group in groupby(order, lambda each: (each.by, each.format, each.because))]
        groups.sort(key=lambda group: self.document.recipe.edits.index(group[0]))
        return "\n".join(map(told, groups)) or "- Nothing: the graph is left as it is."

    @property
    def figures(self) -> str:
        """Before and after of each output, and what the repaired graph costs."""
        before = {each.output: each for each in self.document.before}
        rows = [f"| `{each.output}` | {figure(before[each.output])} | {figure(each)} |" for each in self.document.verdict.outputs]
        counts = self.document.counts
        word = "VERIFIED" if self.document.verified else "NOT VERIFIED"
        cost = f"{counts.fp32_nodes} of {counted(counts.float_nodes, 'float node')} in FP32, {counted(counts.muls_added, 'multiplication')} added"
        return "\n".join(
            [
                "| output | plain FP16 | repaired |",
                "|---|---|---|",
                *rows,
                "",
                f"{word} on {counted(self.document.verdict.samples, 'sample')}; {cost}.",
            ]
        )

    @property
    def caption(self) -> str:
        """Of the picture."""
        return (
            "Each bar is a tensor, in graph order, from its RMS to its largest magnitude; a thin line goes down to the smallest that was "
            "measured. FP16 holds what lies between the outer dashed lines, with all its bits where the ground is green."
        )

    @property
    def pictured(self) -> str:
        """The picture in a sentence, for who does not see it."""
        found = charts(self.document)
        return f"Ranges of {counted(found.before.total, 'tensor')}: {found.before.over} past 65504 as given, {found.after.over} after the repair"

    def hazard(self, node: str) -> Hazard:
        """The first one at that node; StopIteration without any."""
        return next(each.hazard for each in self.document.hazards if each.hazard.node == node)

    def largest(self, tensor: str) -> float:
        """Largest magnitude that calibration saw; KeyError for a tensor there is not."""
        return {each.tensor: each.absmax for each in self.document.ranges}[tensor]

    def rms(self, tensor: str) -> float:
        """Root mean square, likewise."""
        return {each.tensor: each.rms for each in self.document.ranges}[tensor]

    def smallest(self, tensor: str) -> float:
        """Smallest magnitude but zero, likewise."""
        return {each.tensor: each.smallest for each in self.document.ranges}[tensor]


@cache
def example(name: str) -> Example:
    """An ill model of the tests, with the inputs that show it, or one of ``OWN``; repaired in this process, once."""
    if name in OWN:
        model, samples = OWN[name]()
    else:
        ill = case(name)
        model, samples = ill.build(), [*ill.samples(), *(ill.held_out() if ill.held_out else ())]
    return Example(fp16fix.repair(model, samples, threads=1).document)


def commanded(line: str) -> str:
    """What a command prints, run where the demo and the configs are, as in the repository."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "configs", Path(folder) / "configs")
        shutil.copytree(ROOT / "tests" / "demo", Path(folder) / "tests" / "demo")
        words = [sys.executable, "-m", "fp16fix", *shlex.split(line)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        raise RuntimeError(done.stderr)
    return fenced(done.stdout.strip("\n"))


def figure(found: Figures) -> str:
    """``61.1 dB, off by at most 0.00228``; what is lost or flipped has no decibels."""
    return detail(found) if found.lost or found.mismatches else f"{error(found)}, {detail(found)}"


def told(edits: list[Edit]) -> str:
    """``- **layernorm** (reordered) at `/norm/Add`: because …``."""
    first = edits[0]
    what = f"**{first.by}**{f' in {first.format.upper()}' if first.format else ''} ({first.promise.value})"
    where = f" at {listed([each.node for each in edits])}" if first.node else ""
    line = f"- {what}{where}: {plain(first.because)}"
    if first.node:
        return line
    powers: dict[int, list[str]] = {}
    for tensor, exponent in first.values:
        powers.setdefault(int(exponent), []).append(tensor)
    return "\n".join([line, *(f"  - × {power(-exponent)}: {listed(names)}" for exponent, names in sorted(powers.items()))])


def listed(names: list[str]) -> str:
    """Names as code, the first few."""
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED + 1 else ""
    return ", ".join(f"`{name}`" for name in (names[:NAMED] if rest else names)) + rest


def several(names: list[str]) -> str:
    """One name, or the first and how many more."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def plain(words: str) -> str:
    """A sentence that Markdown leaves as it is."""
    return re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", words)


def fenced(words: str) -> str:
    """Lines as they are."""
    return f"```text\n{words}\n```"
