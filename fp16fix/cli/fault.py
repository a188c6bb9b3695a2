"""An error that nobody foresaw → what to say of it, and a file with what whoever mends it needs."""

from __future__ import annotations

import platform
import sys
import tempfile
import traceback
from pathlib import Path

from fp16fix import __version__
from fp16fix.process.versions import versions


def described(error: BaseException) -> str:
    """What happened, that it is no fault of the user's, and what to send."""
    last = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(last[-1].filename).name}:{last[-1].lineno})" if last else ""
    said = str(error).strip().splitlines() or [""]
    what = f"a fault of fp16fix itself: {type(error).__name__}: {said[0][:300]}{place}"
    return f"{what}\n  → please send {written(error)}, and the model if you may; there is nothing to mend in your input"


def written(error: BaseException) -> Path:
    """A new file with traceback, versions and command."""
    installed = [f"{name} {version}" for name, version in versions().items()]
    lines = [f"fp16fix {__version__}, {platform.platform()}", *installed, " ".join(sys.argv), ""]
    with tempfile.NamedTemporaryFile("w", prefix="fp16fix-fault-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write("\n".join([*lines, *traceback.format_exception(error)]))
    return Path(file.name)
