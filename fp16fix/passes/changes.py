"""A model and the edits made to it so far: one that fails, or changes the FP32 function, is refused, as if nobody had tried it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from fp16fix.graph.model import Model
from fp16fix.passes.apply import carry_out, prepared
from fp16fix.passes.recipe import Edit, Recipe, Refusal
from fp16fix.passes.sound import Soundness

FAILED = "it failed, which is a fault of its own; everything else goes on without it"


class Changes:
    """What a design does to its model."""

    def __init__(
        self, model: Model, samples: Iterable[Mapping[str, np.ndarray]], refuse: Callable[[Refusal], None], threads: int = 0
    ) -> None:
        """None yet.

        Args:
            model: as it came; never changed, every change that fails leads back to it.
            samples: what FP32 must give the same results on, see ``Soundness``.
            refuse: told of edits that do not stand.
            threads: ONNX Runtime threads.
        """
        self.origin = self.model = model
        self.samples = samples
        self.made: list[Edit] = []
        self.fallen: set[str] = set()
        """Edits by key that did not stand."""
        self.sound = Soundness(model, samples, threads)
        self.refuse = refuse

    def attempt(self, edits: Sequence[Edit]) -> bool:
        """Carry edits out and hold the result against FP32; whether any stands."""
        before = list(self.made)
        self.carry(edits)
        self.prove(before)
        return len(self.made) > len(before)

    def carry(self, edits: Sequence[Edit]) -> None:
        """Carry out what can be; an edit that fails is refused."""
        before = list(self.made)
        try:
            self.change(edits)
        except Exception:  # noqa: BLE001 - rules are many, other packages add theirs, and none may end a repair
            self.keep(self.sifted(before, edits))

    def change(self, edits: Sequence[Edit]) -> None:
        """Carry edits out on a copy, made for the first one. Raises what they raise."""
        if not self.made:
            self.model = self.model.copy()
        carry_out(self.model, edits)
        self.made += edits

    def prove(self, before: Sequence[Edit]) -> bool:
        """Take back, of what was done since, whatever changes the FP32 function; whether all of it stands."""
        new = self.made[len(before) :]
        if not new or not self.sound.fault(self.model):
            return True
        self.keep(self.sifted(before, new))
        return False

    def prove_on_all(self) -> None:
        """The same of everything, on every sample: what runs on one need not run on another of another shape."""
        self.sound.ask_all(list(self.samples))
        self.keep(self.sifted([], self.made))

    def keep(self, edits: Sequence[Edit]) -> None:
        """Go on from the original with these."""
        self.made = list(edits)
        self.model = prepared(self.origin, Recipe(tuple(edits)))

    def sifted(self, kept: Sequence[Edit], new: Sequence[Edit]) -> list[Edit]:
        """``kept`` and those of the new edits that stand, by halves; the rest is refused."""
        why = self.fault([*kept, *new])
        if not why or not new:
            return [*kept, *new]
        if len(new) == 1:
            self.refuse(Refusal(new[0].node or "*", new[0].by, why))
            self.fallen.add(new[0].key)
            return list(kept)
        middle = len(new) // 2
        return self.sifted(self.sifted(kept, new[:middle]), new[middle:])

    def fault(self, edits: Sequence[Edit]) -> str:
        """Why these do not stand; empty if they do."""
        try:
            changed = prepared(self.origin, Recipe(tuple(edits)))
        except Exception as error:  # noqa: BLE001 - see ``carry``
            return failure(error)
        return self.sound.fault(changed)


def failure(error: Exception) -> str:
    """What is said of an edit, or of a rule, that raised."""
    return f"{FAILED} ({type(error).__name__}: {error})"
