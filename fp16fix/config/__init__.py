"""YAML or flags → one frozen ``Config`` (a ``ZooConfig`` for many models); the only place that knows pydantic."""

from __future__ import annotations

from fp16fix.config.load import load_config, merged
from fp16fix.config.sections import Bounds, Build, Config, Search, ShapeRange, Tolerance, refuse_other_base
from fp16fix.config.zoo import Entry, Limits, ZooConfig, load_zoo

__all__ = [
    "Bounds",
    "Build",
    "Config",
    "Entry",
    "Limits",
    "Search",
    "ShapeRange",
    "Tolerance",
    "ZooConfig",
    "load_config",
    "load_zoo",
    "merged",
    "refuse_other_base",
]
