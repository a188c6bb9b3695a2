"""How often one repair of a chain of 1,000 nodes, two in eight of them past FP16, copies a whole graph. ``python -m tools.bench.copies``."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import fp16fix
from fp16fix.graph import model as held
from fp16fix.graph import quick
from fp16fix.inputs.files import write_npz

NODES, WIDTH, SEED = 1000, 16, 7
BLOCK = ("MatMul", "Add", "Mul", "Exp", "Add", "Reciprocal", "Sub", "Mul")
"""A steep sigmoid written out, its inputs far from zero: Exp and 1 + Exp pass 65504 in some channels, which Reciprocal heals."""
LARGE = 0.9
"""A copy of this share of the chain's nodes or more is one of the whole graph."""


class Copies:
    """Counts the copies of whole graphs, by who asked for them, and the seconds they took."""

    def __init__(self, least: int) -> None:
        self.least = least
        self.callers: Counter[str] = Counter()
        self.seconds = 0.0

    def wrapped(self, original: Any) -> Any:
        """``copied``, counted."""

        def copied(graph: Any, *outside: Any) -> Any:
            began = time.process_time()
            made = original(graph, *outside)
            self.seconds += time.process_time() - began
            if len(graph.nodes) >= self.least:
                self.callers[caller(sys._getframe(1))] += 1  # noqa: SLF001 - who asks is the question
            return made

        return copied


def caller(frame: FrameType | None) -> str:
    """The first function outside ``graph.model``, as ``module.function``."""
    while frame is not None and frame.f_globals["__name__"] == held.__name__:
        frame = frame.f_back
    return f"{frame.f_globals['__name__'].removeprefix('fp16fix.')}.{frame.f_code.co_name}" if frame is not None else ""


@contextmanager
def counted(least: int) -> Iterator[Copies]:
    """Every module that imports ``quick.copied`` is given the counter, and gets the function back."""
    original, copies = quick.copied, Copies(least)
    holders = [
        module
        for name, module in sys.modules.items()
        if name.startswith("fp16fix") and module is not quick and getattr(module, "copied", None) is original
    ]
    for module in holders:
        vars(module)["copied"] = copies.wrapped(original)
    try:
        yield copies
    finally:
        for module in holders:
            vars(module)["copied"] = original


def chain(count: int) -> onnx.ModelProto:
    """So many nodes in blocks."""
    rng = np.random.default_rng(SEED)
    bias = 1.2 * rng.choice([-1.0, 1.0], WIDTH)
    operands = {1: bias, 2: [-12.0], 4: [1.0], 6: [0.5], 7: [2.0]}
    nodes, weights, x = [], [], "x"
    for index in range(count):
        op, place = BLOCK[index % len(BLOCK)], index % len(BLOCK)
        inputs = [x]
        if op == "MatMul" or place in operands:
            values = 0.15 * np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0] if op == "MatMul" else operands[place]
            weights.append(numpy_helper.from_array(np.asarray(values, np.float32), f"w{index}"))
            inputs.append(f"w{index}")
        x = f"t{index}"
        nodes.append(helper.make_node(op, inputs, [x], name=f"/block.{index // len(BLOCK)}/{op}_{place}"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, WIDTH]) for name in ("x", x)]
    proto = helper.make_graph(nodes, "chain", ends[:1], ends[1:], initializer=weights)
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def repaired(nodes: int) -> tuple[Copies, float]:
    """The copies of one repair, and the seconds of CPU that it took."""
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as folder:
        path, samples = Path(folder) / "chain.onnx", Path(folder) / "samples"
        samples.mkdir()
        onnx.save(chain(nodes), path)
        for index in range(4):
            write_npz(samples / f"{index}.npz", {"x": rng.standard_normal((4, WIDTH)).astype(np.float32)})
        began = time.process_time()
        with counted(int(LARGE * nodes)) as copies:
            fp16fix.repair(path, samples, Path(folder) / "fixed.onnx")
        return copies, time.process_time() - began


def main() -> None:
    """The number, and who asked."""
    copies, took = repaired(NODES)
    lines = [f"{copies.callers.total()} copies of the whole graph, {copies.seconds:.1f} of {took:.1f} s (CPU)"]
    lines += [f"{count:4}  {name}" for name, count in copies.callers.most_common()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
