"""Peak memory of plain inference and of everything ``locate`` runs, each in a process of its own → a table.

    python -m tools.bench.shadow_memory       prints it; BERT-base needs torch and transformers

Resident sets are above that of a process that only loads the libraries. Plain inference is ONNX Runtime as a user runs it, on the file.
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
from fp16fix.graph.model import Model
from fp16fix.graph.ops import is_float_node
from fp16fix.inputs.files import arrays_from_npz, write_npz
from fp16fix.repair.lower import lower
from fp16fix.search.births import births
from fp16fix.search.segments import Sample
from fp16fix.search.shadow import shadow
from fp16fix.search.share import shares
from tools.bench.bert_base import measured, sentence

SIDE, CHANNELS, DEPTH = 896, 32, 20
"""Activations of 102 MB each."""
ACCUSED = 8
"""Nodes whose share is measured."""


def plain(path: Path, sample: Sample) -> None:
    """What the user's own process does."""
    ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, dict(sample))


def both(path: Path) -> tuple[Model, Model]:
    """FP32 and all-FP16."""
    model = load(path)
    return model, lower(model, {})


def run_shadow(path: Path, sample: Sample) -> None:
    """One shadow pass."""
    shadow(*both(path), [sample])


def run_births(path: Path, sample: Sample) -> None:
    """One pass over exact inputs."""
    births(*both(path), [sample])


def run_shares(path: Path, sample: Sample) -> None:
    """Shares of some nodes, spread over the graph."""
    model, typed = both(path)
    names = [node.name for node in model.graph.nodes if is_float_node(node)]
    shares(model, typed, names[:: max(1, len(names) // ACCUSED)][:ACCUSED], [sample])


def run_load(path: Path, _sample: Sample) -> None:
    """What stands before all of it."""
    both(path)


WAYS: dict[str, Callable[[Path, Sample], None]] = {
    "idle": lambda _path, _sample: None,
    "load": run_load,
    "plain": plain,
    "shadow": run_shadow,
    "births": run_births,
    "shares": run_shares,
}


def chain(path: Path, factor: float) -> dict[str, np.ndarray]:
    """A chain of elementwise nodes on large activations; with a factor past 65504 everything after the first node is lost in FP16."""
    shape = [1, CHANNELS, SIDE, SIDE]
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
        command = (sys.executable, "-m", "tools.bench.shadow_memory", "--way")
        peaks = {way: measured([*command, way, "--model", path, "--sample", sample], Path.cwd()).peak_mib for way in WAYS}
    used = {way: peak - peaks["idle"] for way, peak in peaks.items()}
    cells = [f"{used['plain']:.0f} MiB", *(f"{used[way] / used['plain']:.1f}" for way in ("shadow", "births", "shares"))]
    return f"| {title} | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """The table, or one way in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--sample", type=Path)
    given = parser.parse_args(arguments)
    if given.way is not None:
        WAYS[given.way](given.model, arrays_from_npz(given.sample, str(given.sample)))
        return 0
    print("| | plain inference | shadow / plain | births / plain | shares / plain |\n|---|---:|---:|---:|---:|")
    for title, make in SUBJECTS.items():
        print(row(title, make), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
