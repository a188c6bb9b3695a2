"""What became of each node after fusion: read from recorded tables, and from plans that are built here where TensorRT-RTX is installed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import onnx
import pytest

from fp16fix.config import Config, merged
from fp16fix.engines import BuildOptions, Built, build
from fp16fix.engines.backend import RTX
from fp16fix.engines.compiled import Compiled, compiled, problems
from fp16fix.engines.proof import Layer, Proof, proof_of
from fp16fix.engines.table import kernels
from fp16fix.graph.lone import guard
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.save import save_model
from fp16fix.inputs.files import write_npz
from fp16fix.report.outcome import Outcome
from fp16fix.tasks import rivals
from fp16fix.tasks.repair import repair
from tests.engines.test_table import recorded
from tests.models import filled, model, normal
from tests.odd.graphs import CASES

needs_rtx = pytest.mark.skipif(not RTX.importable(), reason="TensorRT-RTX is not installed")

WEIGHTS = normal(64, 32, seed=3)
LONE = """g (float16[8,64] x, float[64,32] w) => (float16[8,32] y) {
    [a] a = Relu (x) [aw] aw = Cast <to = 1> (a) [product] p = MatMul (aw, w) [ph] ph = Cast <to = 10> (p) [y] y = Sigmoid (ph) }"""
ATTENTION = """g (float16[1,4,128,64] q, float16[1,4,64,128] k, float16[1,4,128,64] v, float16 s) => (float16[1,4,128,64] y) {
    [scores] a = MatMul (q, k) [scaled] b = Mul (a, s) [softmax] c = Softmax <axis = -1> (b) [y] y = MatMul (c, v) }"""


def typed(text: str, **weights: np.ndarray) -> Model:
    """A graph as its author typed it."""
    return filled(text, weights, widened=False)


def of(graph: Model, log: str) -> Compiled:
    return compiled(graph, Proof((), 1, 0, kernels=kernels(recorded(log))))


def built(graph: Model, folder: Path, *, tf32: bool = True) -> Compiled:
    save_model(graph, folder / "graph.onnx")
    return compiled(graph, build(folder / "graph.onnx", folder / "x.plan", BuildOptions(targets=("sm80",), tf32=tf32)).proof)


class TestTold:
    def test_a_pin_that_was_taken_back(self) -> None:
        found = of(typed(LONE, w=WEIGHTS), "lone")
        told = {each.node: each for each in found.nodes}
        assert (told["product"].asked, told["product"].computed, told["product"].narrowed) == ("fp32", "fp16", True)
        assert (told["a"].asked, told["a"].computed, told["a"].stored, told["a"].narrowed) == ("fp16", "fp16", "fp16", False)
        assert (told["product"].stored, told["y"].stored) == ("", "fp16")
        assert found.narrowed == ("product",)
        (said,) = problems(found)
        assert said.startswith("NARROWED: MatMul 'product' is pinned to fp32 and compiled to fp16")

    def test_weights_that_fp16_holds_lose_nothing(self) -> None:
        found = of(typed(LONE, w=WEIGHTS.astype(np.float16).astype(np.float32)), "lone")
        assert {each.node: each.computed for each in found.nodes}["product"] == "fp16"
        assert problems(found) == ()

    def test_fused_attention_computes_in_nobody_knows_what(self) -> None:
        found = of(typed(ATTENTION, s=np.array(0.125, np.float16)), "attention")
        assert [set(each) for each in found.attention] == [{"scores", "scaled", "softmax", "y"}]
        assert {each.computed for each in found.nodes} == {""}
        assert {each.kernels for each in found.nodes} == {("attention",)}
        assert found.alphas == (), "its scale is inside, not an alpha"

    def test_bytes_are_those_that_cross_kernels_by_type(self) -> None:
        found = of(typed(LONE, w=WEIGHTS), "lone")
        assert (found.kernels, found.crossing, found.weights) == (2, {"fp16": 2 * 3 * 8 * 64 + 2 * 8 * 32}, {"fp16": 2 * 64 * 32})
        assert found.bytes == sum(found.crossing.values())
        assert found.unsized == 0

    def test_dynamic_sizes_are_counted_as_open(self) -> None:
        found = of(
            typed(
                'g (float16["n",64] x, float16[64,32] w) => (float16["n",32] y) { [p] p = MatMul (x, w) [y] y = Softmax (p) }',
                w=WEIGHTS.astype(np.float16),
            ),
            "dynamic",
        )
        assert (found.unsized, found.bytes) == (10, 0)

    def test_without_a_table_it_says_on_what_it_stands(self) -> None:
        graph = typed(LONE, w=WEIGHTS)
        layers = (Layer("MATRIX_MULTIPLY", ("product",), ("fp32",)), Layer("ACTIVATION", ("a",), ("fp16",)))
        found = compiled(graph, proof_of(layers, source="network"))
        assert found.source == "network"
        assert {each.node: each.computed for each in found.nodes} == {"a": "fp16", "product": "fp32", "y": ""}
        assert problems(found) == ()
        assert compiled(graph, proof_of(layers, source="inspector")).source == "inspector"


SMALL, IMAGE = "float[8,64] x", "float[1,16,12,12] x"
PINNED = {
    "MatMul": (SMALL, "MatMul (a, w)", {"w": WEIGHTS}),
    "MatMul, transposed": (SMALL, "MatMul (a, w) p = Transpose <perm = [1, 0]> (q)", {"w": WEIGHTS}),
    "Gemm": (SMALL, "Gemm (a, w)", {"w": WEIGHTS}),
    "Gemm with bias": (SMALL, "Gemm <transB = 1, alpha = 0.5> (a, w, b)", {"w": normal(32, 64, seed=4), "b": normal(32)}),
    "Einsum": (SMALL, 'Einsum <equation = "ij,jk->ik"> (a, w)', {"w": WEIGHTS}),
    "Conv": (IMAGE, "Conv (a, w)", {"w": normal(8, 16, 3, 3)}),
    "Conv with bias": (IMAGE, "Conv (a, w, b)", {"w": normal(8, 16, 3, 3), "b": normal(8)}),
    "ConvTranspose": (IMAGE, "ConvTranspose (a, w, b)", {"w": normal(16, 8, 3, 3), "b": normal(8)}),
}
TAKEN_BACK = PINNED.keys() - {"Gemm with bias"}
"""What the compiler makes FP16 kernels of where nothing guards it; should one leave this set, ``strict.assumptions`` has a row less."""


def pinned(name: str) -> Model:
    """A product between Relu and Sigmoid, to be pinned; in FP32."""
    given, body, weights = PINNED[name]
    head, _, rest = body.partition(" p = ")
    made = f"[pinned] q = {head} p = {rest}" if rest else f"[pinned] p = {head}"
    shapes = ", ".join(f"float[{','.join(map(str, each.shape))}] {key}" for key, each in weights.items())
    rank = "A,B" if given is SMALL else "A,B,C,D"
    return filled(f"g ({given}, {shapes}) => (float[{rank}] y) {{ a = Relu (x) {made} y = Sigmoid (p) }}", weights)


def unguarded(typed: Model) -> Model:
    """The same graph, the guard's Clip taken out."""
    for node in [node for node in typed.graph.nodes if node.name in typed.border]:
        node.outputs[0].outputs[0].inputs[0] = node.inputs[0]
    typed.graph.cleanup()
    return typed


@needs_rtx
class TestBuilt:
    @pytest.mark.parametrize("name", PINNED)
    def test_a_pin_holds(self, name: str, tmp_path: Path) -> None:
        found = built(lower(pinned(name), {"pinned": "fp32"}, io="fp16"), tmp_path)
        told = {each.node: each for each in found.nodes}["pinned"]
        assert found.source == "plan"
        assert (told.asked, told.computed) == ("fp32", "fp32")
        assert found.float_products == found.tf32_products == ("pinned",)
        assert problems(found) == ()
        assert found.weights["fp32"] >= max(4 * each.size for each in PINNED[name][2].values())

    @pytest.mark.parametrize("name", PINNED)
    def test_without_its_guard_it_would_not(self, name: str, tmp_path: Path) -> None:
        found = built(unguarded(lower(pinned(name), {"pinned": "fp32"}, io="fp16")), tmp_path)
        assert found.narrowed == (("pinned",) if name in TAKEN_BACK else ())

    def test_exact_weights_need_no_guard_and_cost_no_float_product(self, tmp_path: Path) -> None:
        text = "g (float[8,64] x, float[64,32] w) => (float[8,32] y) { a = Relu (x) [pinned] p = MatMul (a, w) y = Sigmoid (p) }"
        graph = lower(filled(text, {"w": np.round(WEIGHTS * 8)}), {"pinned": "fp32"}, io="fp16")
        found = built(graph, tmp_path)
        assert {each.node: each.computed for each in found.nodes}["pinned"] == "fp16"
        assert problems(found) == found.float_products == ()

    def test_a_scalar_in_front_of_a_product_becomes_its_alpha_and_of_a_convolution_not(self, tmp_path: Path) -> None:
        text = (
            "g (float[8,64] x, float[64,32] z) => (float[8,32] y) <float s = {0.3}> { [scale] a = Mul (x, s) [product] y = MatMul (a, z) }"
        )
        assert built(lower(model(text), {}, io="fp16"), tmp_path).alphas == ("scale",)
        text = "g (float[1,16,12,12] x, float[8,16,3,3] w) => (float[1,8,10,10] y) <float s = {0.3}> { [scale] a = Mul (x, s) y = Conv (a, w) }"
        assert built(lower(filled(text, {"w": normal(8, 16, 3, 3)}), {}, io="fp16"), tmp_path).alphas == ()

    def test_an_fp16_product_whose_kernel_casts_its_operand_is_no_float_product(self, tmp_path: Path) -> None:
        text = "g (float[1,16,12,12] x, float[8,16,3,3] w) => (float[1,8,10,10] y) { [conv] a = Conv (x, w) y = Sigmoid (a) }"
        found = built(lower(filled(text, {"w": normal(8, 16, 3, 3)}), {}), tmp_path)
        assert {each.node: each.computed for each in found.nodes}["conv"] == "fp16"
        assert found.float_products == ()

    def test_a_wide_interior_of_a_fused_kernel_moves_no_byte_in_fp32(self, tmp_path: Path) -> None:
        text = "g (float[8,64] x) => (float[8,64] y) { a = Relu (x) [wide] b = Exp (a) y = Sigmoid (b) }"
        found = built(lower(model(text), {"wide": "fp32"}, io="fp16"), tmp_path)
        assert {each.node: (each.computed, each.stored) for each in found.nodes}["wide"] == ("fp32", "")
        assert set(found.crossing) == {"fp16"}


def test_a_guard_is_put_once() -> None:
    graph = lower(pinned("MatMul"), {"pinned": "fp32"}, io="fp16")
    count = len(graph.graph.nodes)
    guard(graph)
    assert len(graph.graph.nodes) == count


@needs_rtx
class TestIntegers:
    """What a quantised model was quantised for is counted in its own plan and in that of its repair."""

    @pytest.fixture
    def outcome(self, tmp_path: Path) -> Outcome:
        case = next(case for case in CASES if case.name == "quantised-stream")
        onnx.save(case.build(), tmp_path / "model.onnx")
        (tmp_path / "samples").mkdir()
        write_npz(tmp_path / "samples" / "0.npz", case.sample(0))
        return repair(Config(model=tmp_path / "model.onnx", inputs=str(tmp_path / "samples"), output=tmp_path / "x.plan", threads=1))

    def test_all_products_are_still_integers(self, outcome: Outcome) -> None:
        facts = outcome.engine
        assert facts.compiled is not None
        assert (facts.compiled.int8_products, facts.int8_before) == (("Conv_a", "Conv_y"), 2)
        assert facts.compiled.float_products == ()
        assert not [each for each in facts.warnings if "INT8" in each]
        assert "2 products in INT8, 2 in a plan of the model as given" in Path(outcome.files["report"]).read_text()

    def test_fewer_than_before_is_said(self, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rivals, "compiled", lambda *_: Compiled("plan", int8_products=("a", "b", "c")))
        given = rivals.Rival(rivals.FULL, model(LONE_PRODUCT), cast("Built", SimpleNamespace(proof=None)))
        found = rivals.with_integers(outcome.engine, [given])
        assert found.int8_before == 3
        assert found.warnings[-1] == "Of 3 INT8 products 1 are none in the repaired plan."

    def test_a_comparison_that_fails_costs_no_product(self, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*_: object) -> None:
            raise MemoryError("no room")

        monkeypatch.setattr(rivals, "compiled", fails)
        again = repair(Config(model=Path(outcome.model.path), inputs=outcome.samples.source, output=Path(outcome.engine.path), threads=1))
        assert again.verified
        assert Path(again.engine.path).is_file()
        assert "Nothing to compare with: MemoryError: no room" in again.engine.warnings

    def test_nothing_is_said_where_no_build_is_left(self, tmp_path: Path) -> None:
        case = next(case for case in CASES if case.name == "quantised-stream")
        onnx.save(case.build(), tmp_path / "model.onnx")
        (tmp_path / "samples").mkdir()
        write_npz(tmp_path / "samples" / "0.npz", case.sample(0))
        given = {"model": tmp_path / "model.onnx", "inputs": str(tmp_path / "samples"), "output": tmp_path / "x.plan", "search.builds": 1}
        assert repair(merged(Config(), given)).engine.int8_before is None


LONE_PRODUCT = "g (float[4,4] x) => (float[4,4] y) { y = MatMul (x, x) }"
