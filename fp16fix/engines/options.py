"""Flags and config keys → ``BuildOptions``; optimisation profiles are parsed here and checked against an engine's inputs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from fp16fix.errors import ConfigError
from fp16fix.inputs.shapes import gather_profiles, text_from_dims

Dims = tuple[int, ...]
OptimizationProfile = Mapping[str, tuple[Dims, Dims, Dims]]
"""Input name → (smallest, likeliest, largest) dimensions; for a shape tensor, values instead of dimensions."""

SEVERITIES = ("error", "warning", "info", "verbose")
CAPABILITIES = ("standard", "safety", "dla_standalone")
BACKENDS = ("auto", "rtx", "strong", "weak")


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Everything an engine build can be told; the defaults build a portable, verifiable engine."""

    backend: str = "auto"
    """``rtx`` TensorRT-RTX, ``strong`` TensorRT ≥ 10 strongly typed, ``weak`` TensorRT 8.6–10 with layer pins, or ``auto``."""
    targets: tuple[str, ...] = ()
    """Compute capabilities such as ``sm89``; TensorRT-RTX only. Empty: every one it can serve from sm80 to sm120."""
    profiles: tuple[OptimizationProfile, ...] = ()
    workspace_mib: int = 0
    """Scratch memory the builder may plan with, MiB; 0 leaves TensorRT's default."""
    optimization_level: int | None = None
    """0 (fast build) to 5 (fast engine); None leaves TensorRT's default, 3."""
    timing_cache: str = ""
    """File that is read if it exists and written after the build; TensorRT-RTX has no tactic timing and ignores it."""
    version_compatible: bool = False
    hardware_compatible: str = ""
    """``ampere_plus`` or ``same_compute_capability``; TensorRT only."""
    refit: bool = False
    strip_plan: bool = False
    tf32: bool = True
    """False computes FP32 layers in full FP32: for comparisons, not for speed."""
    plugins: tuple[str, ...] = ()
    """Shared libraries registered before parsing and serialised into the plan."""
    capability: str = "standard"
    timeout_s: float = 1800.0
    """Wall time the child process may take, parsing included; seconds."""
    memory_mib: int = 0
    """Resident memory the child process may take; 0 for no limit."""
    debug_tensors: bool = False
    """Mark every tensor that fusion leaves standing, so that running the plan can show it (TensorRT ≥ 10.12); costs some speed."""
    log_severity: str = "warning"
    """Least severe builder messages that reach ``Built.warnings``."""
    pins: tuple[tuple[str, str], ...] = ()
    """``weak`` only: (node, ``fp32``|``bf16``) pairs for an FP32 graph. Empty: layers are pinned to the types the graph has."""

    def __post_init__(self) -> None:
        choices = {"backend": BACKENDS, "capability": CAPABILITIES, "log_severity": SEVERITIES}
        for key, legal in choices.items():
            if getattr(self, key) not in legal:
                raise ConfigError(f"{key} is {getattr(self, key)!r}", where="build", hint=f"one of {', '.join(legal)}")
        if self.hardware_compatible not in {"", "ampere_plus", "same_compute_capability"}:
            raise ConfigError(
                f"hardware_compatible is {self.hardware_compatible!r}", where="build", hint="ampere_plus or same_compute_capability"
            )
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise ConfigError(f"optimization_level is {self.optimization_level}", where="build", hint="0 to 5")
        if self.timeout_s <= 0 or self.memory_mib < 0 or self.workspace_mib < 0:
            raise ConfigError("timeout_s must be positive, memory_mib and workspace_mib not negative", where="build")

    def to_json(self) -> dict[str, Any]:
        """Plain types only; ``options_from_json`` reads it back."""
        return {**asdict(self), "profiles": [dict(profile) for profile in self.profiles]}


def options_from_json(raw: Mapping[str, Any]) -> BuildOptions:
    """The inverse of ``BuildOptions.to_json``, after JSON turned tuples into lists."""
    known = {field.name for field in fields(BuildOptions)}
    values = {key: value for key, value in raw.items() if key in known}
    values["profiles"] = tuple(profile_from_lists(profile) for profile in raw.get("profiles", ()))
    values["pins"] = tuple((node, fmt) for node, fmt in raw.get("pins", ()))
    for key in ("targets", "plugins"):
        values[key] = tuple(raw.get(key, ()))
    return BuildOptions(**values)


def profile_from_lists(raw: Mapping[str, Sequence[Sequence[int]]]) -> OptimizationProfile:
    """``{input: [min, opt, max]}`` as JSON and YAML hold it.

    Raises:
        ConfigError: an input without exactly three shapes.
    """
    profile = {}
    for name, shapes in raw.items():
        if len(shapes) != 3:
            raise ConfigError(f"{len(shapes)} shapes instead of min, opt and max", where=f"profile of input {name!r}")
        smallest, likeliest, largest = (tuple(int(dim) for dim in shape) for shape in shapes)
        profile[name] = (smallest, likeliest, largest)
    return profile


def parse_profiles(flags: Sequence[str]) -> tuple[OptimizationProfile, ...]:
    """``name:1x3x224x224,4x3x224x224,8x3x224x224`` flags → profiles; an input met again opens the next profile.

    Raises:
        ConfigError: a flag of another form, or bounds out of order.
    """
    return tuple({name: (each.min, each.opt, each.max) for name, each in profile.items()} for profile in gather_profiles(flags))


@dataclass(frozen=True, slots=True)
class EngineInput:
    """One input as the parser sees it."""

    name: str
    shape: Dims
    """−1 where dynamic."""
    holds_shape: bool = False
    """Its *values* decide shapes, so a profile bounds values."""

    @property
    def dynamic(self) -> bool:
        """Whether every profile must speak of it."""
        return self.holds_shape or any(dim < 0 for dim in self.shape)

    def flag(self) -> str:
        """The ``--profile`` flag that would serve it, dynamic dimensions at 1, 1 and 8."""
        if self.holds_shape:
            bounds = [(value,) * (self.shape[0] if self.shape else 1) for value in (1, 8, 64)]
        else:
            bounds = [tuple(size if dim < 0 else dim for dim in self.shape) for size in (1, 1, 8)]
        return f"--profile {self.name}:" + ",".join(text_from_dims(dims) for dims in bounds)


def check_profiles(profiles: Sequence[OptimizationProfile], inputs: Sequence[EngineInput]) -> None:
    """Every profile against the model's inputs.

    Raises:
        ConfigError: all faults at once: a dynamic input without a profile (with the flags to add), an unknown name, a wrong rank,
            a static dimension changed, min > opt or opt > max.
    """
    dynamic = [each for each in inputs if each.dynamic]
    if dynamic and not profiles:
        names = ", ".join(f"{each.name} {list(each.shape)}" for each in dynamic)
        raise ConfigError(
            f"{len(dynamic)} inputs are dynamic and no optimisation profile says which shapes to build for: {names}",
            where="build",
            hint="add " + " ".join(each.flag() for each in dynamic) + " (smallest, likeliest, largest)",
        )
    faults = [fault for index, profile in enumerate(profiles) for fault in profile_faults(index, profile, inputs)]
    if faults:
        raise ConfigError(
            "; ".join(faults), where="build", hint="inputs are " + ", ".join(f"{each.name} {list(each.shape)}" for each in inputs)
        )


def profile_faults(index: int, profile: OptimizationProfile, inputs: Sequence[EngineInput]) -> list[str]:
    """What is wrong with one profile, in words."""
    by_name = {each.name: each for each in inputs}
    where = f"profile {index + 1}"
    left_out = [each for each in inputs if each.dynamic and each.name not in profile]
    faults = [f"{where} leaves out dynamic input {each.name!r} (add {each.flag()})" for each in left_out]
    for name, shapes in sorted(profile.items()):
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            faults.append(f"{where} names {name!r}, which is no input" + (f": did you mean {near[0]!r}?" if near else ""))
            continue
        faults += [f"{where}, {name}: {fault}" for fault in shape_faults(by_name[name], shapes)]
    return faults


def shape_faults(wanted: EngineInput, shapes: tuple[Dims, Dims, Dims]) -> list[str]:
    """Rank, static dimensions and order of one input's three shapes."""
    count = (wanted.shape[0] if wanted.shape else 1) if wanted.holds_shape else len(wanted.shape)
    if any(len(shape) != count for shape in shapes):
        return [f"{count} numbers expected, found {', '.join('x'.join(map(str, shape)) for shape in shapes)}"]
    faults = [f"{low} ≤ {likely} ≤ {high} does not hold" for low, likely, high in zip(*shapes, strict=True) if not low <= likely <= high]
    if wanted.holds_shape:
        return faults
    for axis, dim in enumerate(wanted.shape):
        given = sorted({shape[axis] for shape in shapes})
        if dim >= 0 and given != [dim]:
            faults.append(f"axis {axis} is {dim} in the model, {given} in the profile")
    return faults


def covering(profiles: Sequence[OptimizationProfile], shapes: Mapping[str, Dims]) -> int | None:
    """Index of the first profile whose bounds hold these input shapes, or None: a sample the engine could not run."""
    for index, profile in enumerate(profiles):
        if all(within(shape, profile[name]) for name, shape in shapes.items() if name in profile):
            return index
    return None


def within(shape: Dims, bounds: tuple[Dims, Dims, Dims]) -> bool:
    """Whether each dimension lies between the smallest and the largest."""
    return len(shape) == len(bounds[0]) and all(low <= dim <= high for dim, low, high in zip(shape, bounds[0], bounds[2], strict=True))
