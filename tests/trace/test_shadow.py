from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest

from fp16fix.graph.load import model_from_proto
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.opset import raise_opset
from fp16fix.graph.session import Session
from fp16fix.graph.stretches import borders
from fp16fix.passes.apply import apply
from fp16fix.ranges.measure import measure
from fp16fix.strict.emulate import emulate
from fp16fix.trace import segments as segments_module
from fp16fix.trace import shadow as shadow_module
from fp16fix.trace.births import births
from fp16fix.trace.damage import Damage
from fp16fix.trace.outside import compare
from fp16fix.trace.segments import segments
from fp16fix.trace.shadow import Shadows, compare_in_graph, pairs_of, shadow, side_by_side

from ..ill.case import case
from ..models import filled, model, normal
from ..recipes import exponents

NAMES = ("residual-t5-ffn", "subgraph-loop-residual", "subgraph-if-layernorm", "subgraph-scan-power", "detector-boxes-off")


def load(name: str) -> tuple[Model, list[dict[str, np.ndarray]]]:
    ill = case(name)
    return model_from_proto(ill.build()), ill.samples()[:2]


def by_hand(model: Model, samples: list[dict[str, np.ndarray]]) -> dict[str, Damage]:
    """The outputs' errors from two separate runs, in NumPy."""
    exact, strict = Session(model), Session(emulate(lower(model, {})))
    found = {}
    for name in exact.outputs:
        ref = np.concatenate([np.ravel(exact.run(sample)[name]) for sample in samples]).astype(np.float64)
        low = np.concatenate([np.ravel(strict.run(sample)[name]) for sample in samples]).astype(np.float64)
        both = np.isfinite(low)
        noise = float(((ref - low)[both] ** 2).sum())
        sqnr = 10 * math.log10(float((ref[both] ** 2).sum()) / noise) if noise else math.inf
        found[name] = Damage(name, sqnr, int((~both).sum()))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_outputs_err_as_two_separate_runs_say(name: str) -> None:
    model, samples = load(name)
    errors = shadow(model, lower(model, {}), samples)
    for output, expected in by_hand(model, samples).items():
        assert errors[output].nonfinite == expected.nonfinite
        assert errors[output].sqnr_db == pytest.approx(expected.sqnr_db, abs=0.01)


@pytest.mark.parametrize("small", [True, False])
def test_infinity_is_met_by_the_same_infinity(small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """−inf in both is right, NaN for −inf is lost; in one piece and in several."""
    if not small:
        monkeypatch.setattr(shadow_module, "PIECE", 3)
    text = """g (float[n] x, float[n] u) => (float[n] y) <float minus = {-1}, float zero = {0}, float k = {1000}> {
        q = Div (minus, zero)  c = Greater (x, zero)  m = Where (c, x, q)  b = Mul (u, k)  y = Add (m, b) }"""
    subject = model(text)
    x, u = np.array([1, 1, -1, 1, -1, 1, 1], np.float32), np.array([0, 0, 0, 0, 100, 100, 0], np.float32)
    found = shadow(subject, lower(subject, {}), [{"x": x, "u": u}])
    assert found["m"].nonfinite == 0
    assert found["y"].nonfinite == 2


@pytest.mark.parametrize("name", NAMES)
def test_stretches_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples = load(name)
    whole = shadow(model, lower(model, {}), samples)
    monkeypatch.setattr(segments_module, "LONG", 20)
    monkeypatch.setattr(segments_module, "WINDOW", 8)
    host, _ = side_by_side(model, lower(model, {}))
    assert len(borders(host.graph.nodes, 20, 8)) >= 3, "the graph must really be parted"
    parted = shadow(model, lower(model, {}), samples)
    assert parted.keys() == whole.keys()
    for tensor, error in whole.items():
        assert parted[tensor].nonfinite == error.nonfinite
        assert parted[tensor].sqnr_db == pytest.approx(error.sqnr_db, abs=1e-3)


def test_borders_are_where_little_crosses() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] y) {
        a1 = Abs (x)  a2 = Neg (x)  a = Add (a1, a2)
        b1 = Abs (a)  b2 = Neg (a)  b3 = Sqrt (b1)  b = Add (b3, b2)
        y = Relu (b) }"""
    nodes = model_from_proto(onnx.parser.parse_model(text)).graph.nodes
    assert borders(nodes, 6, 4) == [0, 3, 8]


def test_nodes_appear_once_in_order_and_everything_read_is_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples = load("subgraph-loop-residual")
    monkeypatch.setattr(segments_module, "LONG", 3)
    monkeypatch.setattr(segments_module, "WINDOW", 1)
    names = [node.name for node in model.graph.nodes]
    seen: list[str] = []
    for segment in segments(model, samples):
        seen += [node.name for node in segment.model.graph.nodes]
        assert list(segment.run(lambda _: None, 1)) == [{}] * len(samples)
    assert seen == names
    assert all(one < other for one, other in pairwise(sorted(set(seen))))


def test_values_lost_are_counted_beside_sums_past_fp32() -> None:
    """A reference whose sum of squares overflows FP32 is no lost value; an infinite strict value is."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] y) { b = Mul (x, x) y = Tanh (b) }"""
    model = model_from_proto(onnx.parser.parse_model(text))
    errors = shadow(model, lower(model, {}), [{"x": np.asarray([1.0, 2.0, 300.0, 1e13], np.float32)}])
    assert errors["b"].nonfinite == 2
    assert errors["b"].sqnr_db == math.inf
    assert errors["y"] == Damage("y", errors["y"].sqnr_db, 0)
    assert errors["y"].sqnr_db > 70


LARGE = "g (float[3,{n}] x) => (float[3,{n}] y) <float w = {{600.0}}> {{ a = Mul (x, w) b = Mul (a, a) c = Sqrt (b) y = Tanh (c) }}"


@pytest.mark.parametrize("count", [shadow_module.PIECE // 3 + 1, shadow_module.PIECE, 2 * shadow_module.PIECE + 7])
def test_large_tensors_are_compared_piece_by_piece_with_the_same_result(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values lost, values kept and equal values, in tensors that fill their last piece or do not."""
    text = '<ir_version: 8, opset_import: ["" : 17]> ' + LARGE.format(n=count)
    model = model_from_proto(onnx.parser.parse_model(text))
    samples = [{"x": np.random.default_rng(0).uniform(0.0, 1.0, (3, count)).astype(np.float32)}]
    typed = lower(model, {})
    parted = shadow(model, typed, samples), births(model, typed, samples)
    monkeypatch.setattr(shadow_module, "is_small", lambda _: True)
    whole = shadow(model, typed, samples), births(model, typed, samples)
    assert parted[0].keys() == whole[0].keys() >= {"a", "b", "c", "y"}
    assert parted[0]["b"].nonfinite > 0
    for name, error in whole[0].items():
        assert parted[0][name].nonfinite == error.nonfinite
        assert parted[0][name].sqnr_db == pytest.approx(error.sqnr_db, abs=0.01)
    assert [(each.node, each.source, each.pins) for each in parted[1]] == [(each.node, each.source, each.pins) for each in whole[1]] != []


def test_a_twin_that_nobody_reads_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over exact inputs a strict result is rounded only where it is compared; in a plain shadow run the next strict node reads it."""
    text = '<ir_version: 8, opset_import: ["" : 17]> ' + LARGE.format(n=shadow_module.PIECE)
    model = model_from_proto(onnx.parser.parse_model(text))
    ran: list[list[str]] = []

    class Watched(Session):
        def __init__(self, compiled: Model, **keywords: Any) -> None:
            ran.append([node.op for node in compiled.graph.nodes])
            super().__init__(compiled, **keywords)

    monkeypatch.setattr(segments_module, "Session", Watched)
    births(model, lower(model, {}), [{"x": np.ones((3, shadow_module.PIECE), np.float32)}])
    assert ran[0].count("Sub") == 0
    assert ran[0].count("Cast") == 2 * 5, "of x, a, b and c, which strict nodes read rounded, and of y behind its Cast to FP32"


def test_rescaled_tensors_are_compared_at_their_true_size() -> None:
    subject = model("g (float[4] x) => (float[4] y) <float k = {1000}> { a = Mul (x, k) b = Neg (a) y = Abs (b) }")
    held = {"a": 4, "b": 4}
    typed = apply(subject, exponents(k=4, y=4, **held))
    samples = [{"x": np.asarray([1.0, -2.0, 3.3, 0.1], np.float32)}]
    found = shadow(subject, typed, samples, held)
    assert all(found[name].sqnr_db > 60.0 for name in ("a", "b", "y"))
    blind = shadow(subject, typed, samples)
    assert all(blind[name].sqnr_db < 1.0 for name in held), "a sixteenth of what it should be"


@pytest.mark.parametrize("name", NAMES)
def test_what_fits_into_memory_is_compared_outside_with_the_same_result(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples = load(name)
    typed, ranges = lower(model, {}), measure(model, samples)
    inside = shadow(model, typed, samples)
    monkeypatch.setattr(shadow_module, "side_by_side", None)
    assert_alike(shadow(model, typed, samples, ranges=ranges), inside)


def assert_alike(errors: Mapping[str, Damage], others: Mapping[str, Damage]) -> None:
    assert list(errors) == list(others)
    for name, error in errors.items():
        assert error.nonfinite == others[name].nonfinite
        assert error.sqnr_db == pytest.approx(others[name].sqnr_db, abs=0.02)


def test_outside_too_rescaled_tensors_have_their_true_size_and_equal_infinities_are_not_lost() -> None:
    subject = model("g (float[4] x) => (float[4] y) <float k = {1000}> { a = Mul (x, k) b = Neg (a) y = Abs (b) }")
    samples = [{"x": np.asarray([1.0, math.inf, math.nan, 0.1], np.float32)}]
    found = shadow(subject, apply(subject, exponents(k=4, y=4, a=4, b=4)), samples, {"a": 4, "b": 4}, ranges=measure(subject, samples))
    assert all(found[name].sqnr_db > 60.0 and found[name].nonfinite == 0 for name in ("a", "b", "y"))


def test_where_fp16_is_known_to_overflow_one_pass_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    class Counted(Session):
        def __init__(self, model: Model, **keywords: Any) -> None:
            opened.append(1)
            super().__init__(model, **keywords)

    subject = model("g (float[4] x) => (float[4] y) <float k = {6e4}> { a = Mul (x, k) y = Tanh (a) }")
    samples = [{"x": np.asarray([1.5, -2.0, 3e-6, 0.1], np.float32)}]
    typed, ranges = lower(subject, {}), measure(subject, samples)
    monkeypatch.setattr(shadow_module, "HELD", 0)
    monkeypatch.setattr(segments_module, "Session", Counted)
    twice = shadow(subject, typed, samples)
    assert len(opened) == 2
    assert twice["a"].nonfinite == 2
    assert_alike(shadow(subject, typed, samples, ranges=ranges), twice)
    assert len(opened) == 3


def test_graphs_of_two_opsets_meet_in_the_newer() -> None:
    """A rule that raises the typed graph brings attributes that the older opset does not have."""
    halves = ",".join(["0.5"] * 12)
    text = f"""g (float[3,1,2] x) => (float[3,1,1,2] y) <float[1,6,2] w = {{{halves}}}, float[1,6,2] r = {{{halves}}}> {{
        y, h = GRU <hidden_size = 2> (x, w, r) }}"""
    fp32 = model(text, opset=13)
    found = shadow(fp32, lower(raise_opset(fp32, 17), {}), [{"x": normal(3, 1, 2)}])
    assert 50 < found["y"].sqnr_db < 100


def test_a_twin_that_fails_is_damaged_there_and_what_follows_is_not() -> None:
    """FP16 makes 2052 of 2051.2: a row that the table does not have."""
    text = """g (float[4] x, float[2052] table) => (float[4] y) <float far = {2051.2}> {
        a = Mul (x, far) i = Cast <to = 7> (a) t = Gather (table, i) y = Exp (t) }"""
    fp32 = model(text)
    sample = {"x": np.array([0.0, 0.5, 0.25, 1.0], np.float32), "table": normal(2052)}
    for ranges in (None, measure(fp32, [sample])):
        found = shadow(fp32, lower(fp32, {}), [sample], ranges=ranges)
        assert found["t"].damage_db == -math.inf
        assert found["y"].damage_db > 50, "it reads the exact value"


def test_a_twin_of_another_length_is_damaged_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """2049 copies of two values are 2048 in FP16; whether tensors are small or compared in pieces."""
    text = """g (float[1] x, float[2] v) => (float[N] y, float[1] z) { z = Neg (x) p = Abs (z) n = Cast <to = 7> (p) s = Tile (v, n) y = Exp (s) }"""
    fp32, sample = model(text), {"x": np.array([2049.0], np.float32), "v": normal(2)}
    for small in (False, True):
        monkeypatch.setattr(shadow_module, "is_small", lambda _, small=small: small)
        found = shadow(fp32, lower(fp32, {}), [sample])
        assert found["s"].damage_db == -math.inf
        assert found["z"].damage_db > 50
    assert shadow(fp32, lower(fp32, {}), [sample], ranges=measure(fp32, [sample]))["s"].damage_db == -math.inf


def test_outside_elements_that_are_off_are_counted_as_in_the_graph() -> None:
    text = """g (float[2,8] x) => (float[2,8] y) <float big = {300}, float small = {0.0000001}> {
        a = Mul (x, big) b = Mul (a, a) c = Mul (x, small) d = Neg (b) e = Sqrt (d) f = Add (c, e) y = Sub (f, b) }"""
    fp32, samples = model(text), [{"x": normal(2, 8, seed=seed)} for seed in range(2)]
    host, twins = side_by_side(fp32, lower(fp32, {}))
    pairs = [pair for pair in pairs_of(twins, {"c": 1}) if pair.reference in "abcdefy"]
    outside = compare(host, pairs, samples, 0)
    in_graph = compare_in_graph(host, pairs, samples, elementwise=True)
    assert outside.keys() == in_graph.keys() == {*"abcdefy"}
    for name, found in outside.items():
        wanted = in_graph[name]
        assert found.nonfinite == wanted.nonfinite
        assert found.off == pytest.approx(wanted.off)
        assert found.sqnr_db == pytest.approx(wanted.sqnr_db, abs=0.01)
    assert 0.0 < outside["b"].off < 1.0
    assert outside["e"].off == outside["c"].off == 1.0, "NaN is off; so is what is half as large"


def test_what_widens_weights_is_not_held_beside_what_is_compared() -> None:
    """All of it at once is an FP32 model more."""
    fp32 = filled("g (float[2,256] x, float[256,256] w) => (float[2,256] y) { p = MatMul (x, w) y = Tanh (p) }", {"w": normal(256, 256)})
    samples, typed = [{"x": normal(2, 256)}], lower(fp32, {})
    along = Shadows(fp32, samples, measure(fp32, samples))
    assert any(node.op == "Cast" and node.outputs[0].name.startswith("w") for node in emulate(typed).graph.nodes)
    assert {*along.opened(typed).inner} == {"p"}
    assert along.of(typed).keys() == {"p", "y"}
