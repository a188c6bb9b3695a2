"""A graph that carries its types → its plan, as it is, and what the compiler made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fp16fix.config import Config
from fp16fix.engines import Built
from fp16fix.engines.compile import build_options, watched
from fp16fix.engines.compiled import Compiled, compiled
from fp16fix.engines.profiles import declared, refuse_unfit
from fp16fix.graph.load import load
from fp16fix.graph.lone import wide_products
from fp16fix.passes.evidence import equip
from fp16fix.progress import Silent, Stages, Watcher


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan and its story."""

    built: Built
    compiled: Compiled
    tf32: bool
    """Whether FP32 products may round their operands to TF32."""


def build_plan(model: Path, output: Path, config: Config, watcher: Watcher | None = None) -> BuiltPlan:
    """A plan from a graph that carries its types, as it is; TF32 is off where it has FP32 products, unless the config says otherwise.

    Raises:
        ModelError: no such file, or not ONNX.
        BackendError: TensorRT is missing or failed.
    """
    stages = Stages(watcher or Silent())
    refuse_unfit(config, declared(model))
    equip(config)
    with stages.stage("check"):
        typed = load(model, simplified=False, widened=False)
    tf32 = config.build.tf32 if config.build.tf32 is not None else not wide_products(typed)
    built = watched(model, output, replace(build_options(config), tf32=tf32), stages)
    return BuiltPlan(built, compiled(typed, built.proof), tf32)
