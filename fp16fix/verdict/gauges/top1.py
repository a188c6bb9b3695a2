"""``top1``: the share of rows whose largest value stands where FP32 has it.

tolerance:
  metrics: [{metric: top1, output: logits, limit: 0.99}]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fp16fix.verdict.gauges.boxes import output_named
from fp16fix.verdict.metric import Measured


class Top1:
    """Top-1 agreement over the last axis of an output. A share of rows is no error that halves, so it asks for no margin."""

    name: ClassVar[str] = "top1"

    def __init__(self, output: str | None = None, limit: float = 0.99) -> None:
        """``output``: [.., classes], None is the model's first; ``limit``: the least share of rows, 0 to 1."""
        self.output = output
        self.limit = float(limit)
        self.rows = 0
        self.agree = 0

    def add(self, reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        """One sample. A row of another shape agrees in nothing, nor does one that holds NaN in the candidate only."""
        name = self.output or next(iter(reference))
        exact, found = (np.atleast_1d(output_named(outputs, name)) for outputs in (reference, candidate))
        if not exact.size:
            return
        self.rows += exact[..., 0].size
        if exact.shape == found.shape:
            lost = np.isnan(found).any(axis=-1) & ~np.isnan(exact).any(axis=-1)
            self.agree += int(np.count_nonzero((exact.argmax(axis=-1) == found.argmax(axis=-1)) & ~lost))

    def result(self) -> Measured:
        """Over all rows of all samples; nothing agrees where there are none."""
        share = self.agree / self.rows if self.rows else 0.0
        return Measured(share, self.limit, share >= self.limit)
