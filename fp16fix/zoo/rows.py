"""How one model ended → its ``Row``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fp16fix.config import Entry
from fp16fix.report.batch import UNVERIFIED, VERIFIED, EngineState, Product, Row, measure
from fp16fix.report.outcome import EngineFacts, Outcome
from fp16fix.zoo import storage


def row_of(name: str, entry: Entry, outcome: Outcome) -> Row:
    """What an outcome says in one row; what was spent on it is added by whoever watched."""
    decisive = outcome.engine.verdict or outcome.verdict
    engine = outcome.engine

    def unit(output: str) -> str | None:
        return entry.tolerance.of(output).unit

    return Row(
        name,
        outcome.model.path,
        VERIFIED if outcome.verified else UNVERIFIED,
        "repaired",
        reasons=(*decisive.reasons, *engine.problems),
        before=tuple(measure(each, unit(each.output)) for each in outcome.before),
        after=tuple(measure(each, unit(each.output)) for each in decisive.outputs),
        conditions=tuple(dict.fromkeys(each.kind for each in outcome.conditions)),
        made_up=outcome.samples.made_up,
        samples=outcome.samples.count,
        fp32_nodes=outcome.counts.fp32_nodes,
        float_nodes=outcome.counts.float_nodes,
        warnings=outcome.warnings,
        engine=engine_state(engine),
    )


def engine_state(engine: EngineFacts) -> EngineState:
    """Of an engine, what a batch tells."""
    became = engine.compiled
    moved = 0 if became is None else became.bytes + sum(became.weights.values())
    dear = 0 if became is None else len(became.float_products)
    return EngineState(engine.status, engine.backend, engine.version, engine.targets, engine.plan_bytes, engine.problems, moved, dear)


def products_of(files: Mapping[str, str]) -> dict[str, Product]:
    """What was delivered, digested."""
    paths = {kind: Path(file) for kind, file in files.items()}
    return {kind: Product(files[kind], storage.digest(path), storage.size(path)) for kind, path in paths.items()}
