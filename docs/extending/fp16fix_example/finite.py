"""``search.oracle: finite``: content with any answer in which no value was lost, however coarse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from fp16fix.config import Config
from fp16fix.oracles.emulator import Emulator
from fp16fix.oracles.oracle import Score
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.recipe import Recipe
from fp16fix.passes.workshop import Workshop


class Finite:
    """Strict emulation, asked only whether numbers stay numbers."""

    name: ClassVar[str] = "finite"
    steady: ClassVar[bool] = True
    words: ClassVar[str] = "no new NaN or infinity under strict FP16 emulation"

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator

    @classmethod
    def refuse(cls, config: Config) -> None:
        """It can be asked anywhere."""

    @classmethod
    @contextmanager
    def opened(cls, evidence: Evidence, workshop: Workshop) -> Iterator[Finite]:
        """On top of the emulator."""
        with Emulator.opened(evidence, workshop) as emulator:
            yield cls(emulator)

    def ask(self, recipe: Recipe) -> Score:
        """How many values were lost."""
        lost = sum(each.lost for each in self.emulator.verdict(recipe).outputs)
        return Score(good=not lost, figure=-float(lost), why=f"{lost} values are lost" if lost else "")
