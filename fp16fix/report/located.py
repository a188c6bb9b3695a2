"""``Located``: everything ``locate`` found, as versioned JSON; the page is a rendering of it.

Sibling of ``outcome.Outcome``; ``notes/location.md`` documents every key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fp16fix.location.culprit import Culprit
from fp16fix.location.locate import AlongPlain
from fp16fix.location.triage import Triage
from fp16fix.report.document import Document
from fp16fix.report.outcome import ModelFacts, SampleFacts
from fp16fix.search.shrink import Minimal

VERSION = 1
"""Of the JSON; raised when a key changes its meaning or goes."""
TAG = "location"
"""Tells the JSON from an outcome's."""


@dataclass(frozen=True, slots=True)
class Located:
    """The result of one ``locate``."""

    triage: Triage
    culprits: tuple[Culprit, ...]
    """Where error is born, worst first."""
    minor: tuple[Culprit, ...]
    """Births too small to matter by themselves."""
    carried: tuple[str, ...]
    """Nodes with damaged results that only pass on what was born before them, in graph order."""
    cures: bool | None
    """Whether pinning what all culprits name makes all-FP16 right on a few samples; null where it is right, or nothing was named."""
    explained: float
    """Damage of all culprits together against that of all-FP16, 1 at most: how complete the list is."""
    along: tuple[AlongPlain, ...]
    """Error of all-FP16 along the main graph, in graph order."""
    minimal: Minimal | None
    """The smallest set that must be FP32, if an oracle was asked."""
    tool: str
    """Version of fp16fix."""
    command: tuple[str, ...]
    """What reproduces this."""
    model: ModelFacts
    samples: SampleFacts
    versions: dict[str, str]
    stages: dict[str, float]
    """Seconds by stage."""
    warnings: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    """What was written, by kind."""
    document: str = TAG
    """What this is; an outcome has no such key."""
    version: int = VERSION


DOCUMENT = Document(
    Located, "location", VERSION, "give the x.locate.json of `fp16fix locate`", "locate again, or use the fp16fix that wrote it", TAG
)
to_json, from_json, save, load = DOCUMENT.to_json, DOCUMENT.from_json, DOCUMENT.save, DOCUMENT.load
