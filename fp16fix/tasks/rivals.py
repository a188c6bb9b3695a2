"""Engines beside the one that is delivered: all-FP16, as nobody repaired it, and FP32; what a repair costs is said against them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fp16fix.engines import Built
from fp16fix.engines.compile import build_options, watched
from fp16fix.engines.compiled import Compiled, compiled
from fp16fix.errors import BackendError
from fp16fix.graph.model import Model
from fp16fix.graph.save import save_model
from fp16fix.passes.apply import apply
from fp16fix.passes.evidence import Evidence
from fp16fix.progress import Stages
from fp16fix.report.outcome import Cost

REPAIRED, COMPARED = "repaired", 3
"""What the delivered engine is called, and the builds that a comparison takes."""


@dataclass(frozen=True, slots=True)
class Rival:
    """One engine to compare with."""

    name: str
    typed: Model
    built: Built


def rivals(evidence: Evidence, made: Built, onnx_path: Path, stages: Stages) -> tuple[tuple[Rival, ...], tuple[str, ...]]:
    """All-FP16 and FP32 engines, built as the delivered one was; and a sentence for each that there is not."""
    found, said = [], []
    for name, graph in (("all-FP16", apply(evidence.model, evidence.plain)), ("FP32", evidence.model)):
        path = onnx_path.with_name(f"{name}.{onnx_path.name}")
        save_model(graph, path)
        # They carry their types; weak typing would need pins for FP32.
        options = replace(build_options(evidence.config), backend="strong" if made.backend == "weak" else made.backend)
        try:
            found.append(Rival(name, graph, watched(path, path.with_suffix(".plan"), options, stages, f"build {name} to compare")))
        except BackendError as error:
            said.append(f"Nothing to compare with {name}: {error.what.splitlines()[0]}")
    return tuple(found), tuple(said)


def cost(name: str, found: Compiled) -> Cost:
    """Of one engine."""
    return Cost(name, found.kernels, found.crossing, found.weights, len(found.float_products), found.unsized)


def costs(became: Compiled, others: tuple[Rival, ...]) -> tuple[Cost, ...]:
    """Of the delivered engine and those beside it; none where no plan was read."""
    told = (cost(REPAIRED, became), *(cost(each.name, compiled(each.typed, each.built.proof)) for each in others))
    return told if others and all(each.kernels for each in told) else ()
