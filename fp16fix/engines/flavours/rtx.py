"""TensorRT-RTX: a typed ONNX graph → a strongly typed plan for named targets, with no GPU here."""

from __future__ import annotations

from typing import Any

from fp16fix.engines.assemble import load
from fp16fix.engines.flavour import Flavour
from fp16fix.engines.flavours.strong import StrongAssembly
from fp16fix.engines.listen import Listener
from fp16fix.engines.options import BuildOptions
from fp16fix.errors import ConfigError

FLAVOUR = Flavour(
    "rtx",
    "tensorrt_rtx",
    ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
    "pip install 'fp16fix[rtx]'   (TensorRT-RTX: builds without a GPU, runs on RTX GPUs)",
    "builds a strongly typed plan for GeForce and RTX GPUs, here or anywhere: no GPU is needed to build",
)
TARGETS = ("sm80", "sm86", "sm89", "sm120")
"""Ampere, Ada and Blackwell: what a TensorRT-RTX plan serves unless told otherwise. Four targets cost some hundred bytes over one."""


def assembly(options: BuildOptions, listener: Listener) -> RtxAssembly:
    """An assembly for this flavour.

    Raises:
        LibraryRefusal: the module does not import.
    """
    return RtxAssembly(load(FLAVOUR.module), FLAVOUR.name, options, listener)


class RtxAssembly(StrongAssembly):
    """TensorRT-RTX: compiles for targets, with no GPU here."""

    def configure(self, config: Any) -> None:
        if self.options.hardware_compatible:
            raise ConfigError("TensorRT-RTX has no hardware compatibility levels", hint="name targets: --target sm86,sm89")
        if self.options.timing_cache:
            self.listener.warn("timing_cache is ignored: TensorRT-RTX times no tactics")
        self.targets = self.options.targets or TARGETS
        config.num_compute_capabilities = len(self.targets)
        for index, target in enumerate(self.targets):
            config.set_compute_capability(getattr(self.trt.ComputeCapability, target.upper()), index)

    def refuse_targets(self) -> None:
        served = sorted(name.lower() for name in self.trt.ComputeCapability.__members__ if name.startswith("SM"))
        unknown = [target for target in self.options.targets if target.lower() not in served]
        if unknown:
            raise ConfigError(
                f"no target {', '.join(unknown)} in TensorRT-RTX {self.version}",
                hint=f"it has {', '.join(served)}; other GPUs take TensorRT (--backend strong)",
            )

    def keep_timing_cache(self, config: Any) -> None:
        """There is none."""
