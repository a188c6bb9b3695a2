"""Ranges against numpy on tensors fetched the slow way."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fp16fix.graph.load import model_from_proto
from fp16fix.graph.model import Model, Tensor
from fp16fix.graph.session import Session
from fp16fix.ranges import look as look_module
from fp16fix.ranges import measure as measure_module
from fp16fix.ranges import probe as probe_module
from fp16fix.ranges.measure import measure, summary
from fp16fix.ranges.probe import Probes
from fp16fix.ranges.range import Range, Ranges
from tests.models import model, normal

PLAIN = "g (float[N,8] x) => (float[N,8] y, float[N,8] z) { a = Mul (x, x) b = Exp (x) y = Sub (b, a) t = Transpose <perm = [1, 0]> (y) z = Transpose <perm = [1, 0]> (t) }"


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.float32, (3, 8), elements=st.floats(-20, 20, width=32)))
def test_figures_are_those_of_the_values(x: np.ndarray) -> None:
    ranges = measure(model(PLAIN), [{"x": x}])
    squares = x * x
    seen = ranges["a"]
    assert seen.low == squares.min()
    assert seen.high == squares.max()
    assert seen.shape == (3, 8)
    assert seen.energy == pytest.approx(float(np.square(squares.astype(np.float64)).mean()), rel=1e-5, abs=1e-30)
    noise = squares - squares.astype(np.float16).astype(np.float32)
    assert seen.noise == pytest.approx(float(np.square(noise.astype(np.float64)).mean()), rel=1e-4, abs=1e-30)


def test_samples_are_merged_and_shapes_are_the_largest() -> None:
    small, large = {"x": normal(1, 8)}, {"x": normal(5, 8, scale=3.0, seed=1)}
    ranges = measure(model(PLAIN), [large, small])
    together = np.concatenate([small["x"], large["x"]])
    assert ranges.samples == 2
    assert ranges["x"].high == together.max()
    assert ranges["x"].energy == pytest.approx(float(np.square(together).mean()), rel=1e-5)
    assert ranges["y"].shape == (5, 8)


def test_movement_copies_ranges() -> None:
    ranges = measure(model(PLAIN), [{"x": normal(4, 8)}])
    assert ranges["t"].shape == (8, 4)
    assert ranges["t"].energy == ranges["y"].energy == ranges["z"].energy
    assert list(ranges) == [name for name in ("x", "y", "z", "a", "b", "t") if name in ranges]


def test_nonfinite_values_are_counted_and_kept_out_of_the_figures() -> None:
    fp32 = model("g (float[4] x) => (float[4] y) { y = Log (x) }")
    ranges = measure(fp32, [{"x": np.array([1.0, 0.0, -1.0, math.e], np.float32)}])
    seen = ranges["y"]
    assert seen.nonfinite == 2
    assert seen.low == 0.0
    assert seen.high == pytest.approx(1.0)
    assert math.isfinite(seen.energy)


def test_second_pass_finds_small_values_integers_and_octaves() -> None:
    fp32 = model("g (float[6] x) => (float[6] y, float[6] c) <float k = {3000.0}> { y = Log (x) f = Floor (x) c = Mul (f, k) }")
    x = np.array([1e-9, 1.0, 2.0, 3.0, 4.0, 0.0], np.float32)
    ranges = measure(fp32, [{"x": x}])
    assert ranges["x"].smallest == np.float32(1e-9)
    assert dict(ranges["x"].octaves) == {-30: 1, 0: 1, 1: 2, 2: 1}
    assert ranges["c"].integral
    assert not ranges["y"].integral


def test_bodies_of_loops_and_branches_are_measured() -> None:
    text = """g (float[4] x, bool p) => (float[4] y, float[4] z) <int64 n = {3}, bool go = {1}> {
        y = Loop (n, go, x) < body = b (int64 i, bool c, float[4] s) => (bool d, float[4] t) { d = Identity (c) t = Add (s, s) } >
        z = If (p) < then_branch = a () => (float[4] u) { u = Mul (x, x) }, else_branch = e () => (float[4] v) { v = Neg (x) } >
    }"""
    fp32 = model(text)
    x = np.arange(4, dtype=np.float32)
    ranges = measure(fp32, [{"x": x, "p": np.array(True)}])
    assert ranges["t"].high == 24.0
    assert ranges["y"].high == 24.0
    assert ranges["u"].high == 9.0
    assert "v" not in ranges, "the branch was never taken"


def test_peak_memory_does_not_grow_with_the_number_of_tensors() -> None:
    """Probes must run right behind producers: the order of the session follows the node list."""
    from fp16fix.graph.session import Session

    fp32 = model("g (float[2] x) => (float[2] y) { a = Neg (x) b = Neg (a) y = Neg (b) }")
    session = Session(fp32)
    (part,) = session._parts
    options = part._session.get_session_options()
    assert options.execution_order.name == "PRIORITY_BASED"


@given(st.floats(1e-6, 6e4))
def test_storage_db_of_a_uniform_octave_is_what_theory_says(scale: float) -> None:
    values = (np.random.default_rng(0).uniform(1, 2, 4096) * scale).astype(np.float32)
    noise = values - values.astype(np.float16).astype(np.float32)
    seen = Range(
        "t",
        (4096,),
        float(values.min()),
        float(values.max()),
        0.0,
        float(np.square(values, dtype=np.float64).mean()),
        float(np.square(noise, dtype=np.float64).mean()),
        0,
    )
    if 2.0**-14 < scale < 32000:
        assert 70.0 < seen.storage_db < 80.0
    elif scale > 65504:
        assert seen.storage_db == 0.0
    assert seen.headroom == pytest.approx(math.log2(65504 / float(values.max())), abs=1e-9)


def test_branches_inside_loops_are_measured_whichever_way_they_go() -> None:
    """A branch taken in some iterations only: rows must have the same shape in all."""
    text = """g (float[4] x, int64 n) => (float[4] y) <int64 one = {1}> {
        go = Constant <value = bool {1}> ()
        y = Loop (n, go, x) <
            body = b (int64 i, bool c, float[4] s) => (bool d, float[4] t) {
                d = Identity (c)
                late = GreaterOrEqual (i, one)
                t = If (late) <
                    then_branch = a () => (float[4] u) { u = Add (s, s) },
                    else_branch = e () => (float[4] v) { v = Neg (s) }
                >
            }
        >
    }"""
    ranges = measure(model(text), [{"x": np.arange(4, dtype=np.float32), "n": np.array(3)}])
    assert (ranges["v"].low, ranges["v"].high) == (-3.0, 0.0)
    assert (ranges["u"].low, ranges["u"].high) == (-12.0, 0.0)
    none = measure(model(text), [{"x": np.arange(4, dtype=np.float32), "n": np.array(0)}])
    assert "u" not in none
    assert none["y"].high == 3.0


def test_a_tensor_may_be_called_like_our_own_output() -> None:
    found = measure(
        model("g (float[4,8] x) => (float[4,8] y) { rows = Mul (x, x) y = Neg (rows) }"), [{"x": np.full((4, 8), 3.0, np.float32)}]
    )
    assert found["rows"].high == 9.0


def test_shapes_inside_bodies_are_those_of_the_run() -> None:
    text = """g (float[B,L] x, bool c) => (float[B,L] y) {
        y = If (c) <then_branch = t () => (float[b,l] p) { q = Exp (x) p = Neg (q) }, else_branch = e () => (float[b,l] n) { n = Neg (x) }> }"""
    samples = [{"x": np.ones((2, length), np.float32), "c": np.array(True)} for length in (5, 3)]
    seen = measure(model(text), samples)
    assert seen["q"].shape == (2, 5)
    assert "n" not in seen, "a branch that never ran has no shape, and nobody can ask for it"


MANY = " ".join(f"a{k} = Mul (x, w{k}) b{k} = Exp (a{k}) c{k} = Log (b{k})" for k in range(6))
WIDTHS = ", ".join(f"float w{k} = {{{10.0 ** (k - 3)}}}" for k in range(6))


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_small_tensors_that_share_probes_have_the_ranges_they_have_alone(opset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        f"g (float[3,5] x, float[5] z) => (float[3,5] y, float[5] v) <{WIDTHS}> {{ {MANY} y = Sum (c0, c1, c2, c3, c4, c5) v = Exp (z) }}"
    )
    subject = model(text, opset)
    samples = [{"x": normal(3, 5) * 3.0, "z": normal(5)}, {"x": normal(3, 5, seed=1), "z": normal(5, seed=1)}]
    together = measure(subject, samples)
    monkeypatch.setattr(probe_module, "SMALL", 0)
    alone = measure(subject, samples)
    assert_alike(together, alone)
    assert not math.isfinite(together["b5"].absmax) or together["b5"].nonfinite, "what is lost in one leaves the others as they are"


def assert_alike(ranges: Ranges, others: Ranges) -> None:
    """The same, but for the order in which squares are added."""
    assert list(ranges) == list(others)
    for name, seen in ranges.items():
        other = others[name]
        assert (seen.energy, seen.noise) == pytest.approx((other.energy, other.noise), rel=1e-5)
        assert replace(seen, energy=other.energy, noise=other.noise) == other


def test_a_pile_is_looked_at_before_it_grows_large(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = model(f"g (float[3,5] x) => (float[3,5] y) <{WIDTHS}> {{ {MANY} y = Sum (c0, c1, c2, c3, c4, c5) }}")
    whole = measure(subject, [{"x": normal(3, 5)}])
    monkeypatch.setattr(probe_module, "PILE", 60)
    heights: list[int] = []

    def counted(probes: Probes, tensor: Tensor) -> Tensor:
        heights.append(probes.height)
        return summary(probes, tensor)

    monkeypatch.setattr(measure_module, "summary", counted)
    assert_alike(measure(subject, [{"x": normal(3, 5)}]), whole)
    assert heights == [4, 4, 4, 4, 4]


def test_a_declared_shape_that_is_stale_is_no_obstacle() -> None:
    """Of a file exported for three rows and opened up to any number of them."""
    declared: dict[str, str | int] = {"x": "n", "y": "n", "a": 3, "b": 3}
    shaped = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [rows, 4]) for name, rows in declared.items()]
    steps = (("Exp", "x", "a"), ("Neg", "a", "b"), ("Abs", "b", "y"))
    nodes = [onnx.helper.make_node(op, [source], [target], target) for op, source, target in steps]
    graph = onnx.helper.make_graph(nodes, "g", shaped[:1], shaped[1:2], value_info=shaped[2:])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    ranges = measure(model_from_proto(proto), [{"x": np.zeros((2, 4), np.float32)}])
    assert (ranges["a"].low, ranges["b"].high) == (1.0, -1.0)


def test_a_closer_look_runs_no_more_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[set[str]] = []

    class Watched(Session):
        def __init__(self, model: Model, **keywords: Any) -> None:
            ran.append({node.op for node in model.graph.nodes})
            super().__init__(model, **keywords)

    monkeypatch.setattr(measure_module, "ELEMENTS", 0)
    monkeypatch.setattr(look_module, "Session", Watched)
    found = measure(model("g (float[4] x) => (float[4] y) { l = Log (x) y = Sin (l) }"), [{"x": np.array([1e-6, 1, 2, 3], np.float32)}])
    assert found["x"].smallest == pytest.approx(1e-6)
    assert len(ran) == 1
    assert "Sin" not in ran[0]


DELICATE = """g (float[n,4] x) => (float[n,4] y) <float eps = {1e-9}, float k = {300}>
    { a = Log (x) b = Add (a, eps) c = Mul (b, k) d = Mul (c, c) y = Sqrt (d) }"""


@pytest.mark.parametrize(("elements", "looks"), [(0, 1), (1 << 18, 0)])
def test_small_graphs_are_looked_at_closely_at_once(elements: int, looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    monkeypatch.setattr(look_module, "Session", counting(passes))
    monkeypatch.setattr(measure_module, "ELEMENTS", elements)
    subject = model(DELICATE)
    samples = [{"x": np.abs(normal(3, 4, seed=seed)).astype(np.float32)} for seed in range(2)]
    found = measure(subject, samples)
    assert len(passes) == looks
    assert found["d"].octaves
    assert not found["b"].octaves, "nobody asked"
    monkeypatch.setattr(measure_module, "ELEMENTS", (1 << 18) - elements)
    other = measure(subject, samples)
    assert {name: found[name] for name in found} == {name: other[name] for name in other}


def test_few_that_are_not_known_are_looked_at_closely_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    monkeypatch.setattr(look_module, "Session", counting(passes))
    monkeypatch.setattr(measure_module, "ELEMENTS", 0)
    text = " ".join(f"a{n + 1} = Mul (a{n}, k)" for n in range(20))
    subject = model(f"g (float[4] a0) => (float[4] a20) <float k = {{3}}> {{ {text} }}")
    samples = [{"a0": np.array([1e-6, 1, 2, 3], np.float32)}]
    whole = measure(subject, samples)
    for forgotten, looks in ((2, 0), (3, 1)):
        passes.clear()
        known = {name: whole[name] for name in list(whole)[:-forgotten]}
        assert dict(measure(subject, samples, known=known)) == dict(whole)
        assert len(passes) == looks


def counting(passes: list[int]) -> type[Session]:
    class Counted(Session):
        def __init__(self, model: Model, **keywords: Any) -> None:
            passes.append(1)
            super().__init__(model, **keywords)

    return Counted
