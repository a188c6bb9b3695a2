"""The application with every command registered, in the order of its help."""

from __future__ import annotations

from importlib import import_module

from fp16fix.cli.app import app

__all__ = ["app"]

for module in ("commands", "locate", "export", "batch", "setup"):
    import_module(f"fp16fix.cli.{module}")
