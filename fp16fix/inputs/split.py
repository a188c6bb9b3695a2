"""``Samples`` → those that calibrate and those held out for the verdict."""

from __future__ import annotations

import math
from dataclasses import replace

from fp16fix.errors import ConfigError
from fp16fix.inputs.sample import Samples


def split(samples: Samples, fraction: float = 0.5) -> tuple[Samples, Samples]:
    """``(calibration, held_out)``: every k-th sample is held out, spread evenly, the first never; at least one on each side.

    One sample alone serves both, and both say so (``shared``).

    Raises:
        ConfigError: ``fraction`` (the share held out) is not between 0 and 1.
    """
    if not 0.0 < fraction < 1.0:
        raise ConfigError(f"the share held out must lie between 0 and 1, found {fraction}", where="held_out")
    count = len(samples)
    if count < 2:
        alone = replace(samples, shared=True)
        return alone, alone
    held = min(max(math.floor(count * fraction + 0.5), 1), count - 1)
    # Bresenham's line: index i is held out where the running total of held/count passes a whole number.
    out = [index for index in range(count) if (index + 1) * held // count > index * held // count]
    kept = sorted(set(range(count)) - set(out))
    return samples.pick(kept), samples.pick(out)
