"""The versions that a result depends on: an outcome records them, and a report of a fault of ours."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

LIBRARIES = ("numpy", "onnx", "onnx-graphsurgeon", "onnxruntime", "onnxsim", "scipy", "tensorrt-rtx-cu13", "tensorrt")


def versions() -> dict[str, str]:
    """Python and the libraries whose behaviour a result depends on, those that are installed."""
    return dict(installed())


@cache
def installed() -> dict[str, str]:
    """The same, looked up once: reading a package's metadata takes milliseconds, and a batch asks for every model."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
