"""This machine → what each TensorRT flavour would do on it."""

from __future__ import annotations

from dataclasses import dataclass

from fp16fix.engines.backend import FLAVOURS, BackendStatus
from fp16fix.engines.execute import can_execute
from fp16fix.engines.gpu import GpuStatus, gpu_status


@dataclass(frozen=True, slots=True)
class Doctor:
    """What ``fp16fix doctor`` prints."""

    backends: tuple[BackendStatus, ...]
    """``rtx``, ``strong``, ``weak``, in the order ``auto`` tries them."""
    gpu: GpuStatus
    executes: bool
    """Whether plans can be run and measured here."""
    why_not: str

    @property
    def builds(self) -> bool:
        """Whether any flavour can build a plan here."""
        return any(each.works for each in self.backends)


def doctor() -> Doctor:
    """Try every flavour, each in a child process of its own; takes a second for each one installed."""
    executes, why_not = can_execute()
    return Doctor(tuple(flavour.status() for flavour in FLAVOURS.values()), gpu_status(), executes, why_not)
