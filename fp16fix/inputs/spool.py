"""Samples that lie in a scratch folder as long as anybody refers to them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fp16fix.inputs.declared import Admit, anything
from fp16fix.inputs.files import arrays_from_npz


class Spool:
    """A scratch folder that goes away with the last thing that refers to it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fp16fix-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Spooled:
    """One sample of several from one source."""

    spool: Spool
    whole: str
    """Name of what it is a part of."""
    source: str
    index: int

    @property
    def name(self) -> str:
        return f"{self.whole}[{self.index}]"

    @property
    def where(self) -> str:
        return f"{self.source}, sample {self.index}"

    @property
    def path(self) -> Path:
        """Where it lies until nobody needs it."""
        return self.spool.folder / f"{self.index}.npz"

    def read(self, admit: Admit = anything) -> dict[str, np.ndarray]:
        return arrays_from_npz(self.path, self.where, admit)
