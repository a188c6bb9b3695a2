"""What candidates are compared with: samples and, where FP32 makes sense of them, blends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from fp16fix.config.sections import Tolerance
from fp16fix.errors import ModelError
from fp16fix.graph.lower import lower
from fp16fix.inputs.blend import blended
from fp16fix.oracles.emulator import BLENDED, StrictOracle
from fp16fix.oracles.reference import Reference
from fp16fix.ranges.measure import measure
from fp16fix.verdict.metric import Measured
from fp16fix.verdict.verdict import Verdict
from tests.models import model

OFFSET = "g (float[1,8] x) => (float[1,8] y) <float k = {1000}> { y = Sub (x, k) }"


def halves(*seeds: int) -> list[dict[str, np.ndarray]]:
    """Halves from 1000.5 on, which FP16 holds exactly."""
    return [{"x": np.asarray(1000.5 + np.random.default_rng(seed).integers(0, 20, (1, 8)), np.float32)} for seed in seeds]


def test_what_is_right_by_luck_in_the_samples_is_not_verified_on_blends() -> None:
    samples = halves(0, 1, 2)
    with StrictOracle(model(OFFSET), samples, Tolerance().of, names=("a", "b", "c")) as oracle:
        alone = oracle.verdict(lower(model(OFFSET), {}))
        oracle.blend(blended(samples, ("a", "b", "c"), 8, 0), {})
        verdict = oracle.verdict(lower(model(OFFSET), {}))
    assert alone.verified
    assert alone.spare_db == math.inf
    assert not verdict.verified
    assert verdict.samples == 3
    (stress,) = verdict.stressed
    assert (stress.where, stress.samples, stress.output) == (BLENDED, 8, "y")
    assert " + " in stress.sample
    assert stress.sqnr_db < 47.0
    assert verdict.spare_db == pytest.approx(stress.sqnr_db - 47.0)
    assert verdict.spare_at == f"{BLENDED}, at y in sample {stress.sample}"
    assert verdict.reasons[0].startswith(f"{BLENDED} y: ")


class Counts:
    """A metric that counts the samples it was told of, and takes none after its result."""

    label = "counts"

    def __init__(self) -> None:
        self.seen = 0
        self.done = False

    def add(self, *_: object) -> None:
        assert not self.done
        self.seen += 1

    def result(self) -> Measured:
        self.done = True
        return Measured(float(self.seen), 0.0, passes=True)


def test_what_was_measured_under_a_key_goes_on_where_it_stopped() -> None:
    typed, ticks = lower(model(OFFSET), {}), list[int]()
    finer = [{"x": np.full((1, 8), 1000.7, np.float32)}]
    with StrictOracle(model(OFFSET), halves(0, 1), Tolerance().of, names=("a", "b")) as oracle:

        def asked(key: str) -> tuple[Verdict, int]:
            ticks.clear()
            return oracle.verdict(typed, key=key, jitter=1, tick=lambda: ticks.append(1)), len(ticks)

        assert asked("k")[1] == 4, "two samples, and the same under jitter"
        assert asked("k")[1] == 0
        assert asked("")[1] == 4
        oracle.extend(finer, ("c",))
        (verdict, took), (again, all_of_it) = asked("k"), asked("other")
        assert (took, all_of_it) == (1, 3)
        assert verdict == again
        assert not verdict.verified
        assert [each.sample for each in verdict.outputs[0].samples] == ["a", "b", "c"]
        oracle.metrics = (Counts,)
        assert [asked("m")[0].metrics[0].value for _ in range(2)] == [3.0, 3.0]
        oracle.extend(halves(2), ("d",))
        assert asked("m")[0].metrics[0].value == 4.0


def kept(text: str, samples: Sequence[dict[str, np.ndarray]], rounds: Mapping[str, int] | None = None) -> int:
    reference = Reference(model(text))
    reference.extend(samples)
    reference.extend_by_blends(blended(samples, [str(n) for n in range(len(samples))], 32, 0), rounds or {})
    count = reference.count - len(samples)
    assert len(reference.names) == count
    assert sum(1 for _ in reference.values()) == reference.count
    reference.close()
    return count


def test_blends_that_fp32_makes_no_sense_of_are_left_out() -> None:
    root = "g (float[8] x) => (float[8] y) <float k = {1}> { a = Abs (x)  d = Sub (a, k)  y = Sqrt (d) }"
    ends = [{"x": np.array([value, *[2.5] * 7], np.float32)} for value in (2.5, -2.5)]
    assert 0 < kept(root, ends) < 32, "between 2.5 and -2.5 there are roots of negative numbers"
    assert kept(OFFSET, halves(0, 1)) == 32
    shaped = "g (float[6] x, int64[2] s) => (float[m,n] y) { y = Reshape (x, s) }"
    values = np.arange(6, dtype=np.float32) + np.float32(0.5)
    given = [{"x": values, "s": np.array(shape, np.int64)} for shape in ([2, 3], [3, 2])]
    assert 0 < kept(shaped, given) < 32, "2 × 2 does not hold six"
    with pytest.raises(ModelError):
        Reference(model(shaped)).extend([{"x": values, "s": np.array([2, 2], np.int64)}])


def test_a_model_that_draws_random_numbers_has_no_blends() -> None:
    assert kept("g (float[1,8] x) => (float[1,8] y) { n = RandomNormalLike (x)  y = Add (x, n) }", halves(0, 1)) == 0


def test_blends_that_fp32_finds_no_end_for_are_left_out() -> None:
    """Counting in steps of the larger number meets 8 in steps of 4 and of 2; past it only the trip count ends it."""
    text = """g (float[2] x) => (float[1] y) <float[1] end = {8}, bool go = {1}, int64 most = {20000}> { s = ReduceMax <keepdims = 1> (x)
      y = Loop (most, go, s) <body = b (int64 i, bool c, float[1] v) => (bool d, float[1] w) {
        w = Add (v, s) e = Equal (w, end) n = Not (e) d = Squeeze (n) }> }"""
    given = [{"x": np.array(steps, np.float32)} for steps in ([4.0, 0.5], [0.25, 2.0])]
    seen = measure(model(text), given).rounds
    assert seen == {"Loop_y": 3}
    assert kept(text, given, seen) < 32
    assert kept(text.replace("go = {1}", "go = {0}"), given, {"Loop_y": 0}) == 32


@pytest.mark.parametrize("name", ["a", "b", "c", "of no sample"])
def test_one_sample_alone_is_judged_as_among_the_others(name: str) -> None:
    samples = halves(0, 1, 2)
    samples[1] = {"x": np.full((1, 8), 1000.7, np.float32)}
    typed = lower(model(OFFSET), {})
    with StrictOracle(model(OFFSET), samples[:2], Tolerance().of, names=("a", "b")) as oracle:
        oracle.extend(samples[2:], ("c",))
        among = {each.sample: each.sqnr_db for each in oracle.verdict(typed).outputs[0].samples}
        with oracle.alone(name) as alone:
            verdict = alone.verdict(typed)
        assert oracle.verdict(typed).samples == 3
    (shown,) = verdict.outputs[0].samples
    assert verdict.samples == 1
    assert shown.sqnr_db == among[name if name in among else "a"]
    assert (name == "b") == (not verdict.verified)


def test_of_a_model_that_draws_random_numbers_one_sample_draws_anew() -> None:
    text = "g (float[1,8] x) => (float[1,8] y) { n = RandomNormalLike (x)  y = Add (x, n) }"
    with StrictOracle(model(text), halves(0, 1), Tolerance().of, names=("a", "b")) as oracle, oracle.alone("b") as alone:
        assert alone.verdict(lower(model(text), {})).verified
