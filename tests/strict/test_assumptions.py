"""Each assumption that was seen in plans is seen again: a compiler that behaves otherwise fails here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fp16fix.engines.backend import RTX
from fp16fix.engines.table import Kernel
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.strict.assumptions import ASSUMPTIONS, Evidence, table
from fp16fix.strict.fused import LONG
from tests.engines.test_compiled import PINNED, TAKEN_BACK, pinned, unguarded
from tests.models import filled, model, normal
from tests.strict.plans import Build, of, plan

__all__ = ["plan"]

needs_rtx = pytest.mark.skipif(not RTX.importable(), reason="TensorRT-RTX is not installed")
ATTENTION = """g (float[1,4,128,64] q, float[1,4,64,128] k, float[1,4,128,64] v) => (float[1,4,128,64] y) <float s = {0.125}> {
    [scores] a = MatMul (q, k) [scaled] b = Mul (a, s) [softmax] c = Softmax <axis = -1> (b) [values] y = MatMul (c, v) }"""


def half(text: str, wide: tuple[str, ...] = (), opset: int = 17, **weights: np.ndarray) -> Model:
    fp32 = filled(text, weights, opset) if weights else model(text, opset)
    return lower(fp32, dict.fromkeys(wide, "fp32"), io="fp16")


def widths(kernel: Kernel) -> set[str]:
    """Types of weights."""
    return {held.dtype for held in kernel.constants if not held.is_scalar}


def lone_product(plan: Build) -> None:
    for name in sorted(PINNED):
        (kernel,) = of(plan(unguarded(lower(pinned(name), {"pinned": "fp32"}, io="fp16"))), "pinned")
        assert widths(kernel) == {"fp16" if name in TAKEN_BACK else "fp32"}, name


def guarded_product(plan: Build) -> None:
    for name in sorted(PINNED):
        (kernel,) = of(plan(lower(pinned(name), {"pinned": "fp32"}, io="fp16")), "pinned")
        assert widths(kernel) == {"fp32"}, name


def softmax(keys: int, wide: tuple[str, ...] = ()) -> Model:
    return half(
        f"g (float[4,{keys}] x) => (float[4,{keys}] y) {{ a = Relu (x) [softmax] s = Softmax <axis = -1> (a) y = Sigmoid (s) }}", wide
    )


def sums(rows: tuple[Kernel, ...]) -> Kernel:
    (kernel,) = [each for each in of(rows, "softmax") if "Exp" in each.steps]
    return kernel


def long_softmax(plan: Build) -> None:
    assert len(of(plan(softmax(LONG - 1)), "softmax")) == 1
    kernel = sums(plan(softmax(LONG)))
    assert kernel.steps == ("Sub", "Exp", "Sum")
    assert {held.dims: held.dtype for held in kernel.outputs if held.dims[0] == 4} == {(4, LONG): "fp16", (4, 1): "fp16"}
    assert [held.dtype for held in kernel.outputs if held.dims[0] != 4] == ["fp32"], "partial sums"


def wide_long_softmax(plan: Build) -> None:
    kernel = sums(plan(softmax(70_000, ("softmax",))))
    assert {held.dtype for held in kernel.outputs} == {"fp32"}


def norm(plan: Build) -> None:
    text = "g (float[8,64] x, float[64] s, float[64] b) => (float[8,64] y) { [n] y = LayerNormalization <axis = -1> (x, s, b) }"
    (kernel,) = of(plan(half(text, s=normal(64), b=normal(64, seed=1))), "n")
    assert kernel.steps[0] == "Cast"
    assert kernel.steps[-3:] == ("Cast", "Mul", "Add")
    text = "g (float[2,8,9,9] x, float[8] s, float[8] b) => (float[2,8,9,9] y) { [n] y = GroupNormalization <num_groups = 2> (x, s, b) }"
    first, second = of(plan(half(text, opset=21, s=normal(8), b=normal(8, seed=1))), "n")
    assert (first.steps[-3], second.steps) == ("Cast", ("Mul", "Add"))
    assert {held.dtype for held in first.outputs} == {"fp16"}
    text = "g (float[2,8,9,9] x, float[8] s, float[8] b) => (float[2,8,9,9] y) { [n] y = InstanceNormalization (x, s, b) }"
    (whole,) = of(plan(half(text, s=normal(8), b=normal(8, seed=1))), "n")
    assert whole.kind == "runtime_function"


def gemm_whole(plan: Build) -> None:
    text = "g (float[8,64] x, float[64,32] w, float[32] b) => (float[8,32] y) { [gemm] p = Gemm (x, w, b) y = Relu (p) }"
    (kernel,) = of(plan(half(text, w=normal(64, 32), b=normal(32))), "gemm")
    assert kernel.steps[:2] == ("Fc", "Add")


def reductions(plan: Build) -> None:
    for text in (
        "g (float[8,20000] x) => (float[1,1] y) { a = Relu (x) [sum] y = ReduceSum (a) }",
        "g (float[1,8,200,200] x) => (float[1,8,1,1] y) { a = Relu (x) [sum] y = GlobalAveragePool (a) }",
    ):
        (kernel,) = [each for each in of(plan(half(text)), "sum") if each.steps[-1] in {"Sum", "Mean"}]
        assert {held.dtype for held in kernel.outputs} == {"fp32", "fp16"}


def alpha(plan: Build) -> None:
    text = "g (float[8,64] x, float[64,32] z) => (float[8,32] y) <float s = {0.3}> { [scale] a = Mul (x, s) [product] y = MatMul (a, z) }"
    (kernel,) = of(plan(half(text)), "scale")
    assert kernel in of((kernel,), "product")
    text = (
        "g (float[1,16,9,9] x, float[8,16,3,3] w) => (float[1,8,7,7] y) <float s = {0.3}> { [scale] a = Mul (x, s) [conv] y = Conv (a, w) }"
    )
    rows = plan(half(text, w=normal(8, 16, 3, 3)))
    assert not set(of(rows, "scale")) & set(of(rows, "conv"))


def fused_attention(plan: Build) -> None:
    for wide in ((), ("softmax",), ("scaled", "softmax")):
        (kernel,) = of(plan(half(ATTENTION, wide)), "softmax")
        assert "mha" in kernel.name
        assert {"scores", "scaled", "softmax", "values"} <= set(kernel.owners), wide


def upcast_attention(plan: Build) -> None:
    rows = plan(half(ATTENTION, ("scores", "scaled", "softmax", "values")))
    for node in ("scores", "values"):
        (kernel,) = of(rows, node)
        assert kernel.kind == "gemm"
        assert {held.dtype for held in kernel.inputs} == {"fp32"}


def free_interior(plan: Build) -> None:
    (kernel,) = plan(half("g (float[8,64] x) => (float[8,64] y) { a = Relu (x) [wide] b = Exp (a) y = Sigmoid (b) }", ("wide",)))
    assert kernel.steps == ("Relu", "Cast", "Exp", "Cast", "Sigm")
    assert {held.dtype for held in (*kernel.inputs, *kernel.outputs)} == {"fp16"}


SHOWN = {
    "lone-product": lone_product,
    "guarded-product": guarded_product,
    "long-softmax": long_softmax,
    "wide-long-softmax": wide_long_softmax,
    "norm": norm,
    "gemm-whole": gemm_whole,
    "reductions": reductions,
    "alpha": alpha,
    "fused-attention": fused_attention,
    "upcast-attention": upcast_attention,
    "free-interior": free_interior,
}


def test_what_was_seen_has_a_graph_that_shows_it() -> None:
    assert SHOWN.keys() == {each.name for each in ASSUMPTIONS if each.evidence is Evidence.SEEN}


@needs_rtx
@pytest.mark.parametrize("name", sorted(SHOWN))
def test_it_is_seen_again(name: str, plan: Build) -> None:
    SHOWN[name](plan)


def test_the_note_has_the_table() -> None:
    text = (Path(__file__).parents[2] / "notes" / "arithmetic.md").read_text()
    assert text.partition("<!-- table -->\n")[2].partition("<!-- end -->")[0] == table()
