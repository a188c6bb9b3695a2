"""``Oracle``: anything that can say whether a recipe is good; ``Score``: what it says."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Protocol

from fp16fix.config import Config
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.recipe import Recipe
from fp16fix.passes.workshop import Workshop
from fp16fix.verdict.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Probe:
    """One input of a verdict, as it is or under one seed of the jitter, or all inputs of one kind: it may refute a candidate by itself."""

    sample: str
    """Empty: all of its kind, where only together they tell."""
    blended: bool = False
    """It is a blend of samples."""
    seed: int = 0
    """Of the jitter; 0: none."""


@dataclass(frozen=True, slots=True)
class Score:
    """What an oracle says of one candidate, once."""

    good: bool | None
    """None: cannot be tested (``git bisect`` calls it skip)."""
    figure: float = math.nan
    """The oracle's own number, higher is better (worst SQNR in dB); NaN if it has none."""
    why: str = ""
    """One sentence for the report."""
    spare_db: float = math.inf
    """How far it is above what is asked; inf from an oracle that only says yes or no."""
    nearest: tuple[Probe, ...] = ()
    """Where it was worst, on samples and under each stress, the last first; empty where one input by itself says nothing."""


Ask = Callable[[Recipe], Score]


class Oracle(Protocol):
    """A file of this folder defines one class with these members; ``oracles/__init__.py`` finds it."""

    name: ClassVar[str]
    """What ``search.oracle`` calls it."""
    steady: ClassVar[bool]
    """It cannot contradict itself."""

    @property
    def words(self) -> str:
        """What it is, for the report."""
        ...

    @classmethod
    def refuse(cls, config: Config) -> None:
        """Say at once, before anything is loaded, that it cannot be asked here.

        Raises:
            InputError, BackendError: which and why.
        """
        ...

    @classmethod
    def opened(cls, evidence: Evidence, workshop: Workshop) -> AbstractContextManager[Oracle]:
        """Ready to be asked about recipes for the evidence's model."""
        ...

    def ask(self, recipe: Recipe) -> Score:
        """The score of one recipe.

        Raises:
            BackendError: it broke; what a search had found by then stands.
        """
        ...


def scored(verdict: Verdict) -> Score:
    """A verdict as a score: the worst output decides."""
    figure = math.nan if verdict.worst is None else verdict.worst.depth
    return Score(verdict.verified, figure, "; ".join(verdict.reasons), verdict.spare_db)
