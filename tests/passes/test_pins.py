"""What each kind of hazard forces to be wide, and that it is enough: strict figures with and without it."""

from __future__ import annotations

import numpy as np

from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.passes.place.islands import islands
from fp16fix.passes.place.pins import Forced, forced
from fp16fix.ranges.measure import measure
from fp16fix.ranges.range import Ranges
from fp16fix.strict.emulate import emulate
from tests.models import model, normal, sqnr_db

Sample = dict[str, np.ndarray]
CANCEL = "g (float[64] x) => (float[64] y) <float k = {1000}> { t = Tanh (x) a = Add (t, k) y = Sub (a, k) }"
BIG = "g (float[4,8] x) => (float[8,4] y) <float k = {1000}, float d = {0.0001}> { a = Mul (x, k) t = Transpose <perm = [1, 0]> (a) n = Neg (t) y = Mul (n, d) }"
LOG = "g (float[4,8] x) => (float[8,4] y) { s = Mul (x, x) t = Transpose <perm = [1, 0]> (s) r = Relu (t) y = Log (r) }"


def seen(text: str, sample: Sample) -> tuple[Model, Ranges, tuple[Hazard, ...]]:
    fp32 = model(text)
    ranges = measure(fp32, [sample])
    return fp32, ranges, diagnose(fp32, ranges)


def figure(fp32: Model, sample: Sample, wide: frozenset[str]) -> float:
    """The output's SQNR with some nodes in FP32."""
    typed = lower(fp32, dict.fromkeys(wide, "fp32"))
    return sqnr_db(Session(fp32).run(sample)["y"], Session(emulate(typed)).run(sample)["y"])


def wide(fp32: Model, ranges: Ranges, force: Forced) -> frozenset[str]:
    return islands(fp32, ranges, force).nodes


def test_a_difference_is_wide_with_who_rounds_its_operands() -> None:
    sample = {"x": normal(64)}
    fp32, ranges, found = seen(CANCEL, sample)
    assert [(each.node, each.kind) for each in found] == [("Sub_y", Kind.CANCEL)]
    force = forced(fp32, ranges, found)
    assert force == Forced(tensors=frozenset({"a"}), nodes=frozenset({"Sub_y"}))
    assert wide(fp32, ranges, force) == {"Add_a", "Sub_y"}
    assert figure(fp32, sample, wide(fp32, ranges, force)) > 60.0
    assert figure(fp32, sample, frozenset({"Sub_y"})) < 20.0, "the difference alone saves nothing"


def test_an_overflow_is_wide_as_far_as_it_is_handed_on() -> None:
    sample = {"x": normal(4, 8, scale=500.0)}
    fp32, ranges, found = seen(BIG, sample)
    born = [each for each in found if each.kind is Kind.OVERFLOW and each.node == "Mul_a"]
    force = forced(fp32, ranges, born)
    assert force == Forced(tensors=frozenset({"a", "t", "n"}), nodes=frozenset({"Mul_a"}))
    assert figure(fp32, sample, wide(fp32, ranges, force)) > 60.0


def test_an_overflow_without_effect_is_not_followed() -> None:
    sample = {"x": normal(4, 8, scale=500.0)}
    fp32, ranges, found = seen(BIG, sample)
    born = [each for each in found if each.node == "Mul_a"]
    assert forced(fp32, ranges, born, frozenset({"n"})).tensors == {"a", "t"}


def test_small_values_are_followed_back_to_where_they_come_from() -> None:
    """Through what moves and what picks; a square is made of larger values, and stays in FP16."""
    sample = {"x": np.where(np.arange(32).reshape(4, 8) % 4 == 0, 1e-5, 1.0).astype(np.float32)}
    fp32, ranges, found = seen(LOG, sample)
    denominators = [each for each in found if each.node == "Log_y"]
    assert [each.tensor for each in denominators] == ["r"]
    assert forced(fp32, ranges, denominators).tensors == {"r", "t", "s"}
    cured = wide(fp32, ranges, forced(fp32, ranges, denominators))
    assert figure(fp32, sample, frozenset({"Log_y", "Relu_r"})) == -np.inf
    assert figure(fp32, sample, cured) > 50.0


def test_a_literal_or_an_inner_sum_is_a_matter_of_the_node_alone() -> None:
    fp32, ranges, found = seen("g (float[4] x) => (float[4] y) <float k = {1e6}> { a = Tanh (x) y = Mul (a, k) }", {"x": normal(4) / 1e3})
    literals = [each for each in found if each.kind is Kind.CONSTANT]
    assert forced(fp32, ranges, literals) == Forced(frozenset(), frozenset({"Mul_y"}))
    fp32, ranges, found = seen("g (float[1,4096] x) => (float[1,1] y) { y = ReduceSum <keepdims = 1> (x) }", {"x": np.abs(normal(1, 4096))})
    assert [each.internal for each in found] == [True]
    assert forced(fp32, ranges, found) == Forced(frozenset(), frozenset({"ReduceSum_y"}))


def test_an_eps_makes_its_sum_wide_and_whoever_reads_it() -> None:
    text = "g (float[4] x) => (float[4] y) <float e = {1e-12}> { q = Mul (x, x) s = Add (q, e) y = Log (s) }"
    fp32, ranges, found = seen(text, {"x": np.array([0.0, 1.0, 2.0, 3.0], np.float32)})
    eps = [each for each in found if each.tensor == "e"]
    assert [each.kind for each in eps] == [Kind.VANISH]
    force = forced(fp32, ranges, eps)
    assert force == Forced(tensors=frozenset({"s"}), nodes=frozenset())
    assert {"Add_s", "Log_y"} <= wide(fp32, ranges, force)
