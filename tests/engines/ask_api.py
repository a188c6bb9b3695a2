"""Prints, for each entry of the API table given as JSON: whether these bindings have it, and its docstring."""

from __future__ import annotations

import importlib
import json
import sys

from fp16fix.engines.api import find, missing

trt = importlib.import_module(sys.argv[2] if len(sys.argv) > 2 else "tensorrt_bindings")
needs = json.loads(sys.argv[1])
lacking = set(missing(trt, tuple(needs)))
print(json.dumps({need: None if need in lacking else str(getattr(find(trt, need), "__doc__", "")) for need in needs}))
