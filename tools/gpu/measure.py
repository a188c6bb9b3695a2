"""On a machine with an NVIDIA GPU: FP32, plain FP16 and repaired engines of one model, their fidelity and latency, as a table.

    python tools/gpu/measure.py model.onnx model.repaired.onnx --inputs SAMPLES [--backend rtx|strong] [--out table]

Builds the three plans with this package, runs them on every sample, and compares each with ONNX Runtime's FP32 outputs; beside
that stands what the strict emulator predicted for the same graph. Writes ``table.json`` and ``table.md``, which name the GPU, the
driver's CUDA, and the versions. Exit codes: 0 measured, 3 nothing here can run an engine.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs

import fp16fix
from fp16fix.engines import BuildOptions, build, parse_profiles
from fp16fix.engines.backend import STRONG
from fp16fix.engines.execute import can_execute, latency, run
from fp16fix.engines.gpu import gpu_status
from fp16fix.graph.load import load
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session, proto_of
from fp16fix.inputs.load import load as load_samples
from fp16fix.inputs.signature import signature
from fp16fix.strict.emulate import emulate
from fp16fix.verdict.metrics import Comparison

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One engine."""

    engine: str
    sqnr_db: float
    """Worst output, engine against FP32 on ONNX Runtime."""
    strict_db: float
    """The same, as the strict emulator predicted it; inf for FP32."""
    lost: int
    median_ms: float
    p90_ms: float
    plan_mib: float
    fp16_layers: int
    fp32_layers: int
    proof: str


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    able, why = can_execute()
    if not able:
        sys.stderr.write(f"nothing was measured: {why}\nCopy the models and samples to a machine with an NVIDIA GPU and run this there.\n")
        return 3
    gpu = gpu_status()
    backend = options.backend or ("strong" if STRONG.importable() else "rtx")
    targets = gpu.capabilities[:1] if backend == "rtx" else ()
    build_options = BuildOptions(backend=backend, targets=targets, profiles=parse_profiles(options.profile))
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options.model, options.repaired, options.inputs, build_options, Path(folder), options.repeats)
    facts = {
        "gpu": gpu.devices[0],
        "capability": gpu.capabilities[0],
        "driver_cuda": gpu.cuda,
        "backend": backend,
        "backend_version": rows[0][1],
        "fp16fix": fp16fix.__version__,
        "python": platform.python_version(),
        "model": options.model.name,
    }
    table = markdown(facts, [row for row, _ in rows])
    options.out.with_suffix(".md").write_text(table)
    options.out.with_suffix(".json").write_text(
        json.dumps({**facts, "rows": [plain(row) for row, _ in rows]}, indent=2, allow_nan=False) + "\n"
    )
    sys.stdout.write(table)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="FP32, plain FP16 and repaired engines: fidelity and latency")
    parser.add_argument("model", type=Path, help="the original FP32 model")
    parser.add_argument("repaired", type=Path, help="the .onnx that fp16fix repair wrote")
    parser.add_argument("--inputs", required=True, help="samples, as fp16fix repair takes them")
    parser.add_argument("--backend", choices=("rtx", "strong"), default="")
    parser.add_argument("--profile", action="append", default=[], help="name:MIN,OPT,MAX for dynamic inputs")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("table"))
    return parser.parse_args(arguments)


def measure(model_path: Path, repaired_path: Path, inputs: str, options: BuildOptions, folder: Path, repeats: int) -> list[tuple[Row, str]]:
    """A row and the backend's version for each of the three engines."""
    model = load(model_path)
    samples = [dict(sample.arrays) for sample in load_samples(inputs, signature(model), {})]
    references = outputs_of(model, samples)
    graphs = {"FP32": model, "plain FP16": lower(model, {}), "repaired": typed(repaired_path)}
    rows = []
    for engine, graph in graphs.items():
        path = folder / f"{engine.replace(' ', '_')}.onnx"
        onnx.save(proto_of(graph), path)
        # TF32 would make "FP32" a third precision.
        built = build(path, path.with_suffix(".plan"), replace(options, tf32=engine != "FP32" and options.tf32))
        measured, lost = worst(references, run(built.plan, samples, backend=built.backend))
        predicted, _ = worst(references, outputs_of(emulate(graph), samples))
        time = latency(built.plan, samples[0], backend=built.backend, repeats=repeats)
        proof = built.proof
        sizes = (built.plan_bytes / 2**20, proof.fp16_layers, proof.fp32_layers, proof.source)
        rows.append((Row(engine, measured, predicted, lost, time.median_ms, time.p90_ms, *sizes), built.backend_version))
    return rows


def typed(path: Path) -> Model:
    """The repaired file with the types it carries; ``load`` would make it FP32 again."""
    return Model(gs.import_onnx(onnx.shape_inference.infer_shapes(onnx.load(path))), path.stem)


def outputs_of(model: Model, samples: Sequence[Arrays]) -> list[dict[str, np.ndarray]]:
    session = Session(model)
    return [dict(session.run(sample)) for sample in samples]


def worst(references: Sequence[Arrays], found: Sequence[Arrays]) -> tuple[float, int]:
    """Lowest SQNR of any output over all samples, and how many values are newly not finite."""
    comparison = Comparison()
    for reference, arrays in zip(references, found, strict=True):
        comparison.add(reference, arrays)
    figures = comparison.figures()
    return min(each.sqnr_db for each in figures), sum(each.lost for each in figures)


def plain(row: Row) -> dict[str, object]:
    """For JSON, which knows no infinity: null where nothing differs."""
    return {key: None if value in {math.inf, -math.inf} else value for key, value in asdict(row).items()}


COLUMNS = ("engine", "SQNR dB", "strict emulator said", "new NaN/inf", "median ms", "p90 ms", "plan MiB", "FP16 / FP32 layers")


def markdown(facts: Mapping[str, str], rows: Sequence[Row]) -> str:
    """The table of the README."""
    machine = f"{facts['gpu']} ({facts['capability']}), CUDA {facts['driver_cuda']}"
    head = f"{facts['model']} on {machine}, {facts['backend']} {facts['backend_version']}\n\n"
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    lines += [
        f"| {row.engine} | {row.sqnr_db:.1f} | {row.strict_db:.1f} | {row.lost} | {row.median_ms:.3f} | {row.p90_ms:.3f} "
        f"| {row.plan_mib:.1f} | {row.fp16_layers} / {row.fp32_layers} ({row.proof}) |"
        for row in rows
    ]
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
