"""``zoo.yaml`` → a complete ``Entry`` for each of many models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from fp16fix.config.file import expand, merge, read_mapping
from fp16fix.config.load import validated, written
from fp16fix.config.sections import TEXT, Amount, Config, Count, OrAlso, Place, Positive, Seconds, Section
from fp16fix.config.urls import is_url, url_of
from fp16fix.errors import ConfigError

Failure = Literal["unverified", "conditions", "made-up", "error", "never"]
"""What makes a batch fail: ``error``, a model without a verdict; ``unverified``, that or a verdict that fails; ``conditions``, that or one
that holds under conditions only; ``made-up``, ``unverified`` or one that rests on made-up inputs; ``never``, nothing."""


def _entry(value: object) -> object:
    """A path alone is short for ``{model: path}``."""
    return {"model": value} if isinstance(value, str) else value


def _list(value: object) -> object:
    """One word is a list of one."""
    return (value,) if isinstance(value, str) else value


class Limits(Section):
    """What one model may take: its process and all that it starts, together."""

    time_s: Seconds | None = None
    """Seconds of wall time; None is no limit."""
    memory_mib: Positive | None = None
    """Memory that is in use; None is no limit."""
    gpus: Amount = 0.0
    """Share of a GPU that Ray sets aside; 0 where the model's engine is not run."""


class Entry(Config):
    """One model of a zoo: every key of a config, and limits."""

    limits: Limits = Limits()


class Scratch(Section):
    """Where files that come from elsewhere lie while their model is worked on."""

    folder: Place | None = None
    """None: the system's folder for temporary files."""
    limit_mib: Positive | None = None
    """What may lie there at a time: a model waits for room, and one that never fits is an error. None is no limit."""


class ZooFile(Section):
    """``zoo.yaml`` as written."""

    defaults: Entry = Entry()
    """Any key of a single model's config, and limits, for all of them."""
    models: Annotated[tuple[Annotated[Entry, BeforeValidator(_entry), OrAlso(TEXT)], ...], Field(min_length=1)]
    """Paths, patterns, URLs, or mappings with a ``model`` and keys of their own over the defaults."""
    output_dir: Annotated[Place, Field(validate_default=True)] = Path("out")
    """Folder or URL for products, reports, the summary and the index page."""
    jobs: Count = 0
    """Models at a time; 0 is as many as cores and memory allow."""
    cache: Place | None = None
    """Folder or URL of results by content; None is ``.fp16fix`` in the output folder, or beside the YAML where that is a URL."""
    lock: Annotated[Place, Field(validate_default=True)] = Path("fp16fix.lock")
    """What the locked run was given and gave."""
    fail_on: Annotated[tuple[Failure, ...], BeforeValidator(_list), Field(min_length=1), OrAlso({"enum": list(get_args(Failure))})] = (
        "unverified",
    )
    """What makes a batch exit with 1."""
    scratch: Scratch = Scratch()

    @model_validator(mode="after")
    def _named(self) -> ZooFile:
        if self.defaults.model is not None or self.defaults.output is not None:
            raise PydanticCustomError("zoo", "defaults: model and output belong under models")
        nameless = [index for index, entry in enumerate(self.models) if entry.model is None]
        if nameless:
            raise PydanticCustomError("zoo", "models[{index}]: model is missing", {"index": nameless[0]})
        return self


class ZooConfig(Section):
    """Many models, each with its own complete ``Entry``."""

    path: Path
    """The YAML file."""
    models: tuple[Entry, ...]
    """In the order written, patterns expanded in sorted order; each has its ``model``, not every one an ``output``."""
    output_dir: Path
    """Where products and the summary go; a folder or the path of a URL (``config.urls``)."""
    jobs: int
    """Models at a time; 0 is as many as cores and memory allow."""
    cache: Path
    """Results by content."""
    lock: Path
    """What the locked run was given and gave."""
    fail_on: tuple[Failure, ...]
    scratch: Scratch


def load_zoo(path: Path) -> ZooConfig:
    """``zoo.yaml`` → one config for each model: defaults, then the entry's own keys.

    ``models`` holds paths, URLs, patterns, or mappings with a ``model`` and any key of ``Entry``. A model met again with the same output
    is taken once, by its last entry: a pattern first and the exceptions after it.

    Raises:
        ConfigError: as ``load_config``, and a pattern that matches nothing.
    """
    folder = path.absolute().parent  # so that everything has one name, wherever it is worked on
    zoo = validated(ZooFile, read_mapping(path), str(path), folder)
    found: dict[tuple[Path | None, Path | None], Entry] = {}
    for index, entry in enumerate(zoo.models):
        where = f"{path}: models[{index}]"
        for config in _expanded(zoo.defaults, entry, folder, where):
            found[config.model, config.output] = config
    beside = folder / ".fp16fix" if is_url(zoo.output_dir) else zoo.output_dir / ".fp16fix"
    return ZooConfig(
        path=path,
        models=tuple(found.values()),
        output_dir=zoo.output_dir,
        jobs=zoo.jobs,
        cache=zoo.cache or beside,
        lock=zoo.lock,
        fail_on=zoo.fail_on,
        scratch=zoo.scratch,
    )


def _expanded(defaults: Entry, entry: Entry, folder: Path, where: str) -> Iterator[Entry]:
    pattern = entry.model or Path()
    models = _matches(pattern, where) if is_url(pattern) else expand(pattern, folder)
    if not models:
        raise ConfigError(f"{str(pattern)!r} matches no file", where=where, hint="patterns start from the folder of the YAML file")
    if len(models) > 1 and entry.output is not None:
        raise ConfigError(f"{len(models)} models would share one output", where=where, hint="leave output out, or name one model")
    for model in models:
        yield validated(Entry, merge(merge(written(defaults), written(entry)), {"model": model}), where, Path())


def failures(words: Sequence[str] | None) -> tuple[Failure, ...] | None:
    """``--fail-on`` flags; None without any.

    Raises:
        ConfigError: a word that is none of them.
    """
    known = get_args(Failure)
    if unknown := [word for word in words or () if word not in known]:
        raise ConfigError(f"{unknown[0]!r} is none of {', '.join(known)}", where="--fail-on")
    return tuple(word for word in known if word in words) if words else None


def _matches(pattern: Path, where: str) -> tuple[Path, ...]:
    """As ``expand``, over a URL."""
    import fsspec
    from fsspec.core import has_magic

    if not has_magic(str(pattern)):
        return (pattern,)
    try:
        files = fsspec.open_files(url_of(pattern), mode="rb")
        return tuple(sorted(Path(file.fs.unstrip_protocol(file.path)) for file in files))
    except Exception as error:  # every file system raises its own
        raise ConfigError(f"cannot be listed ({type(error).__name__}: {error})", where=f"{where}: {url_of(pattern)}") from error
