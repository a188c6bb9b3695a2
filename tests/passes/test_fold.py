"""Folding: FP32 results do not change by a bit, nothing shared is edited in place, and exponents that break a law are refused."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from fp16fix.errors import ReplayError
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.passes.rescale.fold import fold
from fp16fix.passes.rescale.scales import assign
from tests.ill.case import case
from tests.models import model
from tests.passes.ranges import ranges_of

STREAMS = (
    "residual-t5-ffn residual-vit-massive residual-swiglu-product vae-resnet-stream rmsnorm-massive rmsnorm-div-mul-form "
    "layernorm-pow-opset13 layernorm-mul-opset11 layernorm2d-channel-first attention-scale-after-product attention-einsum "
    "l2norm-overflow l2norm-underflow l2norm-cosine-head weights-conv-bn-tiny-variance instancenorm-16-bit-image "
    "instancenorm-depth-written-out weights-subnormal-first-conv"
).split()
X = {"x": np.random.default_rng(3).standard_normal((4, 8)).astype(np.float32)}


def folded(original: Model, exponents: dict[str, int]) -> Model:
    copy = original.copy()
    fold(copy, exponents)
    return copy


def run(found: Model, sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return Session(found, threads=1).run(sample)


def assert_same_bits(original: Model, changed: Model, sample: dict[str, np.ndarray]) -> None:
    truth, found = run(original, sample), run(changed, sample)
    for name, values in truth.items():
        np.testing.assert_array_equal(found[name].view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize("name", STREAMS)
def test_ill_models_compute_the_same_bits(name: str) -> None:
    ill = case(name)
    original = loaded(name)
    found = assign(original, ranges_of(original, ill.samples()))
    assert found.exponents
    changed = folded(original, found.exponents)
    for sample in ill.samples()[:2]:
        assert_same_bits(original, changed, sample)


def loaded(name: str) -> Model:
    from fp16fix.graph.load import model_from_proto

    return model_from_proto(case(name).build(), name)


def test_the_original_and_its_arrays_are_left_alone() -> None:
    original = model(
        "g (float[4,8] x) => (float[4,8] y) <float[8] c = {1,2,3,4,5,6,7,8}, float[8] d = {1,1,1,1,1,1,1,1}>"
        "{ a = Mul (x, c) y = Mul (a, d) }"
    )
    before = original.tensors()["c"].values
    kept = before.copy()
    changed = folded(original, {"c": 3, "a": 3, "d": -3})
    assert original.tensors()["c"].values is before
    np.testing.assert_array_equal(before, kept)
    np.testing.assert_array_equal(changed.tensors()["c"].values, kept / 8)
    assert len(changed.graph.nodes) == 2
    assert_same_bits(original, changed, X)


def test_a_shared_constant_is_copied_only_for_the_use_that_differs() -> None:
    original = model(
        "g (float[4,8] x) => (float[4,8] y) <float[8] c = {1,2,3,4,5,6,7,8}>"
        "{ a = Mul (x, c) b = Mul (a, c) d = Mul (b, c) e = Relu (d) y = Mul (e, c) }"
    )
    uses = [f"c→{node.name}#1" for node in original.graph.nodes if node.op == "Mul"]
    exponents = {uses[0]: 2, "a": 2, "b": 2, "d": 2, "e": 2, uses[3]: -2}
    changed = folded(original, exponents)
    constants = [t for t in changed.tensors().values() if isinstance(t, gs.Constant)]
    assert sorted(float(t.values[0]) for t in constants) == [0.25, 1.0, 4.0]
    assert len(changed.graph.nodes) == len(original.graph.nodes)
    assert_same_bits(original, changed, X)


def test_an_edge_shift_is_one_shared_mul() -> None:
    original = model(
        "g (float[4,8] x) => (float[4,8] y) <float[1] c = {3}, float[1] d = {0.5}>"
        "{ a = Mul (x, c) s = Sigmoid (a) t = Tanh (a) u = Mul (s, t) b = Mul (a, d) y = Mul (u, b) }"
    )
    sigmoid, tanh = (node.name for node in original.graph.nodes if node.op in ("Sigmoid", "Tanh"))
    exponents = {"a": 2, "c": 2, "d": -2, f"a→{sigmoid}#0": -2, f"a→{tanh}#0": -2}
    changed = folded(original, exponents)
    assert [node.op for node in changed.graph.nodes].count("Mul") == 5
    assert_same_bits(original, changed, X)


def test_a_shift_no_fp16_factor_can_make_takes_two() -> None:
    original = model("g (float[4,8] x) => (float[4,8] y) <float[1] c = {3}> { a = Mul (x, c) y = Tanh (a) }")
    changed = folded(original, {"a": 20, "c": 20, f"a→{original.graph.nodes[1].name}#0": -20})
    factors = [float(node.inputs[1].values) for node in changed.graph.nodes if "shift" in node.name]
    assert np.prod(factors) == 2.0**20
    assert all(2.0**-14 <= factor <= 32768 for factor in factors)
    assert_same_bits(original, changed, X)


def test_the_interface_keeps_names_and_values_by_border_muls() -> None:
    original = model("g (float[4,8] x) => (float[4,8] y) { a = Relu (x) y = Neg (a) }")
    changed = folded(original, {"x": 4, "a": 4, "y": 4})
    assert [t.name for t in changed.graph.inputs] == ["x"]
    assert [t.name for t in changed.graph.outputs] == ["y"]
    assert sorted(node.name for node in changed.graph.nodes if node.op == "Mul") == ["x/border", "y/border"]
    assert float(np.abs(changed.node_map()["x/border"].inputs[1].values)) == 2.0**-4
    assert_same_bits(original, changed, X)


def test_an_output_read_inside_too_is_stored_once() -> None:
    original = model(
        "g (float[4,8] x) => (float[4,8] a, float[4,8] y) <float[1] c = {3}, float[1] d = {2}> { a = Mul (x, c) y = Mul (a, d) }"
    )
    changed = folded(original, {"a": 4, "c": 4, "d": -4})
    assert sum(node.op == "Mul" for node in changed.graph.nodes) == 3
    assert_same_bits(original, changed, X)


def test_defaults_of_attributes_are_written_out_and_scaled() -> None:
    original = model(
        "g (float[4,8] x) => (float[4,8] y) <float[1] c = {1e-3}, float[8] w = {1,1,1,1,1,1,1,1}>"
        "{ a = Mul (x, c) y = LayerNormalization (a, w) }"
    )
    changed = folded(original, {"a": -6, "c": -6})
    epsilon = changed.graph.nodes[1].attrs["epsilon"]
    assert epsilon == pytest.approx(1e-5 * 4.0**6)
    assert "epsilon" not in original.graph.nodes[1].attrs
    assert_same_bits(original, changed, X)


def test_infinite_literals_stay_what_they_are() -> None:
    original = model(
        "g (float[4,8] x) => (float[4,8] y) <float[1] c = {1e-3}, float low = {-3.4028234663852886e38}, float[1] d = {2}>"
        "{ a = Mul (x, c) b = Max (a, low) y = Mul (b, d) }"
    )
    changed = folded(original, {"a": -6, "c": -6, "b": -6, "low": -6, "d": 6})
    assert float(changed.tensors()["low"].values) == float(np.finfo(np.float32).min)
    assert_same_bits(original, changed, X)


@pytest.mark.parametrize(
    ("exponents", "text"),
    [({"nothing": 1}, "nothing"), ({"a": 1}, "Mul"), ({"a": 1, "c": 1}, "Exp"), ({"x→Relu_a#0": 1}, "x→Relu_a#0")],
)
def test_exponents_that_do_not_fit_the_model_are_refused(exponents: dict[str, int], text: str) -> None:
    original = model("g (float[4,8] x) => (float[4,8] y) <float[1] c = {3}> { a = Mul (x, c) y = Exp (a) }")
    with pytest.raises(ReplayError, match=text):
        folded(original, exponents)


def test_bodies_and_what_they_carry_share_exponents() -> None:
    original = loaded("subgraph-loop-residual")
    samples = case("subgraph-loop-residual").samples()
    carried = next(node for node in original.graph.nodes if node.op == "Loop")
    state, start = carried.attrs["body"].inputs[2], carried.inputs[2]
    with pytest.raises(ReplayError, match="must share one exponent"):
        folded(original, {state.name: 5})
    found = assign(original, ranges_of(original, samples), options=None)
    assert found.exponents[state.name] == found.exponents[start.name] == found.exponents[carried.outputs[0].name] > 0
    assert_same_bits(original, folded(original, found.exponents), samples[0])
