"""TensorRT ≥ 10: a typed ONNX graph → a strongly typed plan; precision is in the graph, so nothing is pinned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fp16fix.engines.assemble import Assembly, load
from fp16fix.engines.flavour import Flavour
from fp16fix.engines.listen import Listener
from fp16fix.engines.options import BuildOptions
from fp16fix.errors import ConfigError

FLAVOUR = Flavour(
    "strong",
    "tensorrt",
    ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "pip install 'fp16fix[tensorrt]'   (TensorRT ≥ 10: needs an NVIDIA driver and GPU to build)",
    "builds a strongly typed plan for the GPU of this machine",
)


def assembly(options: BuildOptions, listener: Listener) -> Assembly:
    """An assembly for this flavour.

    Raises:
        LibraryRefusal: the module does not import.
    """
    return StrongAssembly(load(FLAVOUR.module), FLAVOUR.name, options, listener)


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
