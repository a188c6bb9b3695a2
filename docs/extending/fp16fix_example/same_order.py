"""``tolerance.metrics: [same-order]``: the largest value of the first output must be where FP32 has it, in 99 of 100 rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fp16fix.verdict.metric import Measured

LIMIT = 0.99
"""Share of rows that must agree."""


class SameOrder:
    """Top-1 agreement."""

    name: ClassVar[str] = "same-order"

    def __init__(self) -> None:
        self.rows = 0
        self.agree = 0

    def add(self, reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        """One sample, its rows along the last axis."""
        first = next(iter(reference))
        exact, found = np.argmax(reference[first], axis=-1), np.argmax(candidate[first], axis=-1)
        self.rows += np.size(exact)
        self.agree += int(np.count_nonzero(exact == found))

    def result(self) -> Measured:
        """Over all rows."""
        share = self.agree / self.rows if self.rows else 0.0
        return Measured(share, LIMIT, share >= LIMIT)
