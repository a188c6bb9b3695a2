"""Keywords and a config, which is a YAML file or its keys → one ``Config``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from fp16fix.config import Config

PathLike = Path | str
Keys = Mapping[str, Any]
"""A nest of YAML keys."""


class Options(TypedDict, total=False):
    """Every key of the YAML but those that are arguments, as keywords; ``fp16fix schema`` has their bounds."""

    made: int
    shapes: Mapping[str, Sequence[int] | str]
    box: Mapping[str, tuple[float, float]]
    reference: PathLike | None
    engine: PathLike | None
    fp32_engine: PathLike | None
    precision: Literal["fp16", "bf16"]
    io: Literal["fp32", "fp16", "bf16"]
    wide: Literal["fp32", "bf16", "auto"]
    headroom: float
    headroom_down: float
    only_exact: bool
    pin: Sequence[str]
    allow: Sequence[str]
    opset: int | None
    held_out: float
    seed: int
    simplify: bool
    keep_unverified: bool
    fast: bool
    profile: str
    tolerance: Keys
    jitter: int
    blends: int
    max_fp32_share: float
    strict_accumulation: bool
    build: Keys
    search: Keys
    device: Literal["cpu", "cuda"]
    ort_libraries: Sequence[PathLike]
    stand_ins: Mapping[str, str]
    threads: int


ARGUMENTS = ("model", "output", "inputs", "module")
"""Keys of the YAML that are arguments of their own."""
WHERE = "keywords"
"""What an error calls them."""


def config_of(config: PathLike | Keys | None, options: Keys, **arguments: PathLike | None) -> Config:
    """What a call asks for: ``config`` (a YAML file, or its keys), keywords over it, ``arguments`` over both.

    Raises:
        ConfigError: a key or keyword that means nothing, with the one that was meant; a value of another type or out of bounds.
    """
    from fp16fix.config import Config, load_config, merged

    refuse_arguments(options)
    base = load_config(Path(config)) if isinstance(config, (str, Path)) else merged(Config(), plain(config or {}), where="config")
    given = {key: plain(value) for key, value in arguments.items() if value is not None}
    return merged(base, {**plain(options), **given}, where=WHERE)


def refuse_arguments(options: Keys) -> None:
    """A keyword that looks like an argument is said to be none by Python itself; ``json`` prints, and nothing here does."""
    from fp16fix.errors import ConfigError

    if "json" in options:
        raise ConfigError("json: is for the command line", where=WHERE, hint="outcome.to_json() gives the document")


def plain(value: Any) -> Any:
    """The same in YAML's types: paths are text, sequences lists."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value
