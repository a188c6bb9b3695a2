"""In: the ill models of ``tests/ill`` and the demo detector. Out: ``Subject`` objects that can be written to disk as a user has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from fp16fix.inputs.files import write_npz
from tests.ill.case import Case, Feeds, cases

DEMO = Path(__file__).parents[2] / "tests" / "demo"
FREE = frozenset({3, 4, 5, 7, 10, 11, 16})
"""Failure classes whose repair must not cost one FP32 node (of class 11, the rows that can be rescaled)."""
MIXED = 21
"""The class of models that arrive mixed: what their author placed in FP32 stays there."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One model to repair, and everything it is judged on."""

    name: str
    classes: tuple[int, ...]
    build: Callable[[], onnx.ModelProto]
    samples: Callable[[], Sequence[Feeds]]
    """What the tools are given: half calibrates, as ``repair`` splits them."""
    beyond: Callable[[], Sequence[Feeds]]
    """Inputs that only the judge sees: a fully masked row, a longer sequence, values four times larger."""
    harmless: bool
    free: bool
    """Must end with no FP32 node."""
    needs: tuple[str, ...] = ()
    """Modules that ``build`` imports."""

    @property
    def mixed(self) -> bool:
        """The author placed nodes in FP32."""
        return MIXED in self.classes

    def write(self, folder: Path) -> tuple[Path, Path]:
        """The model and a folder of ``.npz`` samples."""
        model, samples = folder / f"{self.name}.onnx", folder / "samples"
        onnx.save(self.build(), model)
        samples.mkdir()
        for index, feeds in enumerate(self.samples()):
            write_npz(samples / f"sample{index}.npz", feeds)
        return model, samples


def from_case(case: Case) -> Subject:
    """An ill model of the tests."""
    beyond = case.held_out if case.held_out is not None else list
    free = case.free and bool(FREE & set(case.classes)) and MIXED not in case.classes
    return Subject(case.name, case.classes, case.build, case.samples, beyond, case.harmless, free, case.needs)


def demo() -> Subject:
    """The detector of the README, trained here, with scenes it was not trained on."""

    def scenes() -> list[Feeds]:
        return [dict(np.load(path)) for path in sorted((DEMO / "samples").glob("*.npz"))]

    return Subject("demo-detector", (1, 4, 12, 22), lambda: onnx.load(DEMO / "detector.onnx"), scenes, list, False, False)


def subjects(only: Sequence[str] = ()) -> list[Subject]:
    """Every subject, or those whose name holds one of ``only``; the demo comes last."""
    found = [*map(from_case, cases()), demo()]
    return [each for each in found if not only or any(part in each.name for part in only)]
