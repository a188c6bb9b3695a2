"""``Attempts``: whatever a repair tries goes through one judge, over one FP32 reference; nothing is measured twice."""

from __future__ import annotations

import hashlib
import math
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fp16fix import __version__
from fp16fix.config import Config
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.oracles.command import check, words_of
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.passes.design import Draft
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.recipe import repair_key
from fp16fix.progress import Stages, Tick
from fp16fix.search.journal import Journal, refuse_unusable
from fp16fix.search.judge import BudgetSpentError, Candidate, Judge, Score, badness, scored
from fp16fix.search.shrink import Holds, Names
from fp16fix.verdict.verdict import Figures, Verdict

Wide = Mapping[str, str]
"""Node → format of every pin."""
BF16 = "=bf16"
"""Behind the name of a pin that is not FP32, in a ``Candidate``."""


@dataclass(slots=True)
class Attempts:
    """Asks the strict oracle, and the user's command if there is one, about drafts and pins."""

    found: Evidence
    oracle: StrictOracle
    plain: Model
    """All-FP16, for comparison."""
    before: tuple[Figures, ...]
    """Its figures."""
    judge: Judge = field(init=False)
    tick: Tick = lambda: None
    """Called for every measurement."""
    stopped: str = ""
    """What stopped a search before its end."""
    refused: str = ""
    """What the user's command had against a candidate that strict emulation passes."""
    _drafts: dict[Names, Draft] = field(default_factory=dict, init=False)
    """By what ``Candidate.repairs`` says of them."""
    _verdicts: dict[str, Verdict] = field(default_factory=dict, init=False)
    """By the candidate's digest; a journal holds scores only."""

    def typed(self, draft: Draft, wide: Wide) -> Model:
        """The graph that an engine is built from."""
        config = self.found.config
        return lower(draft.model, wide, io="fp16" if config.io == "fp16" else None, fits=draft.fits(config.headroom))

    def verdict(self, draft: Draft, wide: Wide) -> Verdict:
        """Of one draft with these pins, whatever budget is left."""
        candidate = self.candidate(draft, wide)
        with suppress(BudgetSpentError):
            self.judge.ask(candidate)
        if candidate.digest not in self._verdicts:
            self.measure(candidate)
        return self._verdicts[candidate.digest]

    def holds(self, draft: Draft, wide: Callable[[Names], Wide]) -> Holds:
        """A predicate for searches: whether the verdict passes with the pins that ``wide`` makes of a set."""
        return lambda names: self.judge.good(self.candidate(draft, wide(names)))

    def candidate(self, draft: Draft, wide: Wide) -> Candidate:
        """What the judge knows it by."""
        names = names_of(draft)
        self._drafts[names] = draft
        return Candidate(frozenset(name if fmt == "fp32" else name + BF16 for name, fmt in wide.items()), names)

    def measure(self, candidate: Candidate) -> Score:
        """The judge's oracle."""
        config = self.found.config
        wide = {name.removesuffix(BF16): "bf16" if name.endswith(BF16) else "fp32" for name in candidate.pins}
        typed = self.typed(self._drafts[candidate.repairs], wide)
        verdict = self.oracle.verdict(typed, profile=config.profile)
        score = scored(verdict)
        if config.search.check is not None and verdict.verified:
            said = check(config.search.check, lambda _: typed, timeout_s=config.build.timeout_s)(Candidate())
            verdict = replace(verdict, verified=said.good is True, oracle="strict and command", reasons=() if said.good else (said.why,))
            score = replace(score, good=said.good, why=said.why)
            self.refused = "" if said.good else said.why
        worst = self._verdicts.get(candidate.digest)
        if worst is None or badness(scored(verdict)) < badness(scored(worst)):
            # Of repeated runs the worst counts, as for the judge.
            self._verdicts[candidate.digest] = verdict
        self.tick()
        return score

    @contextmanager
    def stage(self, stages: Stages, name: str) -> Iterator[None]:
        """A stage whose bar moves with every measurement."""
        with stages.stage(name) as self.tick:
            yield
        self.tick = lambda: None


@contextmanager
def attempts(found: Evidence, stages: Stages) -> Iterator[Attempts]:
    """Compute the FP32 reference on the held-out samples and all-FP16 beside it, and open the journal.

    Raises:
        InputError: the journal cannot be used.
    """
    config, held_out = found.config, found.held_out
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(config.search.journal, subject(found))) if config.search.journal is not None else None
        with stages.stage("FP32 reference", len(held_out)) as tick:
            oracle = stack.enter_context(
                StrictOracle(found.model, held_out, config.tolerance.of, names=held_out.names, threads=config.threads, tick=tick)
            )
        plain = lower(found.model, found.model.placed, io="fp16" if config.io == "fp16" else None)
        with stages.stage("plain FP16, strict", len(held_out)) as tick:
            before = oracle.figures(plain, tick=tick)
        made = Attempts(found, oracle, plain, before)
        made.judge = Judge(made.measure, journal, budget_s=config.search.budget_s or math.inf, repeats=config.search.repeats)
        yield made


def subject(found: Evidence) -> dict[str, str]:
    """What a journal is about: another model, samples, oracle or tolerance is another search."""
    config = found.config
    return {
        "model": found.model.digest,
        "samples": found.samples.digest(),
        "oracle": config.search.oracle if config.search.check is None else command_of(config.search.check),
        "tolerance": config.tolerance.model_dump_json(),
        "simplified": str(config.simplify),
        "judged": f"fp16fix {__version__}, {config.profile} profile, {config.io} interface, {config.held_out:g} held out, "
        f"{config.headroom:g} octaves",
    }


SCRIPT = 1 << 20
"""Bytes up to which a file that a command names, or is, counts as a script."""


def command_of(check: str) -> str:
    """A command with the digests of the scripts in it: one that was changed is another oracle."""
    words = [word for word in shlex.split(check) if "{model}" not in word]
    files = [Path(place) for index, word in enumerate(words) if (place := shutil.which(word) if index == 0 else word)]
    scripts = [path for path in files if path.is_file() and path.stat().st_size <= SCRIPT]
    return " ".join([check, *(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}" for path in scripts)])


def names_of(draft: Draft) -> Names:
    """What was done to the model before anything is pinned: repairs by name, and a digest of all their numbers and exponents."""
    recipe = draft.recipe
    digest = hashlib.sha256(repr((recipe.repairs, recipe.exponents, recipe.finish)).encode()).hexdigest()[:16]
    return frozenset([*(repair_key(repair) for repair in (*recipe.repairs, *recipe.finish)), f"recipe {digest}"])


def refuse_search(config: Config) -> None:
    """Say at once, before anything is loaded, that a journal or a command cannot be used.

    Raises:
        InputError, BackendError: which and why.
    """
    if config.search.journal is not None:
        refuse_unusable(config.search.journal)
    if config.search.check is not None:
        words_of(config.search.check)
