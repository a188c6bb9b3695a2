"""fp16fix: an ONNX model that is right in FP32 and wrong in FP16 becomes a verified TensorRT engine.

``repair``, ``diagnose``, ``locate``, ``verify`` and ``replay`` are the commands as functions; they load numpy, ONNX and
ONNX Runtime only when first used. Errors are ``Fp16fixError``; ``fp16fix.errors`` has the whole tree.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# ONNX Runtime reads it when it is imported: nothing here talks to a network.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from fp16fix import errors
    from fp16fix.api.calls import Diagnosis, diagnose, locate, repair, replay, verify
    from fp16fix.api.options import Options
    from fp16fix.api.outcome import Outcome
    from fp16fix.api.progress import Progress
    from fp16fix.errors import Fp16fixError

__all__ = [
    "Diagnosis",
    "Fp16fixError",
    "Options",
    "Outcome",
    "Progress",
    "__version__",
    "diagnose",
    "errors",
    "locate",
    "repair",
    "replay",
    "verify",
]

_HOMES = {
    **dict.fromkeys(("Diagnosis", "diagnose", "locate", "repair", "replay", "verify"), "fp16fix.api.calls"),
    "Options": "fp16fix.api.options",
    "Outcome": "fp16fix.api.outcome",
    "Progress": "fp16fix.api.progress",
    "Fp16fixError": "fp16fix.errors",
}
"""No folder has the name of one of these: whichever was imported first would win."""


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("fp16fix.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'fp16fix' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
