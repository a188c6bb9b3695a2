"""How far pins go: back to what a magnifying node reads, on to where a coordinate is used up; and that it is enough, on fresh samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.config import Config
from fp16fix.graph.load import load
from fp16fix.graph.session import Session
from fp16fix.hazards import diagnose
from fp16fix.inputs.files import write_npz
from fp16fix.passes.place.pins import Forced, forced
from fp16fix.ranges.measure import measure
from fp16fix.report.outcome import Outcome
from fp16fix.strict.emulate import emulate
from fp16fix.tasks.repair import repair
from tests.models import model, normal, proto, sqnr_db

Sample = dict[str, np.ndarray]


def force(text: str, *samples: Sample) -> Forced:
    fp32 = model(text)
    ranges = measure(fp32, samples)
    return forced(fp32, ranges, diagnose(fp32, ranges))


def test_a_softmax_takes_the_similarity_and_what_it_is_made_of() -> None:
    text = """g (float[8,16] x, float[16,16] v, float[16,16] w, float[16,32] k) => (float[8,32] y) <float t = {300.0}> {
        u = MatMul (x, v) r = Relu (u) q = MatMul (r, w) n = Tanh (q) s = MatMul (n, k) l = Mul (s, t) y = Softmax <axis = 1> (l) }"""
    found = force(text, {"x": normal(8, 16), "v": normal(16, 16), "w": normal(16, 16, seed=1), "k": normal(16, 32, seed=2)})
    assert found.tensors == {"q", "n", "s", "l"}
    assert found.nodes == {"Softmax_y"}


def test_a_count_that_decides_a_shape_takes_all_that_it_is_made_of() -> None:
    text = """g (float[1,8] x, float[8,8] w) => (int64[N] y) <int64 zero = {0}, int64 one = {1}, float k = {50.0}> {
        h = MatMul (x, w) r = Relu (h) g = MatMul (r, w) e = Exp (g) m = Mul (e, k) c = Ceil (m) s = ReduceSum <keepdims = 0> (c)
        n = Cast <to = 7> (s) y = Range (zero, n, one) }"""
    sample = {"x": normal(1, 8, scale=0.3), "w": normal(8, 8, scale=0.3)}
    assert {"h", "r", "g", "e", "m", "c", "s"} <= force(text, sample).tensors
    alone = text.replace("(int64[N] y)", "(float[1,8] c)").replace("s = ReduceSum <keepdims = 0> (c)", "").split("n = Cast")[0] + "}"
    assert force(alone, sample).tensors == {"g", "e", "m"}, "what decides no shape is kept back to the last product"


def test_coordinates_are_kept_until_they_are_divided_or_leave() -> None:
    text = """g (float[1,4000] d, float[1,4000] one) => (float[2,4000] y, float[1,4000] z)
        <float zero = {0.0}, float end = {4000.0}, float step = {1.0}, float k = {2.0}, int64[1] ax = {0}> {
        r = Range (zero, end, step) g = Unsqueeze (r, ax) c = Add (g, d) s = Mul (c, k) t = Sub (s, one) y = Concat <axis = 0> (t, s) z = Div (t, k) }"""
    found = force(text, {"d": normal(1, 4000), "one": normal(1, 4000)}).tensors
    assert {"r", "g", "c", "s", "t", "y"} <= found
    assert "z" not in found


def test_an_eps_takes_its_squares_along_where_they_may_be_as_small() -> None:
    text = """g (float[4,32] x, float[32,8] m) => (float[4,8] y) <float e = {1e-10}> {
        p = Mul (x, x) b = MatMul (p, m) g = Add (b, e) y = Log (g) }"""
    mel = np.abs(normal(32, 8))
    assert force(text, {"x": normal(4, 32, scale=1e-3), "m": mel}).tensors >= {"p", "b", "g"}
    loud = force(text, {"x": normal(4, 32, scale=10.0), "m": mel}).tensors
    assert "g" in loud
    assert not loud & {"p", "b"}, "nothing there is near the eps"


VARIANCE = """g (float[4,256] x) => (float[4,1] y) {
    p = Mul (x, x) q = ReduceMean <axes = [1]> (p) m = ReduceMean <axes = [1]> (x) h = Mul (m, m) y = Sub (q, h) }"""


@pytest.mark.parametrize(("offset", "everything"), [(2.0, False), (4.0, True)])
def test_a_difference_of_moments_takes_the_squares_and_x_where_x_is_what_is_lost(offset: float, everything: bool) -> None:
    sample = {"x": normal(4, 256, scale=0.3) + offset}
    scaled = VARIANCE.replace("p = Mul (x, x)", "z = Neg (x) p = Mul (z, z)").replace(
        "ReduceMean <axes = [1]> (x)", "ReduceMean <axes = [1]> (z)"
    )
    found = force(scaled, sample).tensors
    assert {"p", "q", "h"} <= found
    assert ("z" in found) == everything


def test_what_swallows_an_addend_is_kept_with_the_sum() -> None:
    text = "g (float[4,64] x, float[4,64] d) => (float[4,64] y) { s = Neg (x) y = Add (s, d) }"
    assert force(text, {"x": normal(4, 64) + 20.0, "d": normal(4, 64, scale=0.004)}).tensors >= {"s", "y"}


def repaired(text: str, samples: list[Sample], folder: Path) -> tuple[Outcome, Callable[[Sample], Sample], Callable[[Sample], Sample]]:
    """What repair makes of a model, and how the FP32 model and the repaired one, rounded as stored, run."""
    path, inputs = folder / "m.onnx", folder / "samples"
    onnx.save(proto(text), path)
    inputs.mkdir()
    for number, sample in enumerate(samples):
        write_npz(inputs / f"{number}.npz", sample)
    outcome = repair(Config(model=path, inputs=str(inputs), output=folder / "out.onnx", max_fp32_share=1.0))
    fixed = Session(emulate(load(folder / "out.onnx", simplified=False, widened=False)))
    return outcome, Session(load(path, simplified=False)).run, fixed.run


def worst(reference: np.ndarray, found: np.ndarray, axis: int) -> float:
    """dB of the worst entry of an axis."""
    pairs = zip(np.moveaxis(reference, axis, 0), np.moveaxis(found, axis, 0), strict=True)
    return min(sqnr_db(one, other) for one, other in pairs)


def test_sharp_softmax_is_right_on_fresh_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    keys, values = (rng.standard_normal(shape).astype(np.float32) for shape in ((24, 128), (128, 6)))
    text = """g (float[4,24] q, float[24,128] k, float[128,6] v) => (float[4,6] y) <float t = {80.0}> {
        s = MatMul (q, k) l = Mul (s, t) p = Softmax <axis = 1> (l) y = MatMul (p, v) }"""

    def draw() -> Sample:
        return {"q": rng.normal(0, 4, (4, 24)).astype(np.float32), "k": keys, "v": values}

    outcome, exact, fixed = repaired(text, [draw() for _ in range(6)], tmp_path)
    assert [(end.hazard.kind.value, end.end) for end in outcome.hazards] == [("coarse", "pinned")]
    assert outcome.counts.fp32_nodes <= 3
    for sample in [draw() for _ in range(120)]:
        assert sqnr_db(exact(sample)["y"], fixed(sample)["y"]) > 55.0


def test_a_running_sum_is_right_at_lengths_never_seen(tmp_path: Path) -> None:
    text = """g (float[T,4] x) => (float[4] y) <bool go = {1}, float[4] s0 = {0,0,0,0}, int64 zero = {0}> {
        sh = Shape (x) n = Gather (sh, zero)
        y = Loop (n, go, s0) <body = b (int64 i, bool c, float[4] s) => (bool co, float[4] so) { co = Identity (c) r = Gather (x, i) so = Add (s, r) }> }"""
    rng = np.random.default_rng(6)
    outcome, exact, fixed = repaired(text, [{"x": np.abs(rng.normal(1, 0.2, (20 + k, 4))).astype(np.float32)} for k in range(6)], tmp_path)
    assert "grows with the length" in outcome.hazards[0].hazard.why
    long = {"x": np.abs(rng.normal(1, 0.2, (5000, 4))).astype(np.float32)}
    assert worst(exact(long)["y"], fixed(long)["y"], 0) > 60.0


def test_flow_from_coordinates_is_right_in_every_channel(tmp_path: Path) -> None:
    """Matching by a softmax of large logits, expected coordinates less coordinates."""
    text = """g (float[64,32] a, float[32,64] b) => (float[64,2] y) <float t = {12.0}, int64 zero = {0}, int64 one = {1}, int64[1] last = {1}> {
        c = MatMul (a, b) l = Mul (c, t) p = Softmax <axis = 1> (l)
        sh = Shape (a) n = Gather (sh, zero) r = Range (zero, n, one) f = Cast <to = 1> (r) u = Unsqueeze (f, last) w = Neg (u)
        g = Concat <axis = 1> (u, w) e = MatMul (p, g) y = Sub (e, g) }"""
    rng = np.random.default_rng(7)

    def draw() -> Sample:
        a = rng.normal(0, 1, (66, 32))
        a = (a[1:-1] + 0.8 * a[:-2] + 0.8 * a[2:]) / 1.5
        b = np.roll(a, 1, axis=0) + rng.normal(0, 0.05, a.shape)
        return {"a": a.astype(np.float32), "b": b.T.copy().astype(np.float32)}

    _, exact, fixed = repaired(text, [draw() for _ in range(4)], tmp_path)
    for sample in [draw() for _ in range(20)]:
        assert worst(exact(sample)["y"], fixed(sample)["y"], 1) > 50.0
