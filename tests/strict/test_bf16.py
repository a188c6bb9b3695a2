"""BF16 tensors are rounded as ``ml_dtypes`` rounds, wherever they are stored; what kernels store inside is what BF16 plans show."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fp16fix.engines import BuildOptions, build
from fp16fix.engines.backend import RTX
from fp16fix.engines.compiled import compiled, problems
from fp16fix.graph.lower import count_types, lower
from fp16fix.graph.model import Model
from fp16fix.graph.opset import raise_opset
from fp16fix.graph.save import save_model
from fp16fix.graph.session import Session
from fp16fix.half import BF16
from fp16fix.strict.emulate import emulate
from fp16fix.strict.fused import LONG
from fp16fix.strict.jitter import SHARE, Jitter
from tests.engines.test_compiled import PINNED, TAKEN_BACK, pinned, unguarded
from tests.models import filled, model, normal
from tests.strict.plans import Build, of, plan
from tests.strict.test_insides import CASES, parsed

needs_rtx = pytest.mark.skipif(not RTX.importable(), reason="TensorRT-RTX is not installed")
__all__ = ["plan"]


def b(values: np.ndarray) -> np.ndarray:
    """Rounded to BF16, in FP32."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def typed(text: str, wide: tuple[str, ...] = (), opset: int = 22, **weights: np.ndarray) -> Model:
    fp32 = filled(text, weights, opset) if weights else model(text, opset)
    return lower(fp32, dict.fromkeys(wide, "fp32"), io="bf16", narrow=BF16)


def run(graph: Model, **inputs: np.ndarray) -> np.ndarray:
    return np.asarray(Session(emulate(graph)).run(inputs)["y"])


PLAIN = (0.0, -0.0, 1.0, 255.0, 256.0, 257.0, 258.0, 259.0, 3.3895314e38, 3.3961775e38, 3.3961777e38, 3.4028235e38, np.inf, -np.inf, np.nan)
TIES = (1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8, 1.0 + 2.0**-8 + 2.0**-20, 2.0**-126, 2.0**-133, 2.0**-134, 1.1 * 2.0**-134, 3.0 * 2.0**-134)
EDGES = np.array([*PLAIN, *TIES], np.float32)


def test_every_float_is_rounded_as_ml_dtypes_rounds_it() -> None:
    """Bits, not values: over ties, both ends, what is below the normal range, and 100,000 patterns of bits."""
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([EDGES, bits])
    x = x[: len(x) - len(x) % 2].reshape(1, -1)
    found = run(lower(model(f"g (float[1,{x.size}] x) => (float[1,{x.size}] y) {{ [n] y = Identity (x) }}", 22), {}, narrow=BF16), x=x)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(x))
    kept = ~np.isnan(x)
    np.testing.assert_array_equal(found[kept].view(np.uint32), b(x)[kept].view(np.uint32))


def test_a_network_is_rounded_where_every_tensor_is_stored() -> None:
    text = (
        "g (float[8,64] x, float[64,32] w, float[32] c) => (float[8,32] y) { p = MatMul (x, w) s = Add (p, c) e = Exp (s) y = Sub (e, c) }"
    )
    x, w, c = normal(8, 64), np.round(normal(64, 32) * 8) / 8, normal(32, seed=2)
    found = run(typed(text, w=w, c=c), x=np.round(x * 4) / 4)
    product = b((np.round(x * 4) / 4).astype(np.float64) @ w.astype(np.float64))
    wanted = b(b(np.exp(b(product + b(c)))) - b(c))
    np.testing.assert_array_equal(found, wanted)
    wide = run(typed(text, ("Exp_e",), w=w, c=c), x=np.round(x * 4) / 4)
    np.testing.assert_array_equal(wide, b(b(np.exp(b(product + b(c)))) - b(c)), "its exit is rounded all the same")


def test_jitter_moves_what_is_rounded_and_nothing_that_is_exact() -> None:
    def shaken(text: str, x: np.ndarray, seed: int) -> np.ndarray:
        jitter = Jitter()
        session = Session(emulate(typed(text), jitter=jitter))
        return np.asarray(session.run({"x": x, **jitter.feeds(seed)})["y"])

    scaled = "g (float[64,64] x) => (float[64,64] y) <float k = {1.5}> { y = Mul (x, k) }"
    x = b(normal(64, 64))
    plain, one, two = run(typed(scaled), x=x), shaken(scaled, x, 1), shaken(scaled, x, 2)
    assert 0.1 < np.mean(one != plain) < 0.35
    assert np.mean(one != two) > 0.1
    assert np.abs(one / (1.5 * x) - 1.0).max() <= 2.0**-8 * (1.0 + SHARE)
    whole = np.arange(-128.0, 128.0, dtype=np.float32).repeat(16).reshape(64, 64)
    doubled = "g (float[64,64] x) => (float[64,64] y) <float k = {2.0}> { y = Mul (x, k) }"
    np.testing.assert_array_equal(shaken(doubled, whole, 1), 2 * whole)


def test_a_norm_rounds_before_it_scales_and_a_length_at_every_step() -> None:
    text = "g (float[8,64] x, float[64] s, float[64] c) => (float[8,64] y) { [n] y = LayerNormalization <axis = -1> (x, s, c) }"
    x, s, c = b(normal(8, 64)), normal(64, seed=1), normal(64, seed=2)
    exact = x.astype(np.float64)
    held = b((exact - exact.mean(1, keepdims=True)) / np.sqrt(exact.var(1, keepdims=True) + 1e-5))
    np.testing.assert_allclose(run(typed(text, s=s, c=c), x=x), b(held * b(s) + b(c)), rtol=2.0**-8)
    assert np.mean(run(typed(text, s=s, c=c), x=x) == b(held * b(s) + b(c))) > 0.999
    length = "g (float[8,64] x, int64[1] a) => (float[8,1] y) { [l] y = ReduceL2 (x, a) }"
    found = run(typed(length, a=np.array([1])), x=x)
    np.testing.assert_array_equal(found, b(np.sqrt(b(b(x * x).astype(np.float64).sum(1, keepdims=True)))))


def test_a_long_softmax_keeps_its_shares_in_bf16() -> None:
    text = f"g (float[1,{LONG}] x) => (float[1,{LONG}] y) {{ [s] y = Softmax <axis = -1> (x) }}"
    x = b(normal(1, LONG))
    shares = b(np.exp((x - x.max()).astype(np.float32)))
    total = b(shares.astype(np.float64).sum())
    assert np.mean(run(typed(text), x=x) == b(shares / total)) > 0.99


@needs_rtx
class TestPlans:
    """What ``strict.assumptions`` says of FP16 plans holds of BF16's."""

    @pytest.mark.parametrize("name", PINNED)
    def test_a_lone_product_is_taken_back_and_a_guarded_one_is_not(self, name: str, tmp_path: Path) -> None:
        def built(graph: Model) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
            save_model(graph, tmp_path / "graph.onnx")
            proof = build(tmp_path / "graph.onnx", tmp_path / "x.plan", BuildOptions(targets=("sm80",))).proof
            found = compiled(graph, proof)
            return {each.node: each.computed for each in found.nodes}["pinned"], found.narrowed, problems(found)

        guarded = lower(raise_opset(pinned(name), 22), {"pinned": "fp32"}, io="bf16", narrow=BF16)
        assert built(guarded) == ("fp32", (), ())
        computed, narrowed, told = built(unguarded(guarded))
        if name in TAKEN_BACK:
            assert (computed, narrowed) == ("bf16", ("pinned",))
            assert told[0].startswith("NARROWED: ")
            assert "compiled to bf16" in told[0]
        else:
            assert (computed, narrowed) == ("fp32", ())

    def test_softmax_norms_and_sums_are_stored_as_the_profile_has_it(self, plan: Build) -> None:
        softmax = "g (float[4,{n}] x) => (float[4,{n}] y) {{ a = Relu (x) [softmax] s = Softmax <axis = -1> (a) y = Sigmoid (s) }}"
        assert len(of(plan(typed(softmax.format(n=LONG - 1))), "softmax")) == 1
        (kernel,) = [each for each in of(plan(typed(softmax.format(n=LONG))), "softmax") if "Exp" in each.steps]
        assert {held.dims: held.dtype for held in kernel.outputs if held.dims[0] == 4} == {(4, LONG): "bf16", (4, 1): "bf16"}
        assert [held.dtype for held in kernel.outputs if held.dims[0] != 4] == ["fp32"], "partial sums"
        norm = "g (float[8,64] x, float[64] s, float[64] c) => (float[8,64] y) { [n] y = LayerNormalization <axis = -1> (x, s, c) }"
        (kernel,) = of(plan(typed(norm, s=normal(64), c=normal(64, seed=1))), "n")
        assert kernel.steps[-3:] == ("Cast", "Mul", "Add")
        total = "g (float[8,20000] x) => (float[1,1] y) { a = Relu (x) [sum] y = ReduceSum (a) }"
        (kernel,) = [each for each in of(plan(typed(total)), "sum") if each.steps[-1] == "Sum"]
        assert {held.dtype for held in kernel.outputs} == {"fp32", "bf16"}

    @pytest.mark.parametrize("op", ["HardSwish", "Mish", "LpNormalization", "LpPool", "GlobalLpPool", "GRU"])
    def test_what_the_parser_refuses_in_bf16_it_takes_as_typed(self, op: str, tmp_path: Path) -> None:
        """Its BF16 form is in ONNX's schema; typed FP32 the graph parses."""
        assert {"fp32"} <= set(parsed(tmp_path, {op: CASES[op]}, 22, BF16)[op].dtypes)

    def test_a_transposed_convolution_is_a_bf16_kernel(self, plan: Build) -> None:
        text = "g (float[1,16,8,8] x, float[16,8,3,3] w) => (float[1,8,10,10] y) { a = Relu (x) [up] c = ConvTranspose (a, w) y = Sigmoid (c) }"
        graph = typed(text, w=normal(16, 8, 3, 3))
        (kernel,) = of(plan(graph), "up")
        assert {held.dtype for held in (*kernel.inputs, *kernel.outputs)} == {"bf16"}
        assert count_types(graph)["fp32_nodes"] == 0
        x, w = b(normal(1, 16, 8, 8)), b(normal(16, 8, 3, 3))
        wanted = Session(model(text, 22)).run({"x": x, "w": w})["y"]
        assert np.abs(run(graph, x=x) - wanted).max() < 2.0**-7
