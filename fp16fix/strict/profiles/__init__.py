"""Assumptions about arithmetic, one file each, found by its being there."""

from __future__ import annotations

from functools import cache

from fp16fix.errors import ConfigError
from fp16fix.half import FP16, Format
from fp16fix.plugins import found
from fp16fix.strict.profiles.profile import Profile


@cache
def profiles() -> dict[str, Profile]:
    """Every profile by name."""
    return {kind.name: kind() for kind in found(__name__, __path__, "", lambda kind: hasattr(kind, "sums_in_half"))}


def profile_named(name: str, narrow: Format = FP16) -> Profile:
    """The profile that a config names.

    Raises:
        ConfigError: there is none of that name, or it says nothing of the narrow type.
    """
    if name not in profiles():
        raise ConfigError(f"there is no profile {name!r}", where="profile", hint=f"choose one of {', '.join(sorted(profiles()))}")
    profile = profiles()[name]
    if profile.of_half and narrow is not FP16:
        said = f"{name!r} assumes what FP16 kernels may do; TensorRT adds {narrow} products in FP32"
        raise ConfigError(said, where="profile", hint="leave it out with precision: bf16")
    return profile
