"""Peak memory of plain inference and of everything ``locate`` runs, each in a process of its own → a table.

    python -m tools.bench.shadow_memory       prints it; BERT-base needs torch and transformers

Resident sets are above that of a process that only has libraries and sample. Plain inference is ONNX Runtime as a user runs it, on the
file. A pass is measured from where the model is loaded, so it includes both graphs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from fp16fix.graph.load import load
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.ops import is_float_node
from fp16fix.inputs.files import arrays_from_npz, write_npz
from fp16fix.trace.births import births
from fp16fix.trace.segments import Sample
from fp16fix.trace.shadow import shadow
from fp16fix.trace.share import shares
from tools.bench.bert_base import sentence

SIDE, CHANNELS, DEPTH = 896, 32, 20
"""Activations of 102 MB each."""
ACCUSED = 8
"""Nodes whose share is measured."""


def plain(path: Path, sample: Sample) -> None:
    """What the user's own process does."""
    ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, dict(sample))


def of_eight(model: Model, typed: Model, samples: list[Sample]) -> None:
    """Shares of some nodes, spread over the graph."""
    names = [node.name for node in model.graph.nodes if is_float_node(node)]
    shares(model, typed, names[:: max(1, len(names) // ACCUSED)][:ACCUSED], samples)


PASSES: dict[str, Callable[[Model, Model, list[Sample]], object]] = {"shadow": shadow, "births": births, "shares": of_eight}
WAYS = ("idle", "plain", "load", *PASSES)


def peak_mib(way: str, path: Path, sample: Sample) -> float:
    """Largest resident set of this process while it goes one way; for passes, from the moment when the model is loaded."""
    with tempfile.TemporaryDirectory() as scratch:
        chain(Path(scratch) / "tiny.onnx", 1.0, side=1)
        load(Path(scratch) / "tiny.onnx")  # what is imported when first used
    if way == "plain":
        plain(path, sample)
    elif way != "idle":
        model = load(path)
        typed = lower(model, {})
        if way in PASSES:
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far (Linux, proc(5))
            PASSES[way](model, typed, [sample])
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def chain(path: Path, factor: float, side: int = SIDE) -> dict[str, np.ndarray]:
    """A chain of elementwise nodes on large activations; with a factor past 65504 everything after the first node is lost in FP16."""
    shape = [1, CHANNELS, side, side]
    nodes, x = [helper.make_node("Mul", ["x", "factor"], ["t0"], name="first")], "t0"
    for index in range(1, DEPTH):
        op = ("Relu", "Abs", "Add", "Mul")[index % 4]
        nodes.append(helper.make_node(op, [x, "one"] if op in {"Add", "Mul"} else [x], [f"t{index}"], name=f"{op}_{index}"))
        x = f"t{index}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", x)]
    weights = [helper.make_tensor(name, TensorProto.FLOAT, [1], [value]) for name, value in (("factor", factor), ("one", 1.0))]
    proto = helper.make_graph(nodes, "chain", ends[:1], ends[1:], initializer=weights)
    onnx.save(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return {"x": np.random.default_rng(0).random(shape, dtype=np.float32) + np.float32(0.5)}


def bert(path: Path) -> dict[str, np.ndarray]:
    """BERT-base with random weights."""
    subprocess.run([sys.executable, "-c", f"from tools.bench.bert_base import *; export(Path({str(path)!r}))"], check=True)
    return sentence(1)


SUBJECTS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    f"{DEPTH} nodes on activations of {4 * CHANNELS * SIDE * SIDE / 1e6:.0f} MB": lambda path: chain(path, 1.0),
    "the same, lost from the first node on": lambda path: chain(path, 1e6),
    "BERT-base, 439 MB of weights, sequence 128": bert,
}


def row(title: str, make: Callable[[Path], dict[str, np.ndarray]]) -> str:
    """One subject, every way."""
    with tempfile.TemporaryDirectory(prefix="shadow-memory-") as scratch:
        path, sample = Path(scratch) / "model.onnx", Path(scratch) / "sample.npz"
        write_npz(sample, make(path))
        command = [sys.executable, "-m", "tools.bench.shadow_memory", "--model", str(path), "--sample", str(sample), "--way"]
        ran = {way: subprocess.run([*command, way], stdout=subprocess.PIPE, text=True, check=True).stdout for way in WAYS}
    peaks = {way: float(said.split()[-1]) for way, said in ran.items()}
    used = {way: peak - peaks["idle"] for way, peak in peaks.items()}
    cells = [f"{used['plain']:.0f} MiB", *(f"{used[way] / used['plain']:.1f}" for way in ("load", *PASSES))]
    return f"| {title} | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """The table, or one way in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--sample", type=Path)
    given = parser.parse_args(arguments)
    if given.way is not None:
        print(peak_mib(given.way, given.model, arrays_from_npz(given.sample, str(given.sample))))
        return 0
    print("| | plain inference | loading / plain | shadow / plain | births / plain | shares / plain |\n|---|---:|---:|---:|---:|---:|")
    for title, make in SUBJECTS.items():
        print(row(title, make), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
