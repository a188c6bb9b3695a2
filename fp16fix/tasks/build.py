"""A graph that carries its types → its plan, as it is."""

from __future__ import annotations

from pathlib import Path

from fp16fix.config import Config
from fp16fix.engines import Built
from fp16fix.engines.compile import build_options, watched
from fp16fix.engines.profiles import declared, refuse_unfit
from fp16fix.graph.load import read
from fp16fix.progress import Silent, Stages, Watcher


def build_plan(model: Path, output: Path, config: Config, watcher: Watcher | None = None) -> Built:
    """A plan from a graph that carries its types, as it is.

    Raises:
        ModelError: no such file, or not ONNX.
        BackendError: TensorRT is missing or failed.
    """
    stages = Stages(watcher or Silent())
    refuse_unfit(config, declared(model))
    with stages.stage("check"):
        read(model)
    return watched(model, output, build_options(config), stages)
