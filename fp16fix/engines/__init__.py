"""Typed ONNX file → TensorRT plan file and the proof of what it computes in; TensorRT is only ever loaded by a child process."""

from __future__ import annotations

from pathlib import Path

from fp16fix.engines.backend import Backend, BackendStatus, Built, Checked, Progress, choose
from fp16fix.engines.options import BuildOptions, OptimizationProfile, covering, parse_profiles
from fp16fix.engines.proof import NodeTypes, Proof, check_pins
from fp16fix.engines.story import BuildStoppedError

__all__ = [
    "PLANS",
    "Backend",
    "BackendStatus",
    "BuildOptions",
    "BuildStoppedError",
    "Built",
    "Checked",
    "NodeTypes",
    "OptimizationProfile",
    "Progress",
    "Proof",
    "build",
    "check",
    "check_pins",
    "choose",
    "covering",
    "parse_profiles",
]


PLANS = (".plan", ".engine", ".trt")
"""Endings of engine files, by whatever tool."""


def build(onnx_path: Path, plan_path: Path, options: BuildOptions | None = None, progress: Progress | None = None) -> Built:
    """Build a plan with the backend that ``options`` choose; nothing is left at ``plan_path`` unless it succeeds.

    Args:
        onnx_path: a graph that carries its types: FP16, BF16 and FP32 tensors, and casts.
        plan_path: where the plan goes, whole or not at all.
        options: defaults if None.
        progress: called with a stage and its fraction; an exception out of it cancels the build.

    Raises:
        BackendMissingError: no TensorRT flavour that serves the options is installed.
        BuildError: the parser or builder refused, crashed, or ran out of time or memory (then a ``BuildStoppedError``).
        ConfigError: options or profiles that do not fit.
    """
    options = options or BuildOptions()
    return choose(options).build(onnx_path, plan_path, options, progress)


def check(onnx_path: Path, options: BuildOptions | None = None) -> Checked:
    """Parse only: whether TensorRT accepts the graph, and the types its nodes get. Raises as ``build`` does."""
    options = options or BuildOptions()
    return choose(options).check(onnx_path, options)
