"""Sums of products in FP16, against a loop over blocks in numpy; certificates, against every partial sum of many orders."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fp16fix.config import Config, merged
from fp16fix.graph.lower import lower
from fp16fix.graph.save import save_model
from fp16fix.graph.session import Session
from fp16fix.report.outcome import Outcome, load
from fp16fix.report.replay import replay
from fp16fix.search import accumulation
from fp16fix.strict.certificate import certified
from fp16fix.strict.emulate import emulate
from fp16fix.strict.fused import LONG
from fp16fix.tasks import repair, verify
from fp16fix.verdict.condition import Bounded
from tests.models import filled, model, normal, sqnr_db

BLOCK = 16
PARTIAL = "g (float[4,256] x, float[256,8] w) => (float[4,8] y) { r = Relu (x) [product] y = MatMul (r, w) }"
PRESCALED = """g (float[1,16,256] q, float[1,256,16] k) => (float[1,16,16] y) <float s = {0.015625}> {
    [scale] a = Mul (q, s) [product] y = MatMul (a, k) }"""


def half(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32).astype(np.float16).astype(np.float32)


def in_blocks(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    total = np.zeros((*a.shape[:-1], b.shape[-1]), np.float32)
    for k in range(0, a.shape[-1], BLOCK):
        total = half(total + a[..., k : k + BLOCK] @ b[..., k : k + BLOCK, :])
    return total


def ran(text: str, inputs: dict[str, np.ndarray], weights: dict[str, np.ndarray] | None = None, opset: int = 17) -> np.ndarray:
    typed = lower(filled(text, weights, opset) if weights else model(text, opset), {})
    return np.asarray(Session(emulate(typed, "accumulate")).run(inputs)["y"])


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("terms", [16, 40, 200])
def test_a_product_rounds_its_sum_after_every_block(terms: int, opset: int) -> None:
    x, w = normal(5, terms), normal(terms, 8, seed=1)
    found = ran(f"g (float[5,{terms}] x, float[{terms},8] w) => (float[5,8] y) {{ y = MatMul (x, w) }}", {"x": x}, {"w": w}, opset)
    np.testing.assert_allclose(found, in_blocks(half(x), half(w)), rtol=2.0**-10)
    assert (found == in_blocks(half(x), half(w))).mean() > 0.95, "FP32 inside a block may fall on the other side of a tie"


def test_a_dynamic_product_of_activations_too() -> None:
    a, b = normal(2, 3, 40), normal(2, 40, 6, seed=1)
    found = ran("g (float[2,3,K] a, float[2,K,6] b) => (float[2,3,6] y) { y = MatMul (a, b) }", {"a": a, "b": b})
    np.testing.assert_allclose(found, in_blocks(half(a), half(b)), rtol=2.0**-10, atol=2.0**-10)


def test_a_gemm_scales_and_adds_behind_the_sum() -> None:
    x, w, c = normal(5, 64), normal(8, 64, seed=1), normal(8, seed=2)
    text = "g (float[5,64] x, float[8,64] w, float[8] c) => (float[5,8] y) { y = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (x, w, c) }"
    found = ran(text, {"x": x}, {"w": w, "c": c})
    np.testing.assert_allclose(found, half(np.float32(0.5) * in_blocks(half(x), half(w.T)) + 2 * half(c)), rtol=2.0**-10, atol=2.0**-10)


def by_taps(x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
    """A 3 × 3 convolution with pads of 1, in blocks of channels of one tap."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    size = (x.shape[2] - 1) // stride + 1
    total = np.zeros((x.shape[0], w.shape[0], size, size), np.float32)
    for c in range(0, x.shape[1], BLOCK):
        for i, j in np.ndindex(3, 3):
            part = padded[:, c : c + BLOCK, i : i + stride * (size - 1) + 1 : stride, j : j + stride * (size - 1) + 1 : stride]
            total = half(total + np.einsum("nchw,oc->nohw", part, w[:, c : c + BLOCK, i, j]))
    return total


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_goes_tap_by_tap(stride: int) -> None:
    x, w, b = normal(2, 40, 7, 7), normal(6, 40, 3, 3, seed=1), normal(6, seed=2)
    body = f"Conv <pads = [1, 1, 1, 1], strides = [{stride}, {stride}]> (x, w, b)"
    found = ran(f"g (float[2,40,7,7] x, float[6,40,3,3] w, float[6] b) => (float[2,6,A,B] y) {{ y = {body} }}", {"x": x}, {"w": w, "b": b})
    np.testing.assert_allclose(found, half(by_taps(half(x), half(w), stride) + half(b)[:, None, None]), rtol=2.0**-9, atol=2.0**-8)


def test_what_fits_one_block_is_not_rounded_on_the_way() -> None:
    x, w = normal(1, 4, 9, 9), normal(4, 1, 3, 3, seed=1)
    text = "g (float[1,4,9,9] x, float[4,1,3,3] w) => (float[1,4,7,7] y) { y = Conv <group = 4> (x, w) }"
    typed = lower(filled(text, {"w": w}), {})
    found = [Session(emulate(typed, profile)).run({"x": x})["y"] for profile in ("accumulate", "compiled")]
    np.testing.assert_array_equal(*found)


def test_what_is_not_written_in_blocks_is_lost_past_the_bound() -> None:
    x, w = np.full((1, 2, 4, 4), 200, np.float32), np.full((2, 3, 2, 2), 90, np.float32)
    w[1] = -89
    text = "g (float[1,2,4,4] x, float[2,3,2,2] w) => (float[1,3,5,5] y) { y = ConvTranspose (x, w) }"
    assert np.isinf(ran(text, {"x": x}, {"w": w})[0, 0, 2, 2])
    assert np.isfinite(Session(emulate(lower(filled(text, {"w": w}), {}))).run({"x": x})["y"]).all()


def test_attention_divides_last() -> None:
    """Shares of 1/K are all 1 while they are added, so that the sum over K values of 2,000 passes 65504."""
    text = "g (float[1,1,2,4] q, float[1,1,4,100] k, float[1,1,100,4] v) => (float[1,1,2,4] y) { a = MatMul (q, k) b = Softmax <axis = -1> (a) y = MatMul (b, v) }"
    inputs = {"q": np.zeros((1, 1, 2, 4), np.float32), "k": normal(1, 1, 4, 100), "v": np.full((1, 1, 100, 4), 2000, np.float32)}
    assert np.isinf(ran(text, inputs)).all()
    calm = ran(text, inputs | {"v": normal(1, 1, 100, 4)})
    np.testing.assert_allclose(calm, normal(1, 1, 100, 4).mean(axis=2, keepdims=True).repeat(2, axis=2), atol=2e-3)


def test_a_quotient_is_no_softmax_whatever_its_name() -> None:
    """As exporters call it: behind a Where, all zeros, so that nothing may be divided by its largest."""
    text = """g (float[4,64] x, bool[4,64] m, float[64,8] w) => (float[4,8] y) <float zero = {0}, float two = {2}> {
        a = Where (m, zero, x) d = Div (a, two) y = MatMul (d, w) }"""
    typed = lower(model(text), {})
    for node in typed.nodes():
        node.name = node.name if node.op == "Cast" else f"block/{node.op}"
    inputs = {"x": normal(4, 64), "m": np.ones((4, 64), bool), "w": normal(64, 8, seed=1)}
    found = Session(emulate(typed, "accumulate")).run(inputs)["y"]
    np.testing.assert_array_equal(found, np.zeros((4, 8), np.float32))


def test_a_long_softmax_that_a_profile_wrote_out_is_one() -> None:
    keys = LONG + 3
    text = f"g (float[1,{keys}] x, float[{keys},2] v) => (float[1,2] y) {{ [share] p = Softmax (x) [product] y = MatMul (p, v) }}"
    inputs, values = {"x": np.zeros((1, keys), np.float32)}, np.full((keys, 2), 1.0, np.float32)
    typed = lower(filled(text, {"v": values}), {})
    (found,) = [each for each in certified(typed, [inputs]) if each.node == "product"]
    assert found.bound > keys / 2, "shares are added before they are divided by their sum"


def test_a_scalar_in_front_shrinks_no_partial_sum() -> None:
    inputs = {"q": np.full((1, 16, 256), 100, np.float32), "k": np.full((1, 256, 16), 10, np.float32)}
    assert np.isinf(ran(PRESCALED, inputs)).all()
    inner = PRESCALED.replace("a = Mul (q, s) [product] y = MatMul (a, k)", "b = Mul (q, s) a = Relu (b) [product] y = MatMul (a, k)")
    np.testing.assert_allclose(ran(inner, inputs), 4000.0)


class TestCertificate:
    def bounded(self, text: str, inputs: dict[str, np.ndarray], weights: dict[str, np.ndarray] | None = None) -> dict[str, Bounded]:
        typed = lower(filled(text, weights) if weights else model(text), {})
        return {each.node: each for each in certified(typed, [inputs])}

    def test_it_bounds_every_partial_sum_of_every_order(self) -> None:
        x, w = half(normal(3, 64) * 40), half(normal(64, 5, seed=1) * 40)
        found = self.bounded(
            "g (float[3,64] x, float[64,5] w) => (float[3,5] y) { r = Relu (x) [product] y = MatMul (r, w) }", {"x": x}, {"w": w}
        )["product"]
        r, rng = np.maximum(x, 0), np.random.default_rng(0)
        exact = (np.abs(r) @ np.abs(w)).max()
        assert found.terms == 64
        assert found.bound >= exact * (1 - 1e-6)
        for _ in range(20):
            order = rng.permutation(64)
            partial = np.cumsum(r[:, order, None] * w[None, order], axis=1)
            assert np.abs(partial).max() <= found.bound

    def test_what_norms_do_not_settle_is_computed(self) -> None:
        calm = self.bounded(PARTIAL, {"x": normal(4, 256)}, {"w": normal(256, 8)})["product"]
        assert (calm.exact, calm.holds) == (False, True)
        x, w = np.abs(normal(4, 256)) * 60, normal(256, 8) * 12
        wild = self.bounded(PARTIAL, {"x": x}, {"w": w})["product"]
        assert (wild.exact, wild.holds) == (True, False)
        assert wild.bound == pytest.approx((half(x) @ np.abs(half(w))).max(), rel=1e-3)

    def test_a_scalar_in_front_and_attention_count_as_kernels_add_them(self) -> None:
        found = self.bounded(PRESCALED, {"q": np.full((1, 16, 256), 100, np.float32), "k": np.full((1, 256, 16), 10, np.float32)})
        assert found["product"].bound == pytest.approx(256_000.0)

    def test_sums_convolutions_and_means(self) -> None:
        text = "g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4,1,1] y) { [conv] a = Conv (x, w) [mean] y = GlobalAveragePool (a) }"
        x, w = normal(1, 3, 8, 8), normal(4, 3, 3, 3, seed=1)
        found = self.bounded(text, {"x": x}, {"w": w})
        assert (found["conv"].terms, found["mean"].terms) == (27, 36)
        a = Session(model("g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4,6,6] y) { y = Conv (x, w) }")).run({"x": x, "w": w})["y"]
        bound = Session(model("g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4,6,6] y) { y = Conv (x, w) }")).run(
            {"x": abs(x), "w": abs(w)}
        )["y"]
        assert found["conv"].bound >= bound.max()
        assert found["mean"].bound == pytest.approx(np.abs(a).sum(axis=(2, 3)).max(), rel=1e-2)

    def test_the_largest_over_all_samples_counts_and_the_furthest_comes_first(self) -> None:
        text = "g (float[2,8] x, float[8,8] w) => (float[2,8] y) { [one] a = MatMul (x, w) [two] y = MatMul (a, w) }"
        typed = lower(filled(text, {"w": np.eye(8, dtype=np.float32) * 2}), {})
        few = certified(typed, [{"x": np.ones((2, 8), np.float32)}])
        both = certified(typed, [{"x": np.full((2, 8), 30, np.float32)}, {"x": np.ones((2, 8), np.float32)}])
        assert [each.node for each in both] == ["two", "one"]
        assert both[0].bound == pytest.approx(30 * few[0].bound)

    def test_what_passes_fp32_too_stays_a_number_that_exponents_can_be_found_for(self) -> None:
        text = "g (float[2,4] x, float[4,2] w) => (float[2,2] y) { [product] y = MatMul (x, w) }"
        weights = {"w": np.full((4, 2), 6e4, np.float32)}
        typed = lower(filled(text, weights), {})
        for value, bound in ((np.inf, float(np.finfo(np.float32).max)), (np.nan, math.inf)):
            (found,) = certified(typed, [{"x": np.full((2, 4), value, np.float32)}])
            assert (found.bound, found.holds) == (bound, False)

    def test_the_margin_has_room_for_rounding(self) -> None:
        assert Bounded("n", "MatMul", 16, 65504.0 / 4).margin == pytest.approx(2.0, abs=1e-2)
        assert not Bounded("n", "MatMul", 1024, 65504.0 * 0.98).holds, "64 rounded additions may add 3 %"
        assert Bounded("n", "MatMul", 1024, 65504.0 * 0.96).holds
        assert Bounded("n", "MatMul", 16 * 2048, 1.0).margin == -math.inf, "so many roundings may double it"
        assert Bounded("n", "MatMul", 4, 0.0).margin == math.inf


def settings(folder: Path, text: str, samples: list[dict[str, np.ndarray]], weights: dict[str, np.ndarray], **keys: object) -> Config:
    save_model(filled(text, weights) if weights else model(text), folder / "model.onnx")
    (folder / "in").mkdir(exist_ok=True)
    for index, sample in enumerate(samples):
        np.savez(folder / "in" / f"{index}.npz", **sample)  # type: ignore[arg-type]
    base = {"model": str(folder / "model.onnx"), "inputs": str(folder / "in"), "output": str(folder / "out.onnx"), "jitter": 1}
    return merged(Config(), base | keys)


def cancelling(folder: Path, **keys: object) -> Config:
    """The first half of a product sums to 1e5, the second brings it back."""
    w = np.abs(normal(256, 8)) * 12
    w[128:] *= -1
    x = [np.tile(np.abs(normal(4, 128, seed=seed)) * 60, (1, 2)) for seed in range(4)]
    return settings(folder, PARTIAL, [{"x": each} for each in x], {"w": w}, **keys)


class TestGate:
    def repaired(self, config: Config) -> Outcome:
        outcome = repair.repair(config)
        place = Path(outcome.files["outcome"])
        assert load(place) == outcome, "it survives its JSON"
        return outcome

    def test_products_whose_partial_sums_pass_fp16_are_asked_to_add_in_fp32(self, tmp_path: Path) -> None:
        outcome = self.repaired(cancelling(tmp_path, strict_accumulation=True))
        assert outcome.verified
        assert outcome.conditions == ()
        assert outcome.recipe.sums == {"product"}
        assert outcome.accumulate is not None
        assert (outcome.accumulate.verified, outcome.accumulate.profile, outcome.accumulate.samples) == (True, "accumulate", 1)
        assert outcome.counts.fp32_nodes == 0, "it is an FP16 kernel all the same"
        assert [(each.node, each.holds) for each in outcome.certificate] == [("product", False)]
        assert any("Partial sums may reach 1" in line and "product" in line for line in outcome.warnings)
        save_model(replay(outcome), tmp_path / "again.onnx")
        assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "out.onnx").read_bytes()

    def test_a_scalar_in_front_is_no_excuse(self, tmp_path: Path) -> None:
        q, k = normal(1, 16, 256) * 30 + 100, normal(1, 256, 16) * 3 + 10
        outcome = self.repaired(settings(tmp_path, PRESCALED, [{"q": q, "k": k}, {"q": q * np.float32(0.9), "k": k}], {}))
        assert outcome.verified
        assert outcome.recipe.sums == {"product"}

    def attention(self, folder: Path, **keys: object) -> Config:
        """Shares of 1/100 beside values of 2,000: undivided, the sum passes 65504."""
        text = """g (float[1,1,2,4] q, float[1,1,4,100] k, float[1,1,100,4] v) => (float[1,1,2,4] y) {
            a = MatMul (q, k) b = Softmax <axis = -1> (a) [values] y = MatMul (b, v) }"""
        samples = [
            {"q": normal(1, 1, 2, 4, scale=0.1, seed=seed), "k": normal(1, 1, 4, 100), "v": normal(1, 1, 100, 4) + np.float32(2000)}
            for seed in range(2)
        ]
        # Where the user wants it as it is, exponents pass it by.
        return settings(folder, text, samples, {}, **{"allow": ("values",)} | keys)

    def test_what_cannot_be_asked_for_is_a_condition_that_names_the_product(self, tmp_path: Path) -> None:
        """Attention as one kernel swallows the casts."""
        outcome = self.repaired(self.attention(tmp_path))
        assert outcome.verified
        (condition,) = outcome.conditions
        assert (condition.kind, condition.nodes) == ("fp32-accumulation", ("values",))
        assert "partial sums may reach" in condition.why
        assert outcome.accumulate is not None
        assert not outcome.accumulate.verified
        assert outcome.recipe.sums == frozenset()

    def flat(self, folder: Path, **keys: object) -> Config:
        """The same with values and results made by weights."""
        text = """g (float[1,2,4] q, float[1,4,100] k, float[1,100,8] x, float[8,4] wv, float[4,4] wo) => (float[1,2,4] y) {
            a = MatMul (q, k) b = Softmax <axis = -1> (a) [v] v = MatMul (x, wv) [values] o = MatMul (b, v) [out] y = MatMul (o, wo) }"""
        weights = {"wv": normal(8, 4, scale=30) + np.float32(200), "wo": normal(4, 4, scale=0.01)}
        samples = [
            {"q": normal(1, 2, 4, scale=0.1, seed=seed), "k": normal(1, 4, 100), "x": normal(1, 100, 8, seed=seed) + np.float32(2)}
            for seed in range(2)
        ]
        return settings(folder, text, samples, weights, **keys)

    def test_exponents_of_values_keep_undivided_shares_inside(self, tmp_path: Path) -> None:
        """One kernel cannot be asked for FP32 sums; that V is smaller costs nothing, for weights on both sides take it up."""
        outcome = self.repaired(self.flat(tmp_path, strict_accumulation=True))
        assert outcome.verified
        assert outcome.conditions == ()
        assert outcome.recipe.exponents.get("o", 0) >= 3
        assert (outcome.recipe.wide, outcome.recipe.sums, outcome.counts.muls_added) == ({}, frozenset(), 0)
        (values,) = [each for each in outcome.certificate if each.node == "values"]
        assert values.holds
        assert outcome.accumulate is not None
        assert outcome.accumulate.verified

    def test_a_model_too_large_to_ask_is_a_condition(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = settings(tmp_path, PARTIAL, [{"x": normal(4, 256, seed=seed)} for seed in range(2)], {"w": normal(256, 8)})
        monkeypatch.setattr(accumulation, "MOST", 4 * 8 * 16)
        assert self.repaired(config).conditions == ()
        monkeypatch.setattr(accumulation, "MOST", 4 * 8 * 16 - 1)
        outcome = self.repaired(config)
        assert outcome.verified
        assert outcome.accumulate is None
        (condition,) = outcome.conditions
        assert "were not computed: 5.1e+02 rounded additions" in condition.why

    def test_strict_accumulation_makes_it_a_failure(self, tmp_path: Path) -> None:
        outcome = self.repaired(self.attention(tmp_path, strict_accumulation=True))
        assert not outcome.verified
        assert outcome.conditions[0].why in outcome.verdict.reasons
        assert not (tmp_path / "out.onnx").exists()

    def test_strict_accumulation_takes_an_attention_apart_where_fp32_may_take_so_much(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where exponents do not do, as in this one they would."""
        monkeypatch.setattr(accumulation, "shifted", lambda _trials, answer, found, *_: (answer, found))
        outcome = self.repaired(self.attention(tmp_path, strict_accumulation=True, max_fp32_share=1.0, allow=()))
        assert outcome.verified
        assert outcome.conditions == ()
        assert set(outcome.recipe.wide) == {"MatMul_a", "Softmax_b", "values"}
        assert outcome.accumulate is not None
        assert outcome.accumulate.verified

    def test_where_sums_in_fp16_do_nothing_is_no_condition(self, tmp_path: Path) -> None:
        config = settings(tmp_path, PARTIAL, [{"x": normal(4, 256, seed=seed)} for seed in range(2)], {"w": normal(256, 8)})
        outcome = self.repaired(merged(config, {"strict_accumulation": True}))
        assert outcome.verified
        assert outcome.conditions == ()
        assert [(each.node, each.holds) for each in outcome.certificate] == [("product", True)]

    def test_verify_says_it_too(self, tmp_path: Path) -> None:
        config = self.attention(tmp_path)
        repair.repair(config)
        verdict = verify.verify(config, tmp_path / "out.onnx")
        assert verdict.verified
        assert any("where products accumulate in FP32" in note and "values" in note for note in verdict.notes)
        assert not verify.verify(merged(config, {"strict_accumulation": True}), tmp_path / "out.onnx").verified

    def test_the_signal_that_is_left_is_that_of_the_loop(self) -> None:
        x, w = normal(5, 2048), normal(2048, 8, seed=1)
        found = ran("g (float[5,2048] x, float[2048,8] w) => (float[5,8] y) { y = MatMul (x, w) }", {"x": x}, {"w": w})
        assert sqnr_db(x @ w, found) == pytest.approx(sqnr_db(x @ w, in_blocks(half(x), half(w))), abs=1.0)
