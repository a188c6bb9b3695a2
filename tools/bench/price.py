"""The bytes that ``passes.place.price`` says a placement costs, against those that compiled plans move.

    python -m tools.bench.price                     builds some 150 plans, writes tests/passes/price.json and notes/price.md
    python -m tools.bench.price --only layernorm    prints those models' lines only

Ten models, each with 15 placements: single nodes, runs of neighbours, all of one operator, all but products, products alone, everything.
Needs TensorRT-RTX, no GPU.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from fp16fix.engines import BuildOptions, build
from fp16fix.engines.compiled import compiled
from fp16fix.errors import BackendError
from fp16fix.graph.load import model_from_proto
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.operators import CONTROL, PRODUCTS
from fp16fix.graph.ops import is_float_node
from fp16fix.graph.save import save_model
from fp16fix.passes.place.interior import interiors
from fp16fix.passes.place.price import Price
from fp16fix.ranges.sizes import sizes
from tools.bench.subjects import Subject, subjects

ROOT = Path(__file__).parents[2]
RECORD, NOTE = ROOT / "tests" / "passes" / "price.json", ROOT / "notes" / "price.md"
MODELS = (
    "architecture-bert",
    "architecture-convnext",
    "architecture-llama",
    "architecture-sdxl-vae",
    "architecture-t5-encoder",
    "architecture-vit",
    "layernorm-mul-opset11",
    "instancenorm-16-bit-image",
    "longsum-squeeze-excite",
    "mask-minus-1e9",
)
"""Whose plans are recorded."""
SINGLE, RUNS, OPERATORS = 4, 4, 4
"""Placements of each kind."""
HEAD = """# What a placement costs, predicted and in plans

Made by `python -m tools.bench.price`: placements of ten models, built by TensorRT-RTX (no GPU), the bytes of whose plans are read from the
builder's own table. *rank* is Spearman's correlation between the bytes that `fp16fix/passes/place/price.py` predicts and those that plans move
beyond all-FP16; *everything wide* is all of a model in FP32, in bytes beyond all-FP16. `tests/passes/test_price.py` holds the predictions to
this record, and the record to a plan that it builds.

*Insides wide* is what `place.interior` says costs nothing, all of it at once: how many nodes, and what the plan moves over all-FP16. Where that is
more than 1 the compiler put the Cast in front of the border and not behind, or split a kernel; a search takes the few insides that it needs.
Half of an inside is not free: of the last InstanceNormalization and SiLU of `vae-resnet-stream`, all six nodes move the 437,888 bytes of all-FP16,
the four behind the norm 470,656, the norm alone 541,184.

| model | placements | rank | everything wide, predicted | in the plan | insides wide | in the plan |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Candidates:
    """Placements of one model."""

    subject: Subject

    @cached_property
    def model(self) -> Model:
        """FP32, as it came."""
        return model_from_proto(self.subject.build(), self.subject.name)

    @cached_property
    def sample(self) -> dict[str, np.ndarray]:
        """One input, for sizes."""
        return dict(self.subject.samples()[0])

    @cached_property
    def price(self) -> Price:
        """What predicts."""
        return Price(self.model, sizes(self.model, self.sample))

    @cached_property
    def insides(self) -> tuple[str, ...]:
        """Nodes that are said to cost nothing, all together."""
        nodes = [node.name for node in self.model.graph.nodes if is_float_node(node)]
        return tuple(name for group in interiors(self.price, (), nodes) for name in group)

    @cached_property
    def placements(self) -> tuple[tuple[str, ...], ...]:
        """Node names of each; the same every time, nothing wide first."""
        nodes = [node for node in self.model.graph.nodes if is_float_node(node) and node.op not in CONTROL]
        rng = random.Random(1)
        found: list[tuple[str, ...]] = [()]
        found += [(rng.choice(nodes).name,) for _ in range(SINGLE)]
        for _ in range(RUNS):
            first, count = rng.randrange(len(nodes)), rng.choice((2, 3, 5, 8))
            found.append(tuple(node.name for node in nodes[first : first + count]))
        ops = sorted({node.op for node in nodes})
        found += [tuple(node.name for node in nodes if node.op == op) for op in rng.sample(ops, min(OPERATORS, len(ops)))]
        found.append(tuple(node.name for node in nodes if node.op not in PRODUCTS))
        found.append(tuple(node.name for node in nodes if node.op in PRODUCTS))
        found.append(tuple(node.name for node in nodes))
        return tuple(dict.fromkeys(found))

    def built(self, wide: Sequence[str], folder: Path) -> int:
        """Bytes that the plan of a placement moves, weights too.

        Raises:
            BackendError: there is no plan.
        """
        typed = lower(self.model, dict.fromkeys(wide, "fp32"))
        save_model(typed, folder / "graph.onnx")
        shapes = {
            tensor.name: (self.sample[tensor.name].shape,) * 3
            for tensor in typed.graph.inputs
            if not all(isinstance(dim, int) for dim in tensor.shape)
        }
        options = BuildOptions(targets=("sm89",), profiles=(shapes,) if shapes else ())
        found = compiled(typed, build(folder / "graph.onnx", folder / "x.plan", options).proof)
        return found.bytes + sum(found.weights.values())


def record(candidates: Candidates) -> dict[str, int]:
    """Bytes of each placement's plan, by its number; those that have none are left out."""
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="price-") as folder:
        for number, wide in enumerate(candidates.placements):
            try:
                found[str(number)] = candidates.built(wide, Path(folder))
            except BackendError as error:
                print(f"{candidates.subject.name} {number}: {error.what.splitlines()[0]}", file=sys.stderr)
    return found


def rank(candidates: Candidates, found: dict[str, int]) -> float:
    """Spearman's correlation between what is predicted and what plans move."""
    predicted = [candidates.price.of(candidates.placements[int(number)]) for number in found]
    return float(spearmanr(predicted, list(found.values())).statistic)


def line(candidates: Candidates, found: dict[str, int]) -> str:
    """One row of the note."""
    last = str(len(candidates.placements) - 1)
    moved = f"{found[last] - found['0']:,}" if last in found and "0" in found else "–"
    whole, count = candidates.price.of(candidates.placements[-1]), len(candidates.insides)
    with tempfile.TemporaryDirectory(prefix="price-") as folder:
        inside = f"{candidates.built(candidates.insides, Path(folder)) / found['0']:.2f}" if count else "–"
    return f"| {candidates.subject.name} | {len(found)} | {rank(candidates, found):.2f} | {whole:,} | {moved} | {count} | {inside} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """All models, or some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names; their lines are printed, nothing is written")
    given = parser.parse_args(arguments)
    found, lines = {}, []
    for subject in subjects(given.only):
        if subject.name in MODELS:
            candidates = Candidates(subject)
            found[subject.name] = record(candidates)
            lines.append(line(candidates, found[subject.name]))
            print(lines[-1], flush=True)
    if not given.only:
        RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        NOTE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
