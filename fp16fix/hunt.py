"""Config → what breaks FP16 and where: the located culprits, and on request the smallest set of pins that satisfies an oracle."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from fp16fix.config import Config
from fp16fix.graph.model import Model
from fp16fix.graph.ops import is_float_node
from fp16fix.pipeline import design
from fp16fix.progress import Silent, Stages, Watcher
from fp16fix.repair.islands import flops
from fp16fix.repair.lower import lower
from fp16fix.search.check import check
from fp16fix.search.journal import Journal
from fp16fix.search.judge import Candidate, Judge, Oracle, Score
from fp16fix.search.locate import Location
from fp16fix.search.locate import locate as locate_in
from fp16fix.search.minimise import best, by_pins, shrink
from fp16fix.search.triage import read_references
from fp16fix.strict.oracle import StrictOracle
from fp16fix.study import Study, study


@dataclass(frozen=True, slots=True)
class Bisected:
    """The smallest set of nodes that must be FP32 for an oracle to be content."""

    pins: tuple[str, ...]
    oracle: str
    complete: bool
    """False if the search was stopped: the pins do, but fewer may too."""
    stopped: str
    calls: int
    """Oracle calls of this run; answers out of the journal are free."""
    flaky: int
    """Candidates on which repeated runs disagreed."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """What ``locate`` found."""

    location: Location
    bisected: Bisected | None
    study: Study


def locate(
    config: Config, watcher: Watcher | None = None, *, minimise: bool = False, journal: Path | None = None, repeats: int = 1
) -> Hunt:
    """Name what breaks FP16, worst first, and which repair would answer it; with an oracle, the least that must be FP32.

    Args:
        config: ``reference`` gives the framework's outputs for triage; ``search.check`` a command as the oracle; ``search.budget_s``.
        watcher: told of progress.
        minimise: search for the smallest set of pins even without a command, with the strict emulator as the oracle.
        journal: remembers every oracle call on disk, so that an interrupted search goes on where it stopped.
        repeats: how often each candidate is measured, to notice a flaky oracle.

    Raises:
        InputError: the model, samples, references or config.
        BackendError: the command of ``search.check`` cannot be run.
    """
    stages = Stages(watcher or Silent())
    found = study(config, stages)
    draft = design(found, stages)
    references = None
    if config.reference is not None:
        names = [sample.name for sample in found.samples]
        references = read_references(config.reference, names)
    with stages.stage("locate", 3) as tick:
        location = locate_in(
            found.model,
            [sample.arrays for sample in found.samples] if references is not None else found.calibration,
            config.tolerance.of,
            hazards=found.hazards,
            draft=draft,
            references=references,
            threads=config.threads,
            tick=tick,
        )
    bisected = None
    if config.search.check is not None or minimise:
        with stages.stage("minimise"):
            bisected = bisect(found, location, journal, repeats)
    return Hunt(location, bisected, found)


def bisect(found: Study, location: Location, journal: Path | None, repeats: int) -> Bisected:
    """Shrink the set of FP32 nodes under the oracle, most suspicious first; any prefix of the search is an answer."""
    config = found.config
    elements = [node.name for node in found.model.nodes() if is_float_node(node)]
    cost = {node.name: 1.0 + flops(node, found.ranges) for node in found.model.nodes()}
    subject = {
        "model": found.model.digest,
        "samples": found.samples.digest(),
        "oracle": config.search.check or "strict",
        "tolerance": config.tolerance.model_dump_json(),
    }
    with (
        oracle_of(found) as oracle,
        Journal(journal, subject) if journal is not None else nullcontext() as book,
    ):
        judge = Judge(oracle.ask, book, budget_s=config.search.budget_s or math.inf, repeats=repeats)
        result = best(shrink(elements, by_pins(judge), ranking=location.ranking, cost=cost))
    order = {name: index for index, name in enumerate(elements)}
    pins = tuple(sorted(result.best or (), key=lambda name: order[name]))
    stopped = result.stopped if result.best is not None else result.stopped or "not even all nodes in FP32 satisfy the oracle"
    return Bisected(pins, config.search.check or "strict FP16 emulation", result.complete, stopped, judge.calls, len(judge.flaky))


class OracleOf:
    """The user's command, or the strict emulator, over sets of pins."""

    def __init__(self, ask: Oracle, held: StrictOracle | None) -> None:
        self.ask = ask
        self._held = held

    def __enter__(self) -> OracleOf:
        return self

    def __exit__(self, *stopped: object) -> None:
        if self._held is not None:
            self._held.close()


def oracle_of(found: Study) -> OracleOf:
    """See ``OracleOf``."""
    config, model = found.config, found.model

    def typed(candidate: Candidate) -> Model:
        return lower(model, {**model.placed, **dict.fromkeys(candidate.pins, "fp32")}, io="fp16" if config.io == "fp16" else None)

    if config.search.check is not None:
        return OracleOf(check(config.search.check, typed, timeout_s=config.build.timeout_s), None)
    held = StrictOracle(model, found.held_out, config.tolerance.of, threads=config.threads)

    def strict(candidate: Candidate) -> Score:
        verdict = held.verdict(typed(candidate), profile=config.profile)
        return Score(verdict.verified, min((figures.sqnr_db for figures in verdict.outputs), default=math.nan), "; ".join(verdict.reasons))

    return OracleOf(strict, held)
