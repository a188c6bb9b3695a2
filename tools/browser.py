"""Chromium without a window, for pages that are looked at and tested.

``apt-get install chromium`` puts it where ``PATHS`` looks; ``FP16FIX_CHROMIUM`` names another one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VARIABLE = "FP16FIX_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = f"no Chromium: apt-get install chromium, or name one in {VARIABLE}"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """Its path; None where there is none."""
    return os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that ends with the block.

    Raises:
        SystemExit: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    path = chromium()
    if path is None:
        raise SystemExit(MISSING)
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield found
        finally:
            found.close()
