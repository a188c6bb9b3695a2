"""Pages whose figures come from a run: Markdown with places for them, as Jinja has it, and the name of an example at the head.

```
---
kind: overflow
example: layernorm-pow-opset13
---
# A norm written out

The largest deviation from the mean is {{ number(it.largest("/layers.0/norm1/Sub_output_0")) }}.
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import DictLoader, Environment, StrictUndefined

from fp16fix import half
from fp16fix.hazards.hazard import Kind
from fp16fix.report.words import number
from tools.docs.examples import Example, commanded, example
from tools.docs.picture import SCHEMES, drawn

FENCE = "---\n"


@dataclass(frozen=True, slots=True)
class Page:
    """A template and what its head says."""

    path: Path
    example: str
    kind: Kind | None
    """Of hazard; the page of a failure class has one."""
    body: str


def read(path: Path) -> Page | None:
    """A page with a head; None if it has none, and is Markdown as it stands."""
    text = path.read_text(encoding="utf-8")
    if not text.startswith(FENCE):
        return None
    head, _, body = text.removeprefix(FENCE).partition(FENCE)
    said: dict[str, str] = yaml.safe_load(head)
    return Page(path, said["example"], Kind(said["kind"]) if "kind" in said else None, body)


def filled(page: Page) -> str:
    """The page with the figures of its example, whose pictures are written beside it; a figure that there is not is an error."""
    found = example(page.example)
    words: dict[str, Any] = {
        "it": found,
        "console": commanded,
        "fp16": half_of,
        "spacing": half.FP16.spacing,
        "number": number,
        "whole": int,
    }
    if page.kind is not None:
        words["picture"] = pictured(page, found)
    # Loaded by its name, so that a fault is told with file and line.
    pages = DictLoader({page.path.name: page.body})
    environment = Environment(loader=pages, undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)  # Markdown, not HTML
    return environment.get_template(page.path.name).render(words)


def pictured(page: Page, found: Example) -> str:
    """One figure for light pages and one for dark ones; the theme shows either."""
    folder = page.path.parent / "pictures"
    folder.mkdir(exist_ok=True)
    for scheme in SCHEMES:
        (folder / f"{page.path.stem}-{scheme}.svg").write_text(drawn(found.document, scheme), encoding="utf-8")
    return "\n".join(
        f"```{{figure}} pictures/{page.path.stem}-{scheme}.svg\n:alt: {found.pictured}\n:figclass: only-{scheme}\n\n{found.caption}\n```\n"
        for scheme in SCHEMES
    )


def half_of(value: float) -> float:
    """As FP16 stores it."""
    import numpy as np

    with np.errstate(over="ignore"):
        return float(np.float16(value))
