"""A typed ONNX graph → a strongly typed plan: precision is in the graph, so nothing is pinned. TensorRT ≥ 10 and TensorRT-RTX."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from fp16fix.engines.assemble import Assembly
from fp16fix.engines.listen import LibraryRefusal, Listener
from fp16fix.engines.options import BuildOptions
from fp16fix.errors import ConfigError

TARGETS = ("sm80", "sm86", "sm89", "sm120")
"""Ampere, Ada and Blackwell: what a TensorRT-RTX plan serves unless told otherwise. Four targets cost some hundred bytes over one."""


def assembly(flavour: str, options: BuildOptions, listener: Listener) -> Assembly:
    """An assembly for flavour ``rtx`` or ``strong``.

    Raises:
        LibraryRefusal: the module does not import.
    """
    trt = load("tensorrt_rtx" if flavour == "rtx" else "tensorrt")
    return (RtxAssembly if flavour == "rtx" else StrongAssembly)(trt, flavour, options, listener)


def load(module: str) -> Any:
    """Import a TensorRT module, its failure in its own words."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        raise LibraryRefusal(
            f"{module} is installed and does not import: {error}",
            kind="BackendMissingError",
            hint="reinstall it, its -libs package included",
        ) from error


class StrongAssembly(Assembly):
    """TensorRT ≥ 10."""

    def creation_flags(self) -> int:
        # 11 accepts the flag and has no other mode.
        return 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    def configure(self, config: Any) -> None:
        if self.options.targets:
            raise ConfigError(
                "targets are compiled by TensorRT-RTX only; TensorRT builds for the GPU it runs on",
                hint="--backend rtx, or hardware_compatible: ampere_plus",
            )
        set_hardware_compatibility(self.trt, config, self.options)
        set_timing_cache(config, self.options)

    def keep_timing_cache(self, config: Any) -> None:
        save_timing_cache(config, self.options)

    def pin(self) -> tuple[str, ...]:
        """Nothing to do: the parser took the types from the graph."""
        if self.options.pins:
            raise ConfigError("layer pins need weak typing", hint="put the types into the graph, or use --backend weak (TensorRT below 11)")
        return ()


class RtxAssembly(StrongAssembly):
    """TensorRT-RTX: compiles for targets, with no GPU here."""

    def configure(self, config: Any) -> None:
        if self.options.hardware_compatible:
            raise ConfigError("TensorRT-RTX has no hardware compatibility levels", hint="name targets: --target sm86,sm89")
        if self.options.timing_cache:
            self.listener.warn("timing_cache is ignored: TensorRT-RTX times no tactics")
        self.targets = self.options.targets or TARGETS
        served = sorted(name.lower() for name in self.trt.ComputeCapability.__members__ if name.startswith("SM"))
        unknown = [target for target in self.targets if target.lower() not in served]
        if unknown:
            raise ConfigError(
                f"no target {', '.join(unknown)} in TensorRT-RTX {self.version}",
                hint=f"it has {', '.join(served)}; other GPUs take TensorRT (--backend strong)",
            )
        config.num_compute_capabilities = len(self.targets)
        for index, target in enumerate(self.targets):
            config.set_compute_capability(getattr(self.trt.ComputeCapability, target.upper()), index)

    def keep_timing_cache(self, config: Any) -> None:
        """There is none."""


def set_hardware_compatibility(trt: Any, config: Any, options: BuildOptions) -> None:
    """``ampere_plus`` or ``same_compute_capability`` (the latter since 10.9)."""
    if options.hardware_compatible:
        level = getattr(trt.HardwareCompatibilityLevel, options.hardware_compatible.upper(), None)
        if level is None:
            raise ConfigError(
                f"TensorRT {trt.__version__} has no hardware compatibility level {options.hardware_compatible}", hint="ampere_plus"
            )
        config.hardware_compatibility_level = level


def set_timing_cache(config: Any, options: BuildOptions) -> None:
    """Start from the tactic timings in the file, if there is one yet."""
    if options.timing_cache:
        path = Path(options.timing_cache)
        config.set_timing_cache(config.create_timing_cache(path.read_bytes() if path.is_file() else b""), False)


def save_timing_cache(config: Any, options: BuildOptions) -> None:
    """Write the timings back."""
    if options.timing_cache:
        Path(options.timing_cache).write_bytes(bytes(config.get_timing_cache().serialize()))
