"""Files that are elsewhere: ``s3://bucket/m.onnx`` as a ``Path`` (which holds ``s3:/bucket/m.onnx``) and back."""

from __future__ import annotations

import re
from pathlib import Path

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)
"""Two letters or more, so that no drive of Windows is taken for one."""


def is_url(path: Path | str) -> bool:
    """Whether it names something by a protocol, not a file of this machine."""
    return SCHEME.fullmatch(str(path)) is not None


def url_of(path: Path | str) -> str:
    """The URL that a path was read from; a plain path is itself."""
    found = SCHEME.fullmatch(str(path))
    if found is None:
        return str(path)
    scheme, rest = found.groups()
    return f"{scheme}:///{rest}" if scheme in {"file", "local"} else f"{scheme}://{rest}"
