"""One step of the way to an answer, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trial:
    """One recipe that was tried on the way to the answer."""

    search: str
    """``draft``, ``ease``, ``refine``, ``leave out``, ``minimise``, ``formats`` or ``build``."""
    tried: str
    """What was different about it, in words."""
    good: bool | None
    """None: it could not be tested."""
    figure: float
    """SQNR of the worst output in dB."""
    wide: int
    """Nodes it places."""
    why: str = ""
    """What the oracle had against it."""
