"""Minimum cuts: what is forced is wide, neighbours join when that is cheaper than casts, nothing else does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fp16fix.hazards import diagnose
from fp16fix.passes.place.islands import islands
from fp16fix.passes.place.pins import Forced, forced
from fp16fix.ranges.measure import measure
from tests.models import model, normal

NOTHING: frozenset[str] = frozenset()


def chain(length: int) -> str:
    names = ["x", *(f"t{i}" for i in range(1, length)), "y"]
    return "g (float[64] x) => (float[64] y) { " + " ".join(f"{b} = Neg ({a})" for a, b in zip(names, names[1:], strict=False)) + " }"


def test_nothing_forced_is_nothing_wide() -> None:
    fp32 = model(chain(6))
    found = islands(fp32, measure(fp32, [{"x": normal(64)}]), Forced(NOTHING, NOTHING))
    assert (found.nodes, found.cost_bytes) == (NOTHING, 0)


def test_two_hazards_a_node_apart_become_one_island() -> None:
    fp32 = model(chain(8))
    ranges = measure(fp32, [{"x": normal(64)}])
    found = islands(fp32, ranges, Forced(NOTHING, frozenset({"Neg_t3", "Neg_t5"})))
    assert found.nodes == {"Neg_t3", "Neg_t4", "Neg_t5"}
    assert found.cost_bytes == 0, "inside of one kernel FP32 is free"


def test_two_hazards_far_apart_stay_two_islands_when_what_lies_between_is_dear() -> None:
    text = """g (float[256,256] x) => (float[256,256] y) {
        a = Neg (x) b = MatMul (a, a) c = MatMul (b, b) d = MatMul (c, c) y = Neg (d)
    }"""
    fp32 = model(text)
    ranges = measure(fp32, [{"x": normal(256, 256, scale=0.05)}])
    found = islands(fp32, ranges, Forced(NOTHING, frozenset({"Neg_a", "Neg_y"})))
    assert found.nodes == {"Neg_a", "Neg_y"}


def test_casts_at_the_borders_of_a_kernel_cost_nothing_so_nothing_is_joined_across_them() -> None:
    text = """g (float[8,8] x) => (float[8,8] y) {
        c = MatMul (x, x) [tanh] d = Tanh (c) [between] e = Softmax (d) [product] y = MatMul (e, x) }"""
    fp32 = model(text)
    found = islands(fp32, measure(fp32, [{"x": normal(8, 8)}]), Forced(NOTHING, frozenset({"tanh", "product"})))
    assert found.nodes == {"tanh", "product"}


def test_a_forced_tensor_makes_producer_and_readers_wide() -> None:
    fp32 = model(chain(5))
    found = islands(fp32, measure(fp32, [{"x": normal(64)}]), Forced(frozenset({"t2"}), NOTHING))
    assert found.nodes == {"Neg_t2", "Neg_t3"}


def test_the_users_allowance_wins() -> None:
    fp32 = model(chain(5))
    found = islands(fp32, measure(fp32, [{"x": normal(64)}]), Forced(NOTHING, frozenset({"Neg_t2"})), frozenset({"Neg_t2"}))
    assert found.nodes == NOTHING


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 11), max_size=5))
def test_whatever_is_forced_is_contained(picked: set[int]) -> None:
    fp32 = model(chain(12))
    names = [node.name for node in fp32.nodes()]
    force = frozenset(names[i] for i in picked)
    found = islands(fp32, measure(fp32, [{"x": normal(64)}], details=False), Forced(NOTHING, force)).nodes
    assert force <= found
    assert len(found) <= (max(picked) - min(picked) + 1 if picked else 0)


def test_overflow_is_followed_until_values_fit() -> None:
    text = "g (float[4,8] x) => (float[4,8] y) <float k = {1000.0}, float d = {0.0001}> { a = Mul (x, k) t = Transpose <perm = [1, 0]> (a) r = Transpose <perm = [1, 0]> (t) y = Mul (r, d) }"
    fp32 = model(text)
    ranges = measure(fp32, [{"x": normal(4, 8, scale=500.0)}])
    force = forced(fp32, ranges, diagnose(fp32, ranges))
    assert {"a", "t", "r"} <= force.tensors
    assert islands(fp32, ranges, force).nodes == {"Mul_a", "Transpose_t", "Transpose_r", "Mul_y"}
