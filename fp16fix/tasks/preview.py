"""What a repair would do, and write where: everything up to the first draft, and nothing on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fp16fix.config import Config
from fp16fix.engines.backend import choose
from fp16fix.engines.compile import build_options
from fp16fix.hazards.hazard import Hazard
from fp16fix.oracles.oracle import Score
from fp16fix.passes.evidence import caveats
from fp16fix.passes.recipe import Recipe, Refusal
from fp16fix.process.memory import seldom_collected
from fp16fix.progress import Silent, Stages, Watcher
from fp16fix.search.answer import designed, untouched
from fp16fix.search.trials import trials
from fp16fix.tasks.prepare import prepared


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be done."""

    files: dict[str, str]
    """By kind: what would be written if the result is verified."""
    backend: str
    """That would build the engine; empty where none is asked for."""
    samples: tuple[str, int, int]
    """Source, how many calibrate, how many are held out."""
    plain: Score
    """All-FP16 as it is, on the calibration samples."""
    recipe: Recipe
    """The first draft; where it fails its verdict, a search pins more. Only what guards unseen inputs where plain FP16 passes."""
    refusals: tuple[Refusal, ...]
    hazards: tuple[Hazard, ...]
    proofs: Mapping[Hazard, str]
    warnings: tuple[str, ...]


@seldom_collected()
def preview(config: Config, watcher: Watcher | None = None) -> Preview:
    """Everything that can be refused is, as by ``repair``; no journal is read or written, nothing is built.

    Raises:
        InputError, BackendError: as ``repair``.
    """
    stages = Stages(watcher or Silent())
    config = config.model_copy(update={"search": config.search.model_copy(update={"journal": None})})
    begun = prepared(config, stages)
    products, evidence = begun.products, begun.evidence
    with evidence.blaming(), trials(evidence, stages) as tried:
        found = untouched(tried, stages)
        draft = found.draft if found is not None else designed(tried, stages)
        plain = tried.score(evidence.plain, "plain", f"all {evidence.model.narrow}")
    samples = evidence.samples
    held = 0 if evidence.shared else len(evidence.held_out)
    return Preview(
        files={kind: str(path) for kind, path in places(products.plan, products.onnx, products.outcome, products.report).items()},
        backend=choose(build_options(evidence.config)).name if begun.wants_plan else "",
        samples=(samples.source, len(evidence.calibration), held),
        plain=plain,
        recipe=draft.recipe,
        refusals=draft.refusals,
        hazards=evidence.hazards,
        proofs=evidence.proofs,
        warnings=caveats(samples, evidence.model),
    )


def places(plan: Path | None, onnx: Path, outcome: Path, report: Path) -> dict[str, Path]:
    """By kind."""
    found = {"onnx": onnx, "outcome": outcome, "report": report}
    return {"plan": plan, **found} if plan is not None else found
