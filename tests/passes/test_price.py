"""Predicted costs of placements against those of real plans: recorded ones of ten models, and one that is built here."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import pytest

from fp16fix.engines.backend import RTX
from fp16fix.passes.place.attention import attention
from fp16fix.passes.place.price import Price, kernels
from fp16fix.ranges.range import Range
from tests.models import model
from tools.bench.price import MODELS, RECORD, Candidates, rank
from tools.bench.subjects import subjects

RECORDED: dict[str, dict[str, int]] = json.loads(RECORD.read_text())
LEAST, MEAN = 0.4, 0.8
"""Rank correlation that each model must have (of few kernels, most placements cost nothing), and all on average."""


def candidates(name: str) -> Candidates:
    (subject,) = [each for each in subjects([name]) if each.name == name]
    pytest.importorskip("transformers") if subject.needs else None
    return Candidates(subject)


def test_ten_models_are_recorded() -> None:
    assert set(RECORDED) == set(MODELS)
    assert sum(len(each) for each in RECORDED.values()) >= 120
    assert all(len(each) >= 9 for each in RECORDED.values())


def test_placements_are_ranked_as_their_plans() -> None:
    ranks = {name: rank(candidates(name), RECORDED[name]) for name in MODELS}
    assert min(ranks.values()) >= LEAST, ranks
    assert mean(ranks.values()) >= MEAN, ranks


@pytest.mark.skipif(not RTX.importable(), reason="TensorRT-RTX is not installed")
def test_the_record_is_what_the_compiler_still_does(tmp_path: Path) -> None:
    name = "layernorm-mul-opset11"
    found = candidates(name)
    for number in (0, len(found.placements) - 1):
        assert found.built(found.placements[number], tmp_path) == RECORDED[name][str(number)]


def priced(text: str, **shapes: tuple[int, ...]) -> Price:
    return Price(model(text), {name: Range(name, shape, 0.0, 0.0, 0.0, 0.0, 0.0, 0) for name, shape in shapes.items()})


CHAIN = """g (float[8,8] x, float[8,8] w) => (float[8,8] y) {
    [relu] a = Relu (x) [exp] b = Exp (a) [product] c = MatMul (b, w) [tanh] d = Tanh (c) [norm] e = Softmax (d) [out] y = Neg (e) }"""
SHAPES = dict.fromkeys("xabcdeyw", (8, 8))


def test_inside_of_a_kernel_fp32_is_free() -> None:
    price = priced(CHAIN, **SHAPES)
    assert price.of(["relu", "exp"]) == 0
    assert price.of(["tanh"]) == 0


def test_a_product_in_fp32_reads_its_operands_so() -> None:
    assert priced(CHAIN, **SHAPES).of(["product"]) == 2 * 64 * 2 * 2, "two activations, each written and read at four bytes"


def test_what_crosses_a_border_in_fp32_is_stored_so() -> None:
    price = priced(CHAIN, **SHAPES)
    assert price.of(["tanh", "norm"]) == 2 * 64 * 2
    assert price.of(["norm", "out"]) == 0


def test_kernels_begin_at_products_and_behind_them_at_reductions() -> None:
    found = kernels(model(CHAIN))
    assert found["relu"] == found["exp"] != found["product"]
    assert found["product"] == found["tanh"] != found["norm"]
    assert found["norm"] == found["out"]


def test_attention_with_a_product_in_fp32_stores_its_scores() -> None:
    text = """g (float[2,8,8] q, float[2,8,8] k, float[2,8,8] v) => (float[2,8,8] y) <float s = {0.3}> {
        [scores] a = MatMul (q, k) [scale] b = Mul (a, s) [softmax] c = Softmax (b) [values] y = MatMul (c, v) }"""
    price = priced(text, **dict.fromkeys("qkvabcy", (2, 8, 8)))
    assert {name for name, _ in attention(price.model)} == {"scores", "values"}
    one = 2 * 128
    assert price.of(["scores"]) == 4 * one + 2 * one
    assert price.of(["scores", "values"]) == 4 * one + 4 * one + 2 * one, "once for both"
