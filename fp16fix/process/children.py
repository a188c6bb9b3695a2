"""How a child process of ours is started: never with the working directory on its import path, for whatever lies there would be run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parents[2]
"""The folder that holds this package."""


def command(module: str, *arguments: str) -> list[str]:
    """``python -m module arguments…`` without the working directory (``-P``)."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's environment; an entry of PYTHONPATH that is empty or relative would be the working directory again."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *(entry for entry in given if Path(entry).is_absolute())])}
