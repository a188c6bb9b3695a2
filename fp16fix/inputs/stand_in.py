"""``file.py:function`` → what computes an operator in the place of ONNX Runtime, and says its faults at the user's line."""

from __future__ import annotations

from pathlib import Path

from fp16fix.errors import ConfigError, SampleError, absent
from fp16fix.graph.runtime import StandIn
from fp16fix.plugins.code import blamed, named, user_code

HINT = "it is given the node's inputs in order and its attributes by keyword"


def stand_in(spec: str) -> StandIn:
    """Import the function.

    Raises:
        ConfigError: no such file.
        SampleError: the file fails (with its line), or has no such function.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise ConfigError(absent(path), where=f"stand_ins: {file}", hint="file.py:function")
    with user_code(path):
        function = named(path, name)
    return StandIn(spec, function, lambda: blamed(path, SampleError, HINT))
