"""Assumptions about arithmetic, one file each, found by its being there."""

from __future__ import annotations

from functools import cache

from fp16fix.errors import ConfigError
from fp16fix.plugins import found
from fp16fix.strict.profiles.profile import Profile


@cache
def profiles() -> dict[str, Profile]:
    """Every profile by name."""
    return {kind.name: kind() for kind in found(__name__, __path__, "", lambda kind: hasattr(kind, "sums_in_half"))}


def profile_named(name: str) -> Profile:
    """The profile that a config names.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in profiles():
        raise ConfigError(f"there is no profile {name!r}", where="profile", hint=f"choose one of {', '.join(sorted(profiles()))}")
    return profiles()[name]
