"""Text of ``--shape`` and ``--profile`` → dimensions; light enough for the command line to import."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fp16fix.errors import ConfigError

Dims = tuple[int, ...]
_DIMS = re.compile(r"\d+(x\d+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class InputShapes:
    """The range of shapes of one input that an engine must take."""

    name: str
    min: Dims
    opt: Dims
    """The shape TensorRT tunes for."""
    max: Dims

    def __post_init__(self) -> None:
        fault = disorder(self.min, self.opt, self.max)
        if fault:
            raise ConfigError(fault, where=f"--profile {self.name}")

    def __str__(self) -> str:
        return f"{self.name}:{','.join(text_from_dims(dims) for dims in (self.min, self.opt, self.max))}"


def disorder(low: Dims, opt: Dims, high: Dims) -> str:
    """What is wrong with a profile's three shapes; empty if nothing is."""
    if not len(low) == len(opt) == len(high):
        return f"min, opt and max have different ranks: {len(low)}, {len(opt)}, {len(high)}"
    for axis, (a, b, c) in enumerate(zip(low, opt, high, strict=True)):
        if not a <= b <= c:
            return f"min ≤ opt ≤ max does not hold on axis {axis}: {a}, {b}, {c}"
    return ""


def dims_from_text(text: str) -> Dims:
    """``1x3x224x224`` → ``(1, 3, 224, 224)``; ConfigError for anything else."""
    if not _DIMS.fullmatch(text):
        raise ConfigError(f"expected dimensions like 1x3x224x224, found {text!r}")
    return tuple(int(part) for part in text.split("x"))


def text_from_dims(dims: Dims) -> str:
    """The inverse of ``dims_from_text``."""
    return "x".join(map(str, dims))


def parse_shape(text: str) -> tuple[str, Dims]:
    """``name:1x3x224x224`` → ``("name", (1, 3, 224, 224))``. The name may hold colons itself (``input:0``).

    Raises:
        ConfigError: no name, no dimensions, or something that is no dimension.
    """
    name, dims = _named(text, "--shape", "name:1x3x224x224")
    return name, _dims(dims, text, "--shape")


def parse_profile(text: str) -> InputShapes:
    """``name:1x3x224x224,4x3x224x224,8x3x224x224`` (min, opt, max) → ``InputShapes``; one shape alone stands for all three.

    Raises:
        ConfigError: two shapes or more than three, different ranks, or a minimum above a maximum.
    """
    name, shapes = _named(text, "--profile", "name:1x3x224x224,4x3x224x224,8x3x224x224")
    parts = [_dims(part, text, "--profile") for part in shapes.split(",")]
    if len(parts) not in {1, 3}:
        raise ConfigError(f"expected min,opt,max or one shape, found {len(parts)} shapes", where=f"--profile {text}")
    return InputShapes(name, parts[0], parts[len(parts) // 2], parts[-1])


def gather_profiles(texts: Iterable[str]) -> tuple[dict[str, InputShapes], ...]:
    """Several ``--profile`` flags → optimisation profiles by input name; an input met again opens the next profile."""
    profiles: list[dict[str, InputShapes]] = []
    for text in texts:
        profile = parse_profile(text)
        if not profiles or profile.name in profiles[-1]:
            profiles.append({})
        profiles[-1][profile.name] = profile
    return tuple(profiles)


def _named(text: str, flag: str, example: str) -> tuple[str, str]:
    name, colon, rest = text.rpartition(":")
    if not (name and colon and rest):
        raise ConfigError(f"expected {example}, found {text!r}", where=flag)
    return name, rest


def _dims(part: str, text: str, flag: str) -> Dims:
    try:
        return dims_from_text(part)
    except ConfigError as error:
        raise ConfigError(error.what, where=f"{flag} {text}", hint="write numbers with an x between them, one for each axis") from error
