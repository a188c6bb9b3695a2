"""A YAML file, or flags over a config → a ``Config``, or one error with every fault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import ValidationError

from fp16fix.config.faults import Keys, config_error
from fp16fix.config.file import merge, nested, read_mapping
from fp16fix.config.sections import Config, Section


def load_config(path: Path) -> Config:
    """The config in a YAML file; relative paths in it start from its folder.

    Raises:
        ConfigError: with every fault of the file at once, each with its dotted path.
    """
    return validated(Config, read_mapping(path), str(path), path.parent)


def merged(config: Config, overrides: Mapping[str, object], where: str = "flags") -> Config:
    """``config`` with ``overrides`` (dotted key → value) over it; every key present wins, None included. Errors call them ``where``.

    Mappings (``shapes``, ``tolerance.outputs``) merge key by key, lists are replaced. Relative paths start from the working
    directory.

    Raises:
        ConfigError: a key or a value that means nothing.
    """
    raw = written(config)
    for dotted, value in overrides.items():
        raw = merge(raw, nested(dotted, value))
    return validated(Config, raw, where, Path())


AnySection = TypeVar("AnySection", bound=Section)


def validated(section: type[AnySection], raw: Mapping[str, object], where: str, folder: Path) -> AnySection:
    try:
        return section.model_validate(raw, context={"folder": folder})
    except ValidationError as error:
        raise config_error(where, error.errors(include_url=False), keys(section)) from error


def written(section: Section) -> dict[str, Any]:
    """What was set, without defaults: so that what lies below shows through."""
    return section.model_dump(by_alias=True, exclude_unset=True)


def keys(section: type[Section]) -> Keys:
    """Legal keys under ``section``, as a tree."""
    return {field.alias or name: _below(field.annotation) for name, field in section.model_fields.items()}


def _below(annotation: Any) -> Keys:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return keys(annotation)
    below = next((found for part in get_args(annotation) if (found := _below(part))), {})
    return {"*": below} if below and get_origin(annotation) is dict else below
