"""Graphs as TensorRT-RTX compiles them, for tests that read a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fp16fix.engines import BuildOptions, build
from fp16fix.engines.table import Kernel
from fp16fix.graph.model import Model
from fp16fix.graph.save import save_model

Build = Callable[[Model], tuple[Kernel, ...]]


@pytest.fixture
def plan(tmp_path: Path) -> Build:
    """The kernels of a graph's plan."""

    def built(graph: Model) -> tuple[Kernel, ...]:
        save_model(graph, tmp_path / "graph.onnx")
        return build(tmp_path / "graph.onnx", tmp_path / "x.plan", BuildOptions(targets=("sm80",))).proof.kernels

    return built


def of(rows: tuple[Kernel, ...], node: str) -> list[Kernel]:
    found = [each for each in rows if node in each.owners]
    assert found, f"{node} has no kernel"
    return found
