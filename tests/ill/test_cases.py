from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from .case import Array, Case, Feeds, case, cases
from .strict_check import half, overflowing, run, run_strict, worst_db

WRONG_DB, RIGHT_DB = 40.0, 50.0
FREE_BY_ISSUE = {3, 4, 5, 7, 10, 11, 16}
"""Classes whose repair must not cost an FP32 node."""

each_case = pytest.mark.parametrize("ill", cases(), ids=lambda ill: ill.name)
free_case = pytest.mark.parametrize("ill", [ill for ill in cases() if ill.free], ids=lambda ill: ill.name)


@cache
def serialised(name: str) -> bytes:
    for module in case(name).needs:
        pytest.importorskip(module)
    raw: bytes = case(name).build().SerializeToString()
    return raw


def model(ill: Case) -> onnx.ModelProto:
    return onnx.load_from_string(serialised(ill.name))


def all_samples(ill: Case) -> list[list[Feeds]]:
    """The samples, and the held-out ones where there are any."""
    return [ill.samples()] if ill.held_out is None else [ill.samples(), ill.held_out()]


def test_every_class_and_six_architectures_are_there() -> None:
    names = [ill.name for ill in cases()]
    assert len(set(names)) == len(names)
    assert {number for ill in cases() for number in ill.classes} == set(range(1, 23))
    assert sum(name.startswith("architecture-") for name in names) == 6


def test_a_wrong_name_lists_the_right_ones() -> None:
    with pytest.raises(KeyError, match="layernorm-pow-opset13"):
        case("layernorm-pow")


def test_classes_that_must_be_free_are() -> None:
    kept = [ill.name for ill in cases() if FREE_BY_ISSUE & set(ill.classes) and not ill.free and 21 not in ill.classes]
    assert kept == [], "an already mixed model may keep the FP32 its author gave it; these may not"


@each_case
def test_model_is_valid_and_always_the_same(ill: Case) -> None:
    built = model(ill)
    onnx.checker.check_model(built, full_check=True)
    assert built.ir_version <= 10
    assert ill.build().SerializeToString() == serialised(ill.name)
    assert all(node.name for node in built.graph.node)
    assert (ill.free, ill.harmless) != (True, True)
    assert ill.note


@each_case
def test_samples_fit_the_inputs(ill: Case) -> None:
    inputs = {value.name: value.type.tensor_type for value in model(ill).graph.input}
    assert 4 <= len(ill.samples()) <= 8
    for feeds in [feeds for samples in all_samples(ill) for feeds in samples]:
        assert feeds.keys() == inputs.keys()
        for name, array in feeds.items():
            assert array.dtype == onnx.helper.tensor_dtype_to_np_dtype(inputs[name].elem_type)
            assert array.dtype in (np.float32, np.int64)
            dims = inputs[name].shape.dim
            assert len(dims) == array.ndim
            assert all(dim.dim_param or dim.dim_value == size for dim, size in zip(dims, array.shape, strict=True))


@each_case
def test_fp32_is_finite_and_plain_fp16_is_not_right(ill: Case) -> None:
    built, figures = model(ill), []
    for samples in all_samples(ill):
        truth = run(built, samples)
        assert all(np.isfinite(array).all() for array in truth.values())
        figures.append(worst_db(truth, run_strict(built, samples)))
    if ill.harmless:
        assert min(figures) >= RIGHT_DB
        assert overflowing(built, ill.samples()), "nothing overflows: the case shows nothing"
    else:
        assert min(figures) < WRONG_DB


@each_case
def test_the_fault_lies_inside(ill: Case) -> None:
    """FP32 between inputs and outputs of binary16 is right: the illness can be cured without touching the interface."""
    built = model(ill)
    for samples in all_samples(ill):
        rounded = [{name: array if name in ill.wide_inputs else half(array) for name, array in feeds.items()} for feeds in samples]
        outputs = {name: half(array) for name, array in run(built, rounded).items()}
        assert worst_db(run(built, samples), outputs) >= RIGHT_DB


@free_case
def test_witness_is_the_same_function_and_right_in_fp16(ill: Case) -> None:
    built = model(ill)
    assert ill.witness is not None
    cured = ill.witness()
    assert furthest(run(built, ill.samples()), run(cured, ill.samples())) <= 1e-5
    for samples in all_samples(ill):
        assert worst_db(run(built, samples), run_strict(cured, samples, ill.wide_inputs)) >= RIGHT_DB


def furthest(truth: dict[str, Array], other: dict[str, Array]) -> float:
    """The largest difference, relative to the range of its output."""
    return max(float(np.abs(truth[name] - other[name]).max() / np.abs(truth[name]).max()) for name in truth)


PARSE = """
import pathlib, sys, tensorrt_rtx as trt
logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(path.read_bytes()):
        print(path.stem, [parser.get_error(index).desc() for index in range(parser.num_errors)])
    del parser, network
"""
"""Prints a line for every model that TensorRT-RTX refuses; a process of its own, since the library may kill it."""


def test_tensorrt_rtx_parses_every_model(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    small = [ill for ill in cases() if not ill.needs]
    for ill in small:
        (tmp_path / f"{ill.name}.onnx").write_bytes(serialised(ill.name))
    done = subprocess.run([sys.executable, "-c", PARSE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
