"""fp16fix: an ONNX model that is right in FP32 and wrong in FP16 becomes a verified TensorRT engine.

``repair``, ``diagnose``, ``locate``, ``verify`` and ``replay`` are the commands as functions; they load numpy, ONNX and
ONNX Runtime only when first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# ONNX Runtime reads it when it is imported: nothing here talks to a network.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from fp16fix.config import Config
    from fp16fix.report.outcome import Outcome
    from fp16fix.tasks.diagnose import diagnose
    from fp16fix.tasks.locate import locate
    from fp16fix.tasks.repair import repair
    from fp16fix.tasks.replay import replay
    from fp16fix.tasks.verify import verify

__all__ = ["Config", "Outcome", "__version__", "diagnose", "locate", "repair", "replay", "verify"]

_HOMES = {
    "repair": "fp16fix.tasks.repair",
    "replay": "fp16fix.tasks.replay",
    "diagnose": "fp16fix.tasks.diagnose",
    "locate": "fp16fix.tasks.locate",
    "verify": "fp16fix.tasks.verify",
    "Config": "fp16fix.config",
    "Outcome": "fp16fix.report.outcome",
}
"""No folder has the name of one of these: whichever was imported first would win."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fp16fix' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
