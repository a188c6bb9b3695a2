"""Whatever can say whether a recipe is good: one file each, found by its being there, or by an entry point of ``fp16fix.oracles``."""

from __future__ import annotations

from fp16fix.config import Config
from fp16fix.errors import ConfigError
from fp16fix.oracles.oracle import Oracle
from fp16fix.plugins import found

COMMAND = "command"
"""The oracle that ``search.check`` stands for."""


def oracles() -> dict[str, type[Oracle]]:
    """Every oracle by name."""
    return {each.name: each for each in found(__name__, __path__, "fp16fix.oracles", lambda kind: hasattr(kind, "opened"))}


def asked_for(config: Config) -> type[Oracle]:
    """The oracle that a search asks.

    Raises:
        ConfigError: there is none of that name.
    """
    known, name = oracles(), COMMAND if config.search.check is not None else config.search.oracle
    if name not in known:
        raise ConfigError(f"there is no oracle {name!r}", where="search.oracle", hint=f"choose one of {', '.join(sorted(known))}")
    return known[name]
