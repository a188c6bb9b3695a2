"""Engines beside the one that is delivered: all-FP16, as nobody repaired it, and FP32; what a repair costs is said against them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fp16fix.engines import Built
from fp16fix.engines.compile import build_options, watched
from fp16fix.engines.compiled import Compiled, compiled
from fp16fix.errors import BackendError, first_line
from fp16fix.graph.model import Model
from fp16fix.graph.quantised import dequantizes, quantizes
from fp16fix.graph.save import save_model
from fp16fix.passes.apply import apply
from fp16fix.passes.evidence import Evidence
from fp16fix.progress import Stages
from fp16fix.report.outcome import Cost, EngineFacts

REPAIRED, FULL = "repaired", "FP32"
"""What engines are called."""
COMPARED, GIVEN = 3, 2
"""Builds that a comparison takes, and one with the model as it was given alone."""


@dataclass(frozen=True, slots=True)
class Rival:
    """One engine to compare with."""

    name: str
    typed: Model
    built: Built


def wanted(evidence: Evidence, *, runs: bool) -> tuple[str, ...]:
    """The engines to compare with: both on request or where latencies can be measured; of a quantised model that as it was given.

    Its plan tells the INT8 layers that a repair must keep.
    """
    build, allowed = evidence.config.build, evidence.config.search.builds
    if (build.compare or runs) and allowed >= COMPARED:
        return (f"all-{evidence.model.narrow}", FULL)
    quantised = any(quantizes(node) or dequantizes(node) for node in evidence.model.nodes())
    return (FULL,) if quantised and allowed >= GIVEN else ()


def rivals(
    evidence: Evidence, made: Built, names: Collection[str], onnx_path: Path, stages: Stages
) -> tuple[tuple[Rival, ...], tuple[str, ...]]:
    """Engines of these names, built as the delivered one was; and a sentence for each that there is not."""
    found, said = [], []
    for name in names:
        graph = evidence.model if name == FULL else apply(evidence.model, evidence.plain)
        path = onnx_path.with_name(f"{name}.{onnx_path.name}")
        save_model(graph, path)
        # They carry their types; weak typing would need pins for FP32.
        options = replace(build_options(evidence.config), backend="strong" if made.backend == "weak" else made.backend)
        try:
            found.append(Rival(name, graph, watched(path, path.with_suffix(".plan"), options, stages, f"build {name} to compare")))
        except BackendError as error:
            said.append(f"Nothing to compare with {name}: {error.what.splitlines()[0]}")
    return tuple(found), tuple(said)


def compared(
    evidence: Evidence, made: Built, facts: EngineFacts, names: Collection[str], onnx_path: Path, stages: Stages
) -> tuple[EngineFacts, tuple[Rival, ...]]:
    """The facts with what engines of these names tell beside them, and those engines; whatever fails here is said, and costs no product."""
    try:
        others, said = rivals(evidence, made, names, onnx_path, stages)
        became = facts.compiled
        told = replace(facts, costs=costs(became, others) if became is not None else (), warnings=(*facts.warnings, *said))
        return with_integers(told, others), others
    except Exception as error:  # noqa: BLE001 - nothing that only informs may cost a product
        said_why = f"Nothing to compare with: {type(error).__name__}: {first_line(error)}"
        return replace(facts, warnings=(*facts.warnings, said_why)), ()


def cost(name: str, found: Compiled) -> Cost:
    """Of one engine."""
    return Cost(name, found.kernels, found.crossing, found.weights, len(found.float_products), found.unsized)


def costs(became: Compiled, others: tuple[Rival, ...]) -> tuple[Cost, ...]:
    """Of the delivered engine and those beside it; none where no plan was read."""
    told = (cost(REPAIRED, became), *(cost(each.name, compiled(each.typed, each.built.proof)) for each in others))
    return told if len(others) > 1 and all(each.kernels for each in told) else ()


def with_integers(facts: EngineFacts, others: Iterable[Rival]) -> EngineFacts:
    """Facts with the INT8 products of a plan of the model as it was given, and what is to be said if the repaired one has fewer."""
    for each in others:
        given = compiled(each.typed, each.built.proof)
        if each.name == FULL and given.int8_products:
            before, after = len(given.int8_products), len(facts.compiled.int8_products) if facts.compiled is not None else 0
            lost = (f"Of {before} INT8 products {before - after} are none in the repaired plan.",) if after < before else ()
            return replace(facts, int8_before=before, warnings=(*facts.warnings, *lost))
    return facts
