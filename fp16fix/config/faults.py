"""What a validator found wrong → one ConfigError in YAML's words, with dotted paths and the keys that were meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from fp16fix.errors import ConfigError

Keys = Mapping[str, "Keys"]
"""Legal keys as a tree; ``*`` stands for any name; a leaf has none below."""

_EXPECTED = {
    "model_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "tuple_type": "a list",
    "string_type": "text",
    "path_type": "a path",
    "int_type": "a whole number",
    "bool_type": "true or false",
}
"""pydantic's words where they speak of Python rather than YAML."""


def config_error(where: str, faults: Sequence[Mapping[str, Any]], keys: Keys) -> ConfigError:
    """All faults as pydantic lists them (``type``, ``loc``, ``msg``, ``input``) in one error, each with its dotted path."""
    lines = [_line(fault, keys) for fault in faults]
    if len(lines) == 1:
        return ConfigError(lines[0], where=where)
    return ConfigError("\n".join((f"{len(lines)} faults", *(f"  {line}" for line in lines))), where=where)


def _line(fault: Mapping[str, Any], keys: Keys) -> str:
    place = _dotted(fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown key; {_nearest(fault['loc'], keys)}"
    if fault["type"] == "missing":
        return f"{place}: is missing"
    expected = _EXPECTED.get(fault["type"]) or str(fault["msg"]).removeprefix("Input should be ")
    said_whole = fault["type"] not in _EXPECTED and not str(fault["msg"]).startswith("Input should be ")
    return f"{place}: {expected}" if said_whole else f"{place}: expected {expected}, found {_found(fault['input'])}"


def _dotted(loc: Sequence[str | int]) -> str:
    """``("models", 1, "wide")`` → ``models[1].wide``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".") or "top level"


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _nearest(loc: Sequence[str | int], keys: Keys) -> str:
    """The legal key meant: one spelt alike at the same place, else one of that name elsewhere, else all at this place."""
    here, path = keys, list(loc[:-1])
    for part in path:
        here = here if isinstance(part, int) else here.get(part, here.get("*", {}))
    near = get_close_matches(str(loc[-1]), list(here), n=1)
    if near:
        return f"did you mean {_dotted([*path, near[0]])!r}?"
    deepest_first = sorted(_leaves(keys), key=lambda dotted: -dotted.count("."))
    elsewhere = {dotted.rpartition(".")[2]: dotted for dotted in deepest_first}
    far = get_close_matches(str(loc[-1]), list(elsewhere), n=1, cutoff=0.8)
    return f"did you mean {elsewhere[far[0]]!r}?" if far else f"legal here: {', '.join(sorted(here))}"


def _leaves(keys: Keys, prefix: str = "") -> Iterator[str]:
    for key, below in keys.items():
        yield prefix + key
        yield from _leaves(below, f"{prefix}{key}.")
