"""``pin`` and ``allow`` → nodes of a model: names by glob, by regular expression (``re:…``), by operator (``op:Softmax``)."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from fnmatch import fnmatchcase

from fp16fix.config import Config
from fp16fix.errors import ConfigError
from fp16fix.graph.model import Model
from fp16fix.passes.design import matches

REGEX, OPERATOR = "re:", "op:"
NEAR = 3
"""Names that an error offers."""
OPERATORS = 40
"""Operators that it lists where none is near."""
ALIKE = 0.5
"""Share of a pattern's text that such a name has in one piece, at least."""


def selected(config: Config, model: Model) -> Config:
    """The config with expressions and operators replaced by the names of the nodes that they mean.

    Globs stay: they also mean nodes that a rewrite makes.

    Raises:
        ConfigError: a pattern that means no node of the model, with near ones.
    """
    if not config.pin and not config.allow:
        return config
    found = {
        key: tuple(dict.fromkeys(name for each in getattr(config, key) for name in nodes_of(each, model, key))) for key in ("pin", "allow")
    }
    return config.model_copy(update=found)


def nodes_of(pattern: str, model: Model, key: str) -> list[str]:
    """What one pattern means. Raises as ``selected``."""
    ops = {node.name: node.op for node in model.nodes()}
    if pattern.startswith(REGEX):
        expression = re.compile(pattern.removeprefix(REGEX))
        found = [name for name in ops if expression.search(name)]
    elif pattern.startswith(OPERATOR):
        found = [name for name, op in ops.items() if fnmatchcase(op, pattern.removeprefix(OPERATOR))]
    else:
        found = [pattern] if any(matches(name, (pattern,)) for name in ops) else []
    if found:
        return found
    said = f"{pattern!r} matches none of the model's {len(ops)} nodes"
    raise ConfigError(said, where=key, hint=near(pattern, ops))


def near(pattern: str, ops: dict[str, str]) -> str:
    """What may have been meant."""
    prefix = OPERATOR if pattern.startswith(OPERATOR) else ""
    known = list(dict.fromkeys(ops.values() if prefix else ops))
    wanted = plain(pattern.removeprefix(OPERATOR).removeprefix(REGEX))
    shared = {each: SequenceMatcher(None, wanted, plain(each)).find_longest_match().size / max(1, len(wanted)) for each in known}
    found = sorted((each for each in known if shared[each] >= ALIKE), key=lambda each: -shared[each])[:NEAR]
    if found:
        return f"did you mean {' or '.join(repr(f'{prefix}{each}') for each in found)}?"
    shown = sorted(known)[:OPERATORS] if prefix else known[:NEAR]
    return f"{'operators' if prefix else 'nodes'} are {', '.join(map(repr, shown))}{', …' if len(known) > len(shown) else ''}"


def plain(text: str) -> str:
    """In small letters, with one sign for all that are none."""
    return re.sub(r"[\W_]+", "/", text.lower()).strip("/")
