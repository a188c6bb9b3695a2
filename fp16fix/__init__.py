"""fp16fix: an ONNX model that is right in FP32 and wrong in FP16 becomes a verified TensorRT engine.

``repair``, ``analyse``, ``locate`` and ``verify`` are the stages of the command line as functions; they load numpy, ONNX and
ONNX Runtime only when first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
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


class _Callable(ModuleType):
    """A subpackage that bears a function's name: once imported it stands where the function stood, so it is called like it."""

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return __getattr__(self.__name__.rpartition(".")[2])(*args, **keywords)


class _Package(ModuleType):
    """``fp16fix.repair`` and ``fp16fix.verify`` can be called whichever of the subpackages of these names were imported before."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            value.__class__ = _Callable
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fp16fix' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
