"""``zoo.yaml`` → a complete ``Config`` for each of many models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from fp16fix.config.file import expand, merge, read_mapping
from fp16fix.config.load import validated, written
from fp16fix.config.sections import Config, Count, Place, Section
from fp16fix.errors import ConfigError


def _entry(value: object) -> object:
    """A path alone is short for ``{model: path}``."""
    return {"model": value} if isinstance(value, str) else value


class _Zoo(Section):
    """``zoo.yaml`` as written."""

    defaults: Config = Config()
    models: Annotated[tuple[Annotated[Config, BeforeValidator(_entry)], ...], Field(min_length=1)]
    output_dir: Annotated[Place, Field(validate_default=True)] = Path("out")
    jobs: Count = 1

    @model_validator(mode="after")
    def _named(self) -> _Zoo:
        if self.defaults.model is not None or self.defaults.output is not None:
            raise PydanticCustomError("zoo", "defaults: model and output belong under models")
        nameless = [index for index, entry in enumerate(self.models) if entry.model is None]
        if nameless:
            raise PydanticCustomError("zoo", "models[{index}]: model is missing", {"index": nameless[0]})
        return self


class ZooConfig(Section):
    """Many models, each with its own complete ``Config``."""

    models: tuple[Config, ...]
    """In the order written, patterns expanded in sorted order; each has its ``model``, not every one an ``output``."""
    output_dir: Path
    """Where products and the summary go."""
    jobs: int
    """Models at a time; 0 is one for each core."""


def load_zoo(path: Path) -> ZooConfig:
    """``{defaults, models, output_dir, jobs}`` → one config for each model: defaults, then the entry's own keys.

    ``models`` holds paths, patterns, or mappings with a ``model`` and any key of ``Config``. A model met again with the same output is
    taken once, by its last entry: a pattern first and the exceptions after it.

    Raises:
        ConfigError: as ``load_config``, and a pattern that matches nothing.
    """
    zoo = validated(_Zoo, read_mapping(path), str(path), path.parent)
    found: dict[tuple[Path | None, Path | None], Config] = {}
    for index, entry in enumerate(zoo.models):
        where = f"{path}: models[{index}]"
        for config in _expanded(zoo.defaults, entry, path.parent, where):
            found[config.model, config.output] = config
    return ZooConfig(models=tuple(found.values()), output_dir=zoo.output_dir, jobs=zoo.jobs)


def _expanded(defaults: Config, entry: Config, folder: Path, where: str) -> Iterator[Config]:
    pattern = entry.model or Path()
    models = expand(pattern, folder)
    if not models:
        raise ConfigError(f"{str(pattern)!r} matches no file", where=where, hint="patterns start from the folder of the YAML file")
    if len(models) > 1 and entry.output is not None:
        raise ConfigError(f"{len(models)} models would share one output", where=where, hint="leave output out, or name one model")
    for model in models:
        yield validated(Config, merge(merge(written(defaults), written(entry)), {"model": model}), where, Path())
