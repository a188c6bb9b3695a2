"""YAML file → plain dict, dicts merged, patterns → paths.

YAML is read more strictly than PyYAML does: no key twice, and ``1e-3`` is a number as in YAML 1.2.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fp16fix.errors import ConfigError

WORD = 64
"""Bits of the largest whole number that YAML may hold."""


class _Loader(yaml.SafeLoader):
    """SafeLoader whose mappings refuse a key that stands twice (PyYAML keeps the last in silence)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """No key takes more than 64 bits, and Python does not even print what has thousands of digits."""
        value: int = super().construct_yaml_int(node)
        if value.bit_length() > WORD:
            raise yaml.constructor.ConstructorError(None, None, "a number past 64 bits", node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in ``path``; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is no YAML, holds a key twice, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=str(path)) from error
    raw = value_of(text, str(path))
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"expected keys and values, found a {type(raw).__name__}", where=str(path), hint="write `model: path.onnx`")
    return {str(key): value for key, value in raw.items()}


def value_of(text: str, where: str) -> Any:
    """What a YAML text says.

    Raises:
        ConfigError: no YAML, nested past what can be read, or a date, number or tag whose text is none.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader underneath
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ConfigError(str(getattr(error, "problem", None) or error), where=f"{where}{line}") from error
    except RecursionError as error:
        raise ConfigError("is nested too deep to be read", where=where, hint="no key needs more than four levels") from error
    except Exception as error:  # PyYAML lets what int, float and datetime raise pass, and an unmatched pattern's AttributeError
        why = f" ({error})" if isinstance(error, ValueError) else ""
        raise ConfigError(f"holds a number, date or tag that is none{why}", where=where, hint="quote what is meant as text") from error


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``: mappings merge key by key, anything else is replaced."""
    both = dict(below)
    for key, value in above.items():
        under = both.get(key)
        both[key] = merge(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return both


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """``("build.tf32", False)`` → ``{"build": {"tf32": False}}``."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return dict(value)


def expand(pattern: Path, folder: Path) -> tuple[Path, ...]:
    """The files that match, sorted; a plain path, or one that exists as it is written, is itself, there or not.

    ``folder`` is taken literally where ``pattern`` begins with it.
    """
    inside = pattern.is_relative_to(folder)
    text = str(pattern.relative_to(folder) if inside else pattern)
    if pattern.exists() or not glob.has_magic(text):
        return (pattern,)
    # glob.glob, for Path.glob takes no absolute patterns
    found = glob.glob(text, root_dir=folder if inside else None, recursive=True)  # noqa: PTH207
    return tuple(sorted(folder / name for name in found)) if inside else tuple(sorted(map(Path, found)))
