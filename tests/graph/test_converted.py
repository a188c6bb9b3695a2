"""Weights are converted once, and never taken for others'."""

from __future__ import annotations

import gc

import numpy as np
import onnx

from fp16fix.graph import converted as module
from fp16fix.graph.converted import LARGE, converted
from fp16fix.passes import apply
from fp16fix.passes.recipe import plain
from tests.models import filled, normal

HALF, BF16 = onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16


def test_values_are_rounded_to_nearest_even_and_large_ones_become_inf() -> None:
    values = np.array([1.0, -0.0, 65519.0, 65520.0, 1e-9, 2049.0], np.float32)
    assert np.array_equal(converted(values, HALF), values.astype(np.float16))


def test_large_ones_are_converted_once_a_type() -> None:
    values = normal(LARGE)
    assert converted(values, HALF) is converted(values, HALF)
    assert converted(values, BF16) is not converted(values, HALF)
    assert converted(normal(LARGE), HALF) is not converted(values, HALF)


def test_what_nobody_holds_is_forgotten_and_not_taken_for_what_comes_to_its_place() -> None:
    for seed in range(50):
        values = normal(LARGE, seed=seed)
        assert np.array_equal(converted(values, HALF), values.astype(np.float16))
        del values
    gc.collect()
    assert not [key for key, (_, result) in module._known.items() if result() is None]


def test_an_address_alone_says_nothing() -> None:
    other, values = normal(LARGE, seed=1), normal(LARGE, seed=2)
    held = converted(other, HALF)
    module._known[id(values), HALF] = module._known[id(other), HALF]
    assert np.array_equal(converted(values, HALF), values.astype(np.float16))
    assert converted(other, HALF) is held


def test_two_graphs_of_one_model_hold_one_copy() -> None:
    text = "g (float[2,256] x, float[256,256] w) => (float[2,256] y) { h = MatMul (x, w) y = Relu (h) }"
    model = filled(text, {"w": normal(256, 256)})
    weights = [
        next(tensor for node in apply.apply(model, plain(placed)).nodes() for tensor in node.inputs if tensor.name.startswith("w/")).values
        for placed in ({}, {"Relu_y": "fp32"})
    ]
    assert weights[0] is weights[1]
