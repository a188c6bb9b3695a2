"""What is measured for triage, on engines that are simulated: emulation, FP32 and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.hazards.hazard import Kind
from fp16fix.location.hearing import Hearing, in_fp16, in_fp32
from fp16fix.location.recorded import Given, Witness
from fp16fix.location.triage import Fault, Triage, triage
from fp16fix.strict.emulate import emulate
from tests.models import model, normal

from .test_locate import floor

Outputs = dict[str, np.ndarray]
Engine = Callable[[Outputs, Outputs], Outputs]

NORM = "g (float[4,64] x) => (float[4,64] y) <float two = {2.0}> { p = Pow (x, two) m = ReduceMean <axes = [1]> (p) s = Sqrt (m) y = Div (x, s) }"
"""Strict FP16 squares past 65504 and gives zeros."""
PRODUCT = "g (float[4,64] x) => (float[4,64] y) { y = Mul (x, x) }"
"""Right in FP16, but for rounding."""
SUM = "g (float[4,64] x) => (float[4] y) <int64[1] axes = {1}> { y = ReduceSum <keepdims = 0> (x, axes) }"
"""Right as long as the sum of large values that nearly cancel is held in FP32."""


def samples(text: str, count: int = 3) -> list[Outputs]:
    if text != SUM:
        return [{"x": normal(4, 64, scale=3000.0 if text == NORM else 1.0, seed=seed)} for seed in range(count)]
    half = [np.abs(normal(4, 32, scale=4000.0, seed=seed)) for seed in range(count)]
    return [{"x": np.concatenate((each, -0.5 * each[:, ::-1]), axis=1)} for each in half]


def told(subject: Model, given: list[Outputs], engine: Engine, who: str = "recorded") -> Witness:
    exact, strict = Session(subject), Session(emulate(lower(subject, {})))

    def outputs() -> Iterator[Given]:
        for number, sample in enumerate(given):
            yield Given(f"out {number}", engine(exact.run(sample), strict.run(sample)))

    return Witness(subject, outputs(), who)


def measured(text: str, engine: Engine) -> tuple[Hearing, Triage]:
    subject, given = model(text), samples(text)
    evidence = in_fp16(subject, given, floor, engine=told(subject, given, engine))
    return evidence, triage(evidence, {Kind.OVERFLOW: 1.0} if text == NORM else {})


def noise(decibels: float) -> Engine:
    rng = np.random.default_rng(0)

    def noisy(value: np.ndarray) -> np.ndarray:
        size = 10.0 ** (-decibels / 20.0) * float(np.sqrt(np.mean(value**2)))
        return np.asarray(value + size * rng.standard_normal(value.shape))

    return lambda exact, _: {name: noisy(value) for name, value in exact.items()}


def emulated(_: Outputs, strict: Outputs) -> Outputs:
    return strict


def right(exact: Outputs, _: Outputs) -> Outputs:
    return exact


def lost(exact: Outputs, _: Outputs) -> Outputs:
    return {name: np.full_like(value, np.nan) for name, value in exact.items()}


def test_an_engine_that_does_what_the_emulation_does() -> None:
    evidence, found = measured(NORM, emulated)
    assert found.fault is Fault.RANGE
    assert "reproduces it (y: " in found.verdict
    assert "; the engine: y " in found.verdict
    assert found.verdict.endswith("mostly by overflow.")
    assert evidence.pessimistic is None, "the strict emulation accounts for it"
    assert found.evidence[-1] == "strict emulation is closer to the engine than FP32 is: y equal against 0.0 dB"


def test_an_engine_that_is_wrong_where_fp16_is_right() -> None:
    evidence, found = measured(PRODUCT, noise(10.0))
    assert found.fault is Fault.ELSEWHERE
    assert "as measured: the engine is wrong (y: " in found.verdict
    assert "sums held in FP16 or not: suspect a compiler bug" in found.verdict
    assert evidence.pessimistic is not None
    assert evidence.pessimistic.verified


def test_an_engine_that_is_right() -> None:
    _, found = measured(NORM, noise(60.0))
    assert found.fault is Fault.ENGINE_RIGHT
    assert "outside it" in found.verdict
    assert found.evidence[-1].startswith("the engine is right where all-FP16 is wrong")
    assert "whether it computes in FP16 at all" in measured(NORM, right)[1].evidence[-1]


def test_an_engine_whose_sums_are_fp16() -> None:
    evidence, found = measured(SUM, lost)
    assert evidence.strict.verified
    assert evidence.pessimistic is not None
    assert not evidence.pessimistic.verified
    assert found.fault is Fault.SUMS
    assert "accumulate in FP32" in found.verdict


def test_an_engine_that_is_much_worse_than_a_bad_emulation() -> None:
    evidence, _ = measured(NORM, lost)
    mild = replace(evidence.strict.outputs[0], sqnr_db=45.0, broken=("y: 45.0 dB, wanted 50 dB",))
    evidence = replace(evidence, strict=replace(evidence.strict, outputs=(mild,), reasons=mild.broken))
    found = triage(evidence, {})
    assert found.fault is Fault.PARTLY
    assert "y: 45.0 dB" in found.verdict
    assert "there may be a second fault" in found.evidence[-1]


def test_an_engine_and_an_emulation_on_either_side_of_the_tolerance() -> None:
    evidence, _ = measured(PRODUCT, noise(48.4))
    near = replace(evidence.strict.outputs[0], sqnr_db=51.0)
    found = triage(replace(evidence, strict=replace(evidence.strict, outputs=(near,))), {})
    assert found.fault is Fault.PRECISION
    assert "at the edge of the tolerance" in found.verdict
    assert "y 51.0 dB; the engine: y 48." in found.verdict


@pytest.mark.parametrize(
    ("text", "engine", "says"),
    [
        (NORM, noise(40.0), "suspect TF32 (build it with --no-tf32 to see), then"),
        (NORM, lost, "not TF32, which has FP32's range"),
        (PRODUCT, noise(40.0), "TF32 rounds no more than FP16 does"),
    ],
)
def test_an_fp32_engine_that_is_wrong(text: str, engine: Engine, says: str) -> None:
    subject, given = model(text), samples(text)
    _, wide = in_fp32(subject, given, floor, engine=told(subject, given, engine))
    found = triage(replace(in_fp16(subject, given, floor), fp32_engine=wide), {})
    assert found.fault is Fault.FP32_ENGINE
    assert says in found.verdict
    assert any(line.startswith("the FP32 engine (recorded outputs) does not agree with FP32: y ") for line in found.evidence)


def test_a_right_fp32_engine_narrows_what_is_left() -> None:
    subject, given = model(PRODUCT), samples(PRODUCT)
    _, wide = in_fp32(subject, given, floor, engine=told(subject, given, right))
    evidence = in_fp16(subject, given, floor, engine=told(subject, given, noise(5.0)))
    found = triage(replace(evidence, fp32_engine=wide), {})
    assert found.fault is Fault.ELSEWHERE
    assert found.verdict.endswith("suspect a compiler bug or a plugin in FP16, as the FP32 engine is right.")


def test_an_fp32_engine_is_held_to_the_reference_where_there_is_one() -> None:
    """The framework differs from ONNX, and the engine gives what the framework gives."""
    subject, given = model(PRODUCT), samples(PRODUCT)
    double: Engine = lambda exact, _: {name: 2.0 * value for name, value in exact.items()}
    framework, wide = in_fp32(
        subject, given, floor, reference=told(subject, given, double, "reference"), engine=told(subject, given, double)
    )
    assert framework is not None
    assert wide is not None
    assert not framework.verified
    assert wide.verified
    found = triage(replace(in_fp16(subject, given, floor), reference=framework, fp32_engine=wide), {})
    assert found.fault is Fault.REFERENCE
    assert "the FP32 engine (recorded outputs) agrees with the reference outputs: y equal" in found.evidence


def test_nothing_given_costs_nothing() -> None:
    assert in_fp32(model(PRODUCT), [], floor) == (None, None)
