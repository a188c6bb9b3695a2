"""Evidence and location → ``Minimal``: the least that must be FP32 for an oracle to be content, whichever oracle the user trusts."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from fp16fix.config import Config
from fp16fix.engines import build
from fp16fix.engines.compile import source_of
from fp16fix.errors import BackendError, BuildError
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.ops import is_float_node
from fp16fix.graph.save import save_model
from fp16fix.location.locate import Location
from fp16fix.oracles.command import check
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.oracles.engine import refuse_unrunnable, verdict_of
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.place.islands import flops
from fp16fix.progress import Tick
from fp16fix.search.journal import Journal
from fp16fix.search.judge import BudgetSpentError, Candidate, Judge, Oracle, Score, scored
from fp16fix.search.shrink import INTERRUPTED, Culprits, Minimal, Result, best, by_pins, culprits
from fp16fix.search.trials import refuse_search, subject

CONFIRMED = 2
"""Runs of the answer and of all-FP16 under an oracle that may contradict itself."""
CONTRADICTION = "asked again about this very set, the oracle says no"


def is_asked(config: Config) -> bool:
    """Whether the user wants it."""
    return config.search.check is not None or config.search.minimise


def journal_of(found: Evidence) -> AbstractContextManager[Journal | None]:
    """The journal of the search, if there is to be one and it is to be remembered.

    Raises:
        InputError: it cannot be used.
    """
    place = found.config.search.journal
    return Journal(place, subject(found)) if place is not None and is_asked(found.config) else nullcontext()


def minimal(found: Evidence, location: Location, journal: Journal | None = None, tick: Tick = lambda: None) -> Minimal:
    """Shrink the set of FP32 nodes, most suspicious first; any prefix of the search is an answer.

    Args:
        found: ``search`` in its config names oracle and budgets.
        location: for the order of suspicion.
        journal: remembers.
        tick: called after every oracle call.

    Raises:
        BackendError: the oracle cannot be asked at all. One that breaks later ends the search, and what was found stands.
    """
    config, order = found.config, [node.name for node in found.model.nodes() if is_float_node(node)]
    cost = {node.name: 1.0 + flops(node, found.ranges) for node in found.model.nodes()}
    with asked(found) as oracle:
        judge = Judge(
            ticking(oracle.ask, tick),
            journal,
            budget_s=config.search.budget_s or math.inf,
            budget_calls=config.search.calls or math.inf,
            repeats=config.search.repeats,
        )
        result = best(culprits(order, location.ranking, by_pins(judge), cost=cost))
        doubt = confirmed(judge, result.best) if result.best is not None and result.complete and not oracle.is_steady else ""
        if doubt:
            result = replace(result, complete=False, stopped=doubt)
    return told(result, order, oracle.words, judge)


def told(result: Result[Culprits], order: list[str], oracle: str, judge: Judge) -> Minimal:
    """The result in graph order, with what must be said of it."""
    place = {name: index for index, name in enumerate(order)}
    answer = result.best or Culprits(frozenset())
    nothing = "" if result.best is not None or result.stopped else nothing_holds(judge)
    return Minimal(
        pins=tuple(sorted(answer.pins, key=place.__getitem__)),
        together=tuple(tuple(sorted(fault, key=place.__getitem__)) for fault in answer.faults if len(fault) > 1),
        oracle=oracle,
        complete=result.complete and not nothing,
        stopped=result.stopped or nothing,
        calls=judge.calls,
        flaky=len(judge.flaky),
    )


def nothing_holds(judge: Judge) -> str:
    """Why a search came to its end without an answer."""
    if judge.untestable:
        return f"nothing that was tried satisfies the oracle, and it could not test {judge.untestable} of the candidates"
    return "not even all nodes in FP32 satisfy the oracle"


def confirmed(judge: Judge, answer: Culprits) -> str:
    """Ask once more about the two candidates that everything hangs on; why the answer is in doubt, empty if it is not."""
    try:
        for pins in (frozenset[str](), answer.pins):
            judge.ask(Candidate(pins), repeats=max(CONFIRMED, judge.repeats))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BudgetSpentError, BackendError) as error:
        return f"not asked again about this set: {error.what}"
    return "" if judge.good(Candidate(answer.pins)) else CONTRADICTION


def ticking(oracle: Oracle, tick: Tick) -> Oracle:
    """The same oracle, and whoever is looking hears of every call."""

    def ask(candidate: Candidate) -> Score:
        score = oracle(candidate)
        tick()
        return score

    return ask


@dataclass(frozen=True, slots=True)
class Asked:
    """An oracle over sets of pins."""

    ask: Oracle
    words: str
    """What it is, for the report."""
    is_steady: bool
    """It cannot contradict itself."""


@contextmanager
def asked(found: Evidence) -> Iterator[Asked]:
    """The user's command, TensorRT engines on the GPU of this machine, or the strict emulator."""
    config, model = found.config, found.model

    def typed(candidate: Candidate) -> Model:
        return lower(model, {**model.placed, **dict.fromkeys(candidate.pins, "fp32")}, io="fp16" if config.io == "fp16" else None)

    if config.search.check is not None:
        yield Asked(check(config.search.check, typed, timeout_s=config.build.timeout_s), config.search.check, is_steady=False)
    elif config.search.oracle == "tensorrt":
        yield Asked(engines(found, typed), "TensorRT engines on this machine's GPU", is_steady=False)
    else:
        with StrictOracle(model, found.held_out, config.tolerance.of, names=found.held_out.names, threads=config.threads) as oracle:
            words = "strict FP16 emulation" if config.profile == "engine" else "strict FP16 emulation, pessimistic profile"
            yield Asked(lambda candidate: scored(oracle.verdict(typed(candidate), profile=config.profile)), words, is_steady=True)


def engines(found: Evidence, typed: Callable[[Candidate], Model]) -> Oracle:
    """Builds an engine for each candidate and runs it on the held-out samples; one that does not build or run cannot be tested."""
    config = found.config

    def ask(candidate: Candidate) -> Score:
        with tempfile.TemporaryDirectory(prefix="fp16fix-engine-") as folder:
            path = Path(folder) / "model.onnx"
            pins = {**found.model.placed, **dict.fromkeys(candidate.pins, "fp32")}
            save_model(typed(candidate), path)
            source, options = source_of(config, found.model, pins, path)
            try:
                built = build(source, path.with_suffix(".plan"), options)
                return scored(verdict_of(config, built.plan, found.model, found.held_out, built.backend, found.held_out.names))
            except BuildError as error:
                return Score(None, why=error.what)

    return ask


def refuse_oracle(config: Config) -> None:
    """Say at once, before anything is loaded, that the oracle asked for cannot be asked here, or its journal cannot be used.

    Raises:
        BackendMissingError: no engine runs here.
        ConfigError, BackendError: a command that cannot be run.
    """
    refuse_search(config)
    if config.search.check is None and config.search.oracle == "tensorrt":
        refuse_unrunnable("search.oracle: tensorrt", "leave the strict emulator as the oracle, or give --check 'command {model}'")
