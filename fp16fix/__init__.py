"""fp16fix: an ONNX model that is right in FP32 and wrong in FP16 becomes a verified TensorRT engine.

``repair``, ``analyse``, ``locate`` and ``verify`` are the stages of the command line as functions; they load numpy, ONNX and
ONNX Runtime only when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fp16fix.config import Config
    from fp16fix.hunt import locate
    from fp16fix.pipeline import analyse, repair, verify
    from fp16fix.report.outcome import Outcome

__all__ = ["Config", "Outcome", "__version__", "analyse", "locate", "repair", "verify"]

_HOMES = {
    "repair": "fp16fix.pipeline",
    "analyse": "fp16fix.pipeline",
    "locate": "fp16fix.hunt",
    "verify": "fp16fix.pipeline",
    "Config": "fp16fix.config",
    "Outcome": "fp16fix.report.outcome",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fp16fix' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
