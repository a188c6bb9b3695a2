"""``Trials``: whatever a repair tries goes through one judge, over one FP32 reference; nothing is measured twice, everything is told."""

from __future__ import annotations

import hashlib
import math
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from fp16fix import __version__
from fp16fix.config import Config
from fp16fix.graph.model import Model
from fp16fix.oracles.command import Command
from fp16fix.oracles.emulator import SEARCHED, Emulator, StrictOracle
from fp16fix.oracles.oracle import Score, scored
from fp16fix.passes.evidence import Arrays, Evidence, half_of_blends
from fp16fix.passes.place.share import too_wide
from fp16fix.passes.recipe import Recipe
from fp16fix.passes.workshop import Workshop
from fp16fix.progress import Stages, Tick
from fp16fix.search.journal import Journal, refuse_unusable
from fp16fix.search.judge import BudgetSpentError, Judge, badness
from fp16fix.search.shrink import Holds, Names
from fp16fix.search.trial import Trial
from fp16fix.strict.profiles import profile_named
from fp16fix.trace.outside import takes
from fp16fix.verdict.gauged import metrics_named
from fp16fix.verdict.verdict import Verdict

FEW = 1 << 26
"""Bytes of all values of a graph up to which its sessions hold them for as long as they run, to be asked for the error along it."""


@dataclass(slots=True)
class Trials:
    """Asks the strict oracle, and the user's command if there is one, about recipes."""

    evidence: Evidence
    workshop: Workshop
    emulator: Emulator
    command: Command | None
    journal: Journal | None
    judge: Judge = field(init=False)
    told: dict[tuple[str, str, bool], Trial] = field(default_factory=dict, init=False)
    """Every trial by search, recipe and whether single inputs were asked, in the order made."""
    _verdicts: dict[str, Verdict] = field(default_factory=dict, init=False)
    """By the recipe's digest; a journal holds scores only."""
    _objections: list[str] = field(default_factory=list, init=False)
    hopeless: str = field(default="", init=False)
    """Why no pins mend the last draft that was refined; empty if some may."""

    def __post_init__(self) -> None:
        self.begin("calibration samples")

    def begin(self, about: str) -> None:
        """Forget verdicts: from now on other samples decide."""
        search, before = self.evidence.config.search, getattr(self, "judge", None)
        self._verdicts = {}
        self.judge = Judge(self.measure, self.journal, budget_s=search.budget_s or math.inf, repeats=search.repeats, about=about)
        if before is not None:
            self.judge.calls, self.judge.spent_s, self.judge.contradicted = before.calls, before.spent_s, before.contradicted

    def widen(self, tick: Tick = lambda: None) -> None:
        """From now on held-out samples are judged too, under every seed of the jitter."""
        evidence = self.evidence
        self.emulator.jitter = evidence.config.jitter
        if not evidence.shared:
            self.strict.extend(evidence.held_out, evidence.held_out.names, tick)
            self.strict.blend(half_of_blends(evidence.config, Arrays(evidence.samples)), evidence.ranges.rounds)
        self.begin("all samples")

    def is_comfortable(self, score: Score) -> bool:
        """Whether a recipe is good with the margin that searches want."""
        return score.good is True and score.spare_db >= self.evidence.config.search.margin_db

    def typed(self, recipe: Recipe) -> Model:
        """The graph that an engine is built from."""
        return self.workshop.typed(recipe)

    def score(self, recipe: Recipe, search: str, tried: str) -> Score:
        """Of one recipe, whatever budget is left; out of the journal if it is there."""
        try:
            score = self.judge.ask(recipe).score
        except BudgetSpentError:
            known = self._verdicts.get(recipe.digest)
            score = self.measure(recipe) if known is None else scored(known)
        self.tell(recipe, search, tried, score)
        return score

    def glance(self, recipe: Recipe) -> Score:
        """Of one recipe by strict emulation of the samples alone: no more than what it can be worth, which decides what to ask next.

        Where there are hazards, nobody will want to know what sums reach in plain FP16.
        """
        ill = any(not each.internal for each in self.evidence.hazards)
        return scored(self.emulator.verdict(recipe, stress=False, bounded=recipe.digest != self.evidence.plain.digest or not ill))

    def verdict(self, recipe: Recipe, search: str, tried: str) -> Verdict:
        """Of one recipe, with every figure, which no journal holds."""
        self.score(recipe, search, tried)
        if recipe.digest not in self._verdicts:
            self.measure(recipe)
        return self._verdicts[recipe.digest]

    def holds(
        self,
        search: str,
        recipe_of: Callable[[Names], Recipe],
        words: Callable[[Names], str],
        tick: Tick = lambda: None,
        *,
        least_db: float = -math.inf,
    ) -> Holds:
        """A predicate for ``shrink``: whether the recipe that ``recipe_of`` makes of a set is good.

        Args:
            search: who asks, for the derivation.
            recipe_of: what a set stands for.
            words: what is different about it.
            tick: called for every answer.
            least_db: how far above what is asked it must be, too.
        """

        def ask(names: Names) -> bool:
            recipe = recipe_of(names)
            opinion = self.judge.ask(recipe)
            self.tell(recipe, search, words(names), opinion.score)
            tick()
            return opinion.good and opinion.score.spare_db >= least_db

        return ask

    def tell(self, recipe: Recipe, search: str, tried: str, score: Score, *, alone: bool = False) -> None:
        """Remember what came of a recipe; ``alone``: on single inputs, not by a verdict."""
        self.told.setdefault((search, recipe.digest, alone), Trial(search, tried, score.good, score.figure, len(recipe.wide), score.why))

    def measure(self, recipe: Recipe) -> Score:
        """The judge's oracle: strict emulation, and of what passes it the user's command."""
        verdict = self.emulator.verdict(recipe)
        score = self.emulator.scored(verdict)
        if self.command is not None and verdict.verified:
            said = self.command.ask(recipe)
            verdict = replace(verdict, verified=said.good is True, oracle="strict and command", reasons=() if said.good else (said.why,))
            score = replace(score, good=said.good, why=said.why)
            self._objections += [] if said.good else [said.why]
        worst = self._verdicts.get(recipe.digest)
        if worst is None or badness(scored(verdict)) < badness(scored(worst)):
            # Of repeated runs the worst counts, as for the judge.
            self._verdicts[recipe.digest] = verdict
        return score

    def kept_db(self, recipe: Recipe) -> float:
        """What a search for less than a recipe that was tried must stay above: the margin, if that has it."""
        return self.evidence.config.search.margin_db if self.is_comfortable(self.judge.ask(recipe).score) else -math.inf

    def too_wide(self, recipe: Recipe) -> str:
        """Why a recipe leaves too much in FP32; empty if it does not. Searches do not ask on their way: to less it leads through more."""
        return too_wide(self.workshop.share(recipe), self.evidence.config.max_fp32_share, recipe.wide, recipe.narrow) if recipe.wide else ""

    def objections(self) -> list[str]:
        """What the user's command had against recipes that strict emulation passes."""
        return list(dict.fromkeys(self._objections))

    @property
    def strict(self) -> StrictOracle:
        """The emulator's reference and figures."""
        return self.emulator.strict


@contextmanager
def trials(evidence: Evidence, stages: Stages) -> Iterator[Trials]:
    """Compute the FP32 reference on the calibration samples, and open the journal.

    Raises:
        InputError: the journal cannot be used.
    """
    config, seen = evidence.config, evidence.calibration
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(config.search.journal, subject(evidence))) if config.search.journal is not None else None
        workshop = Workshop(evidence.model, evidence.ranges)
        with stages.stage("FP32 reference", len(seen)) as tick:
            strict = stack.enter_context(
                StrictOracle(
                    evidence.model,
                    seen,
                    config.tolerance.of,
                    names=seen.names,
                    metrics=metrics_named(config.tolerance.metrics),
                    threads=config.threads,
                    along=takes(evidence.model, evidence.ranges) <= FEW,
                    tick=tick,
                )
            )
            strict.blend(half_of_blends(config, seen), evidence.ranges.rounds)
        command = stack.enter_context(Command.opened(evidence, workshop)) if config.search.check is not None else None
        emulator = Emulator(strict, workshop, config.profile, min(config.jitter, SEARCHED))
        yield Trials(evidence, workshop, emulator, command, journal)


def subject(evidence: Evidence) -> dict[str, str]:
    """What a journal is about: another model, samples, oracle or tolerance is another search."""
    config = evidence.config
    return {
        "model": evidence.model.digest,
        "samples": evidence.samples.digest(),
        "oracle": config.search.oracle if config.search.check is None else command_of(config.search.check),
        "tolerance": " ".join([config.tolerance.model_dump_json(), *digests_of_code(config)]),
        "simplified": str(config.simplify),
        "judged": f"fp16fix {__version__}, {config.precision}, {config.profile} profile, {config.io} interface, "
        f"{config.held_out:g} held out, "
        f"{config.headroom:g} octaves, {config.jitter} seeds, {config.blends} blends, "
        f"{config.search.margin_db:g} dB margin, {config.max_fp32_share:g} in FP32",
    }


def digests_of_code(config: Config) -> list[str]:
    """Of the files that metrics come from: one that was changed is another tolerance."""
    files = [Path(file) for use in config.tolerance.metrics for file in [use.metric.rpartition(":")[0]] if file.endswith(".py")]
    return [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files]


SCRIPT = 1 << 20
"""Bytes up to which a file that a command names, or is, counts as a script."""


def command_of(check: str) -> str:
    """A command with the digests of the scripts in it: one that was changed is another oracle."""
    words = [word for word in shlex.split(check) if "{model}" not in word]
    files = [Path(place) for index, word in enumerate(words) if (place := shutil.which(word) if index == 0 else word)]
    scripts = [path for path in files if path.is_file() and path.stat().st_size <= SCRIPT]
    return " ".join([check, *(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}" for path in scripts)])


def refuse_search(config: Config) -> None:
    """Say at once, before anything is loaded, that a profile, a journal or a command cannot be used.

    Raises:
        InputError, BackendError: which and why.
    """
    profile_named(config.profile, config.narrow)
    metrics_named(config.tolerance.metrics)
    if config.search.journal is not None:
        refuse_unusable(config.search.journal)
    Command.refuse(config)
