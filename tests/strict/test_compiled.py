"""The profile that decides, against what plans were seen to store; the same graphs under it and beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fp16fix.config import Config, merged
from fp16fix.graph.lone import exact, lone_products, wide_products
from fp16fix.graph.lower import count_types, lower
from fp16fix.graph.model import Model
from fp16fix.graph.save import save_model
from fp16fix.graph.session import Session
from fp16fix.half import FP16
from fp16fix.strict.emulate import emulate
from fp16fix.strict.fused import LONG
from fp16fix.strict.tf32 import rounded
from fp16fix.tasks import repair, verify
from tests.models import filled, model, normal, sqnr_db

WEIGHTS = normal(64, 32, seed=3) * np.float32(0.02) + np.float32(30)
"""Against signs that sum to zero the offset cancels: what counts is beyond the 11 bits of FP16 and of TF32."""
LONE = """g (float[8,64] x, float[64,32] w) => (float[8,32] y) { s = Sign (x) [product] p = MatMul (s, w) y = Neg (p) }"""
USERS = """g (float[8,64] x, float[64,32] w) => (float[8,32] y) {
    s = Sign (x) sh = Cast <to = 10> (s) sw = Cast <to = 1> (sh) [product] p = MatMul (sw, w) ph = Cast <to = 10> (p) y = Cast <to = 1> (ph) }"""


def ran(typed: Model, inputs: dict[str, np.ndarray], profile: str = "compiled") -> np.ndarray:
    return np.asarray(Session(emulate(typed, profile)).run(inputs)["y"])


def by_hand(weights: np.ndarray) -> np.ndarray:
    return np.asarray(SIGNS @ weights)


SIGNS = np.stack([np.random.default_rng(row).permutation(np.repeat(np.array([-1, 1], np.float32), 32)) for row in range(8)])


class TestLone:
    def test_weights_of_a_lone_product_are_fp16(self) -> None:
        typed = filled(USERS, {"w": WEIGHTS}, widened=False)
        assert [each.node.name for each in lone_products(typed)] == ["product"]
        assert wide_products(typed) == []
        expected = by_hand(WEIGHTS.astype(np.float16).astype(np.float32)).astype(np.float16)
        np.testing.assert_allclose(ran(typed, {"x": SIGNS}), expected, rtol=2.0**-11)
        assert sqnr_db(by_hand(WEIGHTS), ran(typed, {"x": SIGNS})) < 45.0

    def test_weights_past_fp16_are_infinite(self) -> None:
        typed = filled(
            USERS.replace("ph = Cast", "c = Sigmoid (p) ph = Cast").replace("(p) y", "(c) y"), {"w": WEIGHTS * 1e4}, widened=False
        )
        assert np.isfinite(ran(typed, {"x": SIGNS})).all(), "what reads it in FP32 keeps it"
        assert not np.isfinite(ran(filled(USERS, {"w": WEIGHTS * 1e4}, widened=False), {"x": SIGNS})).any()

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (("(p) y = Cast <to = 1> (ph)", "(p) z = Cast <to = 1> (ph) y = Add (z, p)"), "something reads it in FP32"),
            (("ph = Cast <to = 10> (p) y = Cast <to = 1> (ph)", "y = Identity (p)"), "it leaves the graph in FP32"),
            (("MatMul (sw, w)", "MatMul (s, w)"), "its operand is computed in FP32"),
            (("(p) y = Cast <to = 1> (ph)", "(q) y = Cast <to = 1> (ph)"), "a Clip stands before the Cast"),
        ],
    )
    def test_anything_else_beside_it_keeps_it(self, change: tuple[str, str], why: str) -> None:
        text = USERS.replace(*change).replace("ph = Cast <to = 10> (q)", "q = Relu (p) ph = Cast <to = 10> (q)")
        typed = filled(text, {"w": WEIGHTS}, widened=False)
        assert not list(lone_products(typed)), why
        assert [node.name for node in wide_products(typed)] == ["product"]

    def test_what_leaves_the_graph_beside_its_cast_is_kept(self) -> None:
        text = USERS.replace("(float[8,32] y) {", "(float[8,32] y, float[8,32] p) {")
        assert not list(lone_products(filled(text, {"w": WEIGHTS}, widened=False)))

    def test_the_guard_changes_no_value_and_is_no_node_to_count(self) -> None:
        fp32 = filled(LONE, {"w": normal(64, 32, seed=3) * np.float32(1e4)})
        typed = lower(fp32, {"product": "fp32"}, io="fp16")
        assert [node.op for node in typed.nodes()] == ["Sign", "Cast", "MatMul", "Clip", "Cast", "Neg"]
        assert count_types(typed)["fp32_nodes"] == 1
        found, expected = ran(typed, {"x": SIGNS}), -by_hand(normal(64, 32, seed=3) * np.float32(1e4))
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(found, expected.astype(np.float16), rtol=2.0**-10)
        assert np.isinf(found).any(), "what does not fit is infinite with a guard too"
        assert np.isfinite(found).any()

    @pytest.mark.parametrize("opset", [9, 12])
    def test_old_opsets_have_the_guard_too(self, opset: int) -> None:
        typed = lower(filled(LONE, {"w": WEIGHTS}, opset), {"product": "fp32"})
        assert "Clip" in {node.op for node in typed.nodes()}
        assert sqnr_db(-by_hand(WEIGHTS), ran(typed, {"x": SIGNS})) > 60.0

    def test_exact_weights_get_none(self) -> None:
        typed = lower(filled(LONE, {"w": np.round(WEIGHTS)}), {"product": "fp32"})
        assert "Clip" not in {node.op for node in typed.nodes()}

    def test_exact_is_what_fp16_holds(self) -> None:
        assert exact(np.array([1.0, 2.0**-24, 65504.0, np.nan, np.inf], np.float32), FP16)
        for value in (1.0 + 2.0**-11, 2.0**-25, 65505.0):
            assert not exact(np.array([1.0, value], np.float32), FP16)


def test_tf32_keeps_eleven_bits_to_nearest_even() -> None:
    values = np.array([1.0 + 2.0**-11, 1.0 + 3 * 2.0**-11, 1.0 + 2.0**-10, -3.3e38, 0.0, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(rounded(values)[[0, 1, 2, 4, 5]], np.array([1.0, 1.0 + 2.0**-9, 1.0 + 2.0**-10, 0.0, np.inf], np.float32))
    assert np.isnan(rounded(values)[6])
    assert rounded(values)[3] == pytest.approx(-3.3e38, rel=2.0**-11)


def test_tf32_rounds_both_operands_of_fp32_products_alone() -> None:
    text = "g (float[8,64] x, float[64,32] w) => (float[8,32] y) { [product] y = MatMul (x, w) }"
    x = normal(8, 64)
    wide = lower(filled(text, {"w": WEIGHTS}), {"product": "fp32"})
    np.testing.assert_allclose(ran(wide, {"x": x}, "compiled-tf32"), rounded(x) @ rounded(WEIGHTS), rtol=1e-5)
    assert sqnr_db(x @ WEIGHTS, ran(wide, {"x": x})) > 110.0
    narrow = lower(filled(text, {"w": WEIGHTS}), {})
    np.testing.assert_array_equal(ran(narrow, {"x": x}, "compiled-tf32"), ran(narrow, {"x": x}))


@pytest.mark.parametrize("axes", ["4,{keys}", "4,N"])
@pytest.mark.parametrize("opset", [12, 13, 18])
def test_a_long_softmax_stores_its_sum(axes: str, opset: int) -> None:
    def found(keys: int) -> np.ndarray:
        shape = axes.format(keys=keys)
        typed = lower(model(f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Softmax <axis = 1> (x) }}", opset), {})
        return ran(typed, {"x": np.zeros((4, keys), np.float32)})

    np.testing.assert_array_equal(found(70_000), 0.0)
    assert (found(LONG + 10) == np.float32(np.float16(1 / np.float32(np.float16(LONG + 10))))).all()
    assert (found(LONG - 1) == np.float32(np.float16(1 / (LONG - 1)))).all()


@pytest.mark.parametrize(
    ("shape", "body", "opset"),
    [
        ("6,8", "LayerNormalization <axis = -1> (x, s, b)", 17),
        ("2,8,5", "InstanceNormalization (x, s, b)", 17),
        ("2,8,5", "GroupNormalization <num_groups = 2> (x, s, b)", 21),
    ],
)
def test_norms_round_before_scale_and_bias(shape: str, body: str, opset: int) -> None:
    scale, bias = normal(8, seed=1) + np.float32(2), normal(8, seed=2)
    half = (scale.astype(np.float16).astype(np.float32), bias.astype(np.float16).astype(np.float32))
    fp32 = filled(f"g (float[{shape}] x, float[8] s, float[8] b) => (float[{shape}] y) {{ y = {body} }}", {"s": scale, "b": bias}, opset)
    plain = filled(
        f"g (float[{shape}] x, float[8] s, float[8] b) => (float[{shape}] y) {{ y = {body} }}",
        {"s": np.ones_like(scale), "b": 0 * bias},
        opset,
    )
    x = normal(*map(int, shape.split(","))).astype(np.float16).astype(np.float32)
    held = Session(plain).run({"x": x})["y"].astype(np.float16).astype(np.float32)
    s, b = (each if shape == "6,8" else each[:, None] for each in half)
    np.testing.assert_array_equal(ran(lower(fp32, {}), {"x": x}), (held * s + b).astype(np.float16).astype(np.float32))


def test_a_gemms_bias_is_added_before_anything_is_stored() -> None:
    text = "g (float[2,4] x, float[4,2] w, float[2] c) => (float[2,2] y) { y = Gemm (x, w, c) }"
    typed = lower(filled(text, {"w": np.full((4, 2), 300, np.float32), "c": np.full(2, -60000, np.float32)}), {})
    x = np.full((2, 4), 100, np.float32)
    np.testing.assert_array_equal(ran(typed, {"x": x}), 60000.0)
    assert np.isinf(ran(typed, {"x": x}, "pessimistic")).all()


def saved(folder: Path, graph: Model, name: str) -> Path:
    save_model(graph, folder / name)
    return folder / name


class TestVerify:
    """A user's mixed graph, judged as its plan would compute."""

    def given(self, folder: Path, weights: np.ndarray) -> Config:
        saved(folder, filled(LONE.replace("Neg (p)", "Identity (p)"), {"w": weights}), "model.onnx")
        np.savez(folder / "sample.npz", x=SIGNS)
        return merged(
            Config(), {"model": str(folder / "model.onnx"), "inputs": str(folder / "sample.npz"), "max_fp32_share": 1.0, "jitter": 1}
        )

    def test_a_plan_that_would_hold_infinities_is_not_verified(self, tmp_path: Path) -> None:
        given = self.given(tmp_path, WEIGHTS * 1e4)
        lone = saved(tmp_path, filled(USERS, {"w": WEIGHTS * 1e4}, widened=False), "lone.onnx")
        verdict = verify.verify(given, lone)
        assert not verdict.verified
        assert verdict.outputs[0].lost > 0

    def test_weights_that_are_rounded_off_are_seen(self, tmp_path: Path) -> None:
        given = self.given(tmp_path, WEIGHTS)
        verdict = verify.verify(given, saved(tmp_path, filled(USERS, {"w": WEIGHTS}, widened=False), "lone.onnx"))
        assert not verdict.verified
        guarded = USERS.replace("ph = Cast <to = 10> (p)", "q = Clip (p, lo, hi) ph = Cast <to = 10> (q)").replace(
            "(float[8,32] y) {", "(float[8,32] y) <float lo = {-131072.0}, float hi = {131072.0}> {"
        )
        candidate = saved(tmp_path, filled(guarded, {"w": WEIGHTS}, widened=False), "guarded.onnx")
        on = verify.verify(given, candidate)
        assert (on.verified, on.profile) == (False, "compiled-tf32")
        assert any("--no-tf32" in note for note in on.notes)
        off = verify.verify(merged(given, {"build.tf32": False}), candidate)
        assert (off.verified, off.profile) == (True, "compiled")


class TestRepair:
    """A repair decides whether TF32 may be on."""

    def test_a_pin_for_precision_turns_it_off_and_the_reader_is_told(self, tmp_path: Path) -> None:
        given = TestVerify().given(tmp_path, WEIGHTS)
        outcome = repair.repair(merged(given, {"output": str(tmp_path / "out.onnx"), "pin": ("product",)}))
        assert outcome.verified
        assert outcome.engine.tf32 is False
        assert "--noTF32" in outcome.engine.warnings[0]

    def test_it_stays_on_where_the_verdict_holds_with_it(self, tmp_path: Path) -> None:
        given = TestVerify().given(tmp_path, np.abs(normal(64, 32, seed=3)).astype(np.float32))
        outcome = repair.repair(merged(given, {"output": str(tmp_path / "out.onnx"), "pin": ("product",)}))
        assert (outcome.verified, outcome.engine.tf32, outcome.engine.warnings) == (True, True, ())

    def test_asked_for_it_decides(self, tmp_path: Path) -> None:
        given = TestVerify().given(tmp_path, WEIGHTS)
        outcome = repair.repair(merged(given, {"output": str(tmp_path / "out.onnx"), "pin": ("product",), "build.tf32": True}))
        assert (outcome.verified, outcome.verdict.profile, outcome.engine.tf32) == (False, "compiled-tf32", True)
