"""On a machine with an NVIDIA GPU: what notes/arithmetic.md calls unknown, answered by small engines whose results tell.

    python tools/gpu/settle.py [--backend rtx|strong]

Each question is a model and one input for which FP32 and FP16 arithmetic give results that cannot be taken for each other. Prints the rows
of the table, with the GPU, the driver and the versions. Exit codes: 0 answered, 3 nothing here can run an engine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fp16fix.engines import BuildOptions, build
from fp16fix.engines.backend import STRONG
from fp16fix.engines.execute import can_execute, run
from fp16fix.engines.gpu import gpu_status
from fp16fix.errors import Fp16fixError

Arrays = dict[str, np.ndarray]
SCALE = 2.0**-6
SHORT, LONG, HEAD = 4096, 65536, 64
"""Keys of the two attentions, and the size of a head."""


@dataclass(frozen=True)
class Question:
    """A small model and how its answer reads."""

    name: str
    """Of the row it settles, and which case of it."""
    nodes: tuple[onnx.NodeProto, ...]
    given: Arrays
    weights: Arrays
    read: Callable[[np.ndarray], str]
    """The result ``y`` → the answer."""

    def model(self) -> onnx.ModelProto:
        """All FP16."""
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, array.shape) for name, array in self.given.items()]
        constants = [numpy_helper.from_array(array.astype(np.float16), name) for name, array in self.weights.items()]
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT16, None)
        graph = helper.make_graph(list(self.nodes), "g", inputs, [output], constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return onnx.shape_inference.infer_shapes(made)


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """A node named after what it makes."""
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def finite(found: np.ndarray) -> bool:
    """Whether nothing overflowed."""
    return bool(np.isfinite(found).all())


def half(values: object) -> np.ndarray:
    """As FP16 holds it."""
    return np.asarray(values).astype(np.float16)


def questions() -> tuple[Question, ...]:
    """All of them; whatever order a kernel adds in, the partial sums of halves of one sign pass 65504."""
    up, down = np.full((1024, 64), 12.0), np.full((1, 512), 40.0)
    up[512:] *= -1
    tiny, steps = np.full((64, 64), 2.0**-22), np.linspace(-8.0, 8.0, 4096).reshape(64, 64)

    def attention(keys: int) -> Question:
        given = {"q": np.zeros((1, 4, 64, HEAD)), "k": np.ones((1, 4, HEAD, keys)), "v": np.full((1, 4, keys, HEAD), 2000.0)}
        nodes = (node("MatMul", "q k", "a"), node("Softmax", "a", "b", axis=-1), node("MatMul", "b v", "y"))
        return Question(f"attention-accumulators ({keys} keys)", nodes, given, {}, lambda y: "FP32" if finite(y) else "FP16, unnormalised")

    return (
        Question(
            "accumulators (MatMul, 1024 terms)",
            (node("MatMul", "x w", "y"),),
            {"x": np.tile(np.concatenate([down, down], axis=1), (64, 1))},
            {"w": up},
            lambda y: "FP32" if finite(y) else "FP16",
        ),
        Question(
            "accumulators (Conv, 1024 channels)",
            (node("Conv", "x w", "y"),),
            {"x": np.full((1, 1024, 8, 8), 40.0)},
            {"w": up.T.reshape(64, 1024, 1, 1)},
            lambda y: "FP32" if finite(y) else "FP16",
        ),
        Question(
            "alpha (scalar Mul before a product)",
            (node("Mul", "q s", "a"), node("MatMul", "a k", "y")),
            {"q": np.full((1, 64, 256), 100.0), "k": np.full((1, 256, 64), 10.0)},
            {"s": np.asarray(SCALE)},
            lambda y: "harmless" if finite(y) else "behind an FP16 sum, which overflows",
        ),
        attention(SHORT),
        attention(LONG),
        Question(
            "subnormals (pointwise)",
            (node("Mul", "x w", "y"),),
            {"x": tiny},
            {"w": np.full((64, 64), 0.5)},
            lambda y: "kept" if (y == half(2.0**-23)).all() else "flushed",
        ),
        Question(
            "subnormals (operands of a product)",
            (node("MatMul", "x w", "y"),),
            {"x": tiny},
            {"w": np.full((64, 64), 1024.0)},
            lambda y: "kept" if (y == half(64 * 2.0**-12)).all() else "flushed",
        ),
        Question(
            "exponentials (Exp)",
            (node("Exp", "x", "y"),),
            {"x": steps},
            {},
            lambda y: f"off by at most {ulps(y, np.exp(half(steps).astype(np.float64))):.2f} units in the last place",
        ),
    )


def ulps(found: np.ndarray, exact: np.ndarray) -> float:
    """The largest distance from what is exact, in FP16's spacing there."""
    return float((np.abs(found.astype(np.float64) - exact) / np.spacing(half(exact)).astype(np.float64)).max())


def answer(question: Question, folder: Path, options: BuildOptions) -> str:
    """Build it, run it, read it."""
    onnx.save(question.model(), folder / "question.onnx")
    try:
        plan = build(folder / "question.onnx", folder / "question.plan", options).plan
        sample = {name: half(array) for name, array in question.given.items()}
        (found,) = run(plan, [sample], backend=options.backend)
    except Fp16fixError as error:
        return f"no answer: {error.what.splitlines()[0]}"
    return question.read(np.asarray(found["y"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Every question; the rows go to standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("rtx", "strong"), help="TensorRT-RTX or TensorRT; what is installed")
    chosen = parser.parse_args(arguments)
    able, why = can_execute()
    if not able:
        sys.stderr.write(f"nothing was settled: {why}\nRun this on a machine with an NVIDIA GPU.\n")
        return 3
    gpu = gpu_status()
    backend = chosen.backend or ("strong" if STRONG.importable() else "rtx")
    options = BuildOptions(backend=backend, targets=gpu.capabilities[:1] if backend == "rtx" else ())
    print(f"| assumption | {gpu.devices[0]} ({gpu.capabilities[0]}), CUDA {gpu.cuda}, {backend} |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for question in questions():
            print(f"| **{question.name}** | {answer(question, Path(folder), options)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
