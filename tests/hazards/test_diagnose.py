"""Every kind of hazard on a small model that has it, and silence on one that does not."""

from __future__ import annotations

import numpy as np
import pytest

from fp16fix.half import FP16
from fp16fix.hazards import context as context_module
from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.ranges.measure import measure
from fp16fix.trace.harmless import harmless
from tests.models import model, normal


def hazards(text: str, opset: int = 17, **inputs: np.ndarray) -> list[Hazard]:
    fp32 = model(text, opset)
    return list(diagnose(fp32, measure(fp32, [inputs])))


def kinds(found: list[Hazard]) -> set[tuple[str, Kind]]:
    return {(hazard.op, hazard.kind) for hazard in found}


def test_a_healthy_layer_has_no_hazard() -> None:
    text = "g (float[4,16] x, float[16,16] w) => (float[4,16] y) { h = MatMul (x, w) r = Relu (h) y = Softmax <axis = 1> (r) }"
    assert hazards(text, x=normal(4, 16), w=normal(16, 16, seed=1)) == []


def test_overflow_names_the_square_inside_a_norm() -> None:
    text = "g (float[4,16] x) => (float[4,1] y) <float two = {2.0}> { p = Pow (x, two) m = ReduceMean <axes = [1]> (p) y = Sqrt (m) }"
    found = hazards(text, x=normal(4, 16, scale=1000.0))
    first = found[0]
    assert (first.kind, first.op, first.tensor) == (Kind.OVERFLOW, "Pow", "p")
    assert "norm written out" in first.why
    assert first.bits == pytest.approx(np.log2(first.high / 65504), abs=1e-3)


def test_an_input_that_does_not_fit_is_named() -> None:
    found = hazards("g (float[4] image) => (float[4] y) <float k = {0.001}> { y = Mul (image, k) }", image=np.full(4, 7e4, np.float32))
    assert [h.tensor for h in found if h.kind is Kind.OVERFLOW] == ["image"]


def test_vanishing_eps_denominator_and_bulk() -> None:
    text = "g (float[4] x) => (float[4] y) <float e = {1e-12}> { q = Mul (x, x) s = Add (q, e) y = Log (s) }"
    found = hazards(text, x=np.full(4, 1e-4, np.float32))
    assert ("Add", Kind.VANISH) in kinds(found)
    assert ("Mul", Kind.VANISH) in kinds(found)
    assert any("eps 1e-12" in h.why for h in found)
    assert ("Log", Kind.VANISH) in kinds(hazards("g (float[4] x) => (float[4] y) { y = Log (x) }", x=np.array([1, 2, 3, 1e-9], np.float32)))


def test_swamp_counts_angles_and_long_sums() -> None:
    counting = "g (float[8] x) => (float[4096] y, float[4096] s) <float a = {0.0}, float b = {4096.0}, float d = {1.0}, float k = {0.5}> { r = Range (a, b, d) y = Mul (r, k) s = Sin (y) }"
    found = hazards(counting, x=normal(8))
    assert {("Mul", Kind.SWAMP), ("Sin", Kind.COARSE)} <= kinds(found)
    long = hazards("g (float[1,4096] x) => (float[1,1] y) { y = ReduceSum <keepdims = 1> (x) }", x=np.abs(normal(1, 4096)))
    assert [(h.kind, h.internal) for h in long] == [(Kind.SWAMP, True)]


def test_positions_are_a_matter_of_meaning_not_of_length() -> None:
    text = """g (int64[1,S] ids) => (float[1,S] y) <float f = {0.01}, int64 one = {1}> {
        n = Shape <start = 1, end = 2> (ids) z = Constant <value = int64 {0}> () e = Squeeze (n) r = Range (z, e, one) p = Cast <to = 1> (r)
        a = Mul (p, f) b = Sin (a) i = Constant <value = int64[1] {0}> () y = Unsqueeze (b, i)
    }"""
    found = hazards(text, ids=np.zeros((1, 32), np.int64))
    assert any(h.kind is Kind.SWAMP and h.op == "Mul" for h in found), "length 32 shows nothing in range, the meaning does"


def test_integer_token_ids_and_masks_are_no_positions() -> None:
    text = """g (int64[1,S] mask, float[1,S] x) => (float[1,S] y) <float one = {1.0}, float big = {-100.0}> {
        f = Cast <to = 1> (mask) n = Sub (one, f) a = Mul (n, big) y = Add (x, a)
    }"""
    assert hazards(text, mask=np.ones((1, 64), np.int64), x=normal(1, 64)) == []


def test_cancellation() -> None:
    text = "g (float[64] x) => (float[64] y) <float k = {1000.0}> { a = Add (x, k) y = Sub (a, k) }"
    found = hazards(text, x=normal(64))
    assert ("Sub", Kind.CANCEL) in kinds(found)


def test_constants_past_the_limit_and_below_it() -> None:
    text = "g (float[4] x) => (float[4] y) <float a = {1e-7}, float b = {1e6}> { u = Mul (x, a) y = Mul (u, b) }"
    found = hazards(text, x=normal(4))
    assert {h.tensor for h in found if h.kind is Kind.CONSTANT} == {"a", "b"}


def test_every_hazard_is_of_a_known_node_and_in_graph_order() -> None:
    text = "g (float[4] x) => (float[4] y) <float k = {1e6}> { a = Mul (x, k) b = Mul (a, k) y = Neg (b) }"
    fp32 = model(text)
    found = diagnose(fp32, measure(fp32, [{"x": normal(4)}]))
    order = [node.name for node in fp32.nodes()]
    assert [order.index(h.node) for h in found] == sorted(order.index(h.node) for h in found)
    assert all(h.bits >= 0 and h.why for h in found)


TANH = """g (float[4,8] x) => (float[4,8] y) <float k = {0.044715}, float one = {1.0}, float half = {0.5}> {
    x2 = Mul (x, x) x3 = Mul (x2, x) a = Mul (x3, k) b = Add (x, a) t = Tanh (b) u = Add (t, one) v = Mul (x, u) y = Mul (v, half)
}"""


def test_an_overflow_that_tanh_absorbs_is_proven_harmless() -> None:
    fp32 = model(TANH)
    samples = [{"x": normal(4, 8, scale=300.0)}]
    found = diagnose(fp32, measure(fp32, samples))
    proofs = harmless(fp32, found, samples)
    assert found
    assert set(proofs) == set(found)
    assert all("t" in proof.healed_at for proof in proofs.values())


def test_an_overflow_that_matters_is_not_acquitted() -> None:
    fp32 = model("g (float[4,8] x) => (float[4,8] y) <float k = {0.001}> { a = Mul (x, x) y = Mul (a, k) }")
    samples = [{"x": normal(4, 8, scale=1000.0)}]
    assert harmless(fp32, diagnose(fp32, measure(fp32, samples)), samples) == {}


def test_literals_are_never_acquitted_by_a_run() -> None:
    fp32 = model("g (float[4,8] x) => (float[4,8] y) <float m = {-1e9}> { a = Max (x, m) y = Softmax <axis = 1> (a) }")
    samples = [{"x": normal(4, 8)}]
    found = diagnose(fp32, measure(fp32, samples))
    assert [h.kind for h in found] == [Kind.CONSTANT]
    assert harmless(fp32, found, samples) == {}


def test_an_infinity_the_author_wrote_and_an_eps_beside_large_values_are_no_hazards() -> None:
    masked = "g (bool[1,8] m, float[1,8] x) => (float[1,8] y) <float low = {-1.0}> { a = Where (m, x, low) y = Softmax <axis = 1> (a) }"
    fp32 = model(masked)
    fp32.tensors()["low"].values = np.array(-np.inf, np.float32)
    sample = {"m": np.array([[True] * 6 + [False] * 2]), "x": normal(1, 8)}
    assert [h for h in diagnose(fp32, measure(fp32, [sample])) if h.kind is Kind.CONSTANT] == []
    norm = "g (float[4,16] x) => (float[4,16] y) <float e = {0.000001}> { p = Mul (x, x) m = ReduceMean <axes = [1]> (p) v = Add (m, e) s = Sqrt (v) y = Div (x, s) }"
    assert hazards(norm, x=normal(4, 16)) == []
    assert [h.op for h in hazards(norm, x=normal(4, 16, scale=0.003))], "beside small values it is one"


def test_weights_are_looked_at_once_whatever_copies_of_a_model_are_diagnosed(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[float] = []
    plain = context_module.energy_of

    def counted(values: np.ndarray) -> float:
        looked.append(float(values.max()))
        return plain(values)

    monkeypatch.setattr(context_module, "energy_of", counted)
    subject = model("g (float[1,3] x) => (float[1,3] y) <float[3] w = {1e-9, 2, 70000}> { y = Mul (x, w) }")
    ranges = measure(subject, [{"x": np.ones((1, 3), np.float32)}])
    first = diagnose(subject, ranges)
    assert diagnose(subject.copy(), ranges) == first
    assert looked[::2] == [70000.0], "one block's values and their rounding"
    assert any(hazard.tensor == "w" for hazard in first)
    other = model("g (float[1,3] x) => (float[1,3] y) <float[3] v = {1e-9, 2, 3}> { y = Mul (x, v) }")
    assert all(hazard.tensor != "w" for hazard in diagnose(other, measure(other, [{"x": np.ones((1, 3), np.float32)}])))
    assert looked[::2] == [70000.0, 3.0]


def test_a_range_bears_the_name_of_the_tensor_that_was_asked_for() -> None:
    values = np.array([1.0, 2.0], np.float32)
    seen = context_module.constant_range("w", values, FP16)
    assert (seen.tensor, seen.low, seen.high, seen.shape) == ("w", 1.0, 2.0, (2,))
    assert context_module.constant_range("v", values, FP16).tensor == "v"
