"""What was measured → one plain sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fp16fix.config.sections import Bounds
from fp16fix.hazards.hazard import Kind
from fp16fix.location.hearing import Hearing
from fp16fix.location.triage import Fault, triage
from fp16fix.verdict.gates import judge
from fp16fix.verdict.verdict import Figures, Verdict

GOOD = Figures("boxes", 61.0, 0.01, 0.001, 1.0, 0)
COARSE = Figures("boxes", 21.0, 3.0, 0.1, 0.99, 0)
LOST = Figures("boxes", 21.0, 3.0, 0.1, 0.99, 5)
AWFUL = Figures("boxes", -3.0, 300.0, 3.0, 0.1, 0)


def verdict(figures: Figures, oracle: str = "strict") -> Verdict:
    fine = figures is GOOD
    said = () if fine else (f"boxes: {figures.sqnr_db} dB, wanted 50 dB",)
    return Verdict(fine, oracle, "engine", (replace(figures, broken=said),), 2, said)


CASES = [
    (
        Hearing(verdict(LOST), reference=verdict(COARSE, "reference")),
        {Kind.OVERFLOW: 1.0},
        Fault.REFERENCE,
        "export and the preprocessing",
    ),
    (Hearing(verdict(LOST), reference=verdict(COARSE, "module")), {}, Fault.REFERENCE, "the PyTorch module's outputs"),
    (Hearing(verdict(LOST)), {Kind.CANCEL: 1.0}, Fault.RANGE, "range fault"),
    (Hearing(verdict(COARSE)), {Kind.OVERFLOW: 0.9, Kind.CANCEL: 0.1}, Fault.RANGE, "mostly by overflow"),
    (Hearing(verdict(COARSE)), {Kind.CANCEL: 0.7, Kind.VANISH: 0.3}, Fault.PRECISION, "mostly by cancel"),
    (Hearing(verdict(COARSE)), {}, Fault.PRECISION, "not one of range"),
    (Hearing(verdict(GOOD), pessimistic=verdict(LOST)), {}, Fault.SUMS, "accumulate in FP32"),
    (Hearing(verdict(GOOD), pessimistic=verdict(GOOD)), {}, Fault.ELSEWHERE, "compiler bug"),
    (Hearing(verdict(LOST), fp32_engine=verdict(COARSE, "recorded")), {}, Fault.FP32_ENGINE, "--no-tf32"),
    (Hearing(verdict(LOST), engine=verdict(GOOD, "recorded")), {}, Fault.ENGINE_RIGHT, "outside it"),
    (Hearing(verdict(COARSE), engine=verdict(COARSE, "recorded")), {Kind.SWAMP: 1.0}, Fault.PRECISION, "the engine: boxes 21.0 dB"),
    (Hearing(verdict(COARSE), verdict(COARSE), engine=verdict(AWFUL, "recorded")), {}, Fault.PARTLY, "explains a part at most"),
    (
        Hearing(verdict(COARSE), verdict(AWFUL), engine=verdict(AWFUL, "recorded")),
        {},
        Fault.SUMS,
        "only with sums inside operators held in FP16",
    ),
    (Hearing(verdict(GOOD), verdict(AWFUL), engine=verdict(AWFUL, "recorded")), {}, Fault.SUMS, "accumulate in FP32"),
    (Hearing(verdict(GOOD), verdict(COARSE), engine=verdict(AWFUL, "recorded")), {}, Fault.PARTLY, "boxes: 21.0 dB"),
    (Hearing(verdict(GOOD), verdict(GOOD), engine=verdict(COARSE, "tensorrt")), {}, Fault.ELSEWHERE, "as measured"),
]


@pytest.mark.parametrize(("evidence", "kinds", "fault", "words"), CASES)
def test_verdict_is_one_sentence_that_names_its_figure(evidence: Hearing, kinds: dict[Kind, float], fault: Fault, words: str) -> None:
    found = triage(evidence, kinds)
    assert found.fault is fault
    assert words in found.verdict
    assert "dB" in found.verdict
    assert "\n" not in found.verdict
    assert found.verdict.endswith(".")
    assert ". " not in found.verdict.replace("21.0", "").replace("61.0", "")


def test_evidence_has_a_sentence_for_everything_measured() -> None:
    evidence = Hearing(
        verdict(LOST),
        reference=verdict(GOOD, "reference"),
        autocast=verdict(GOOD, "cuda"),
        fp32_engine=verdict(GOOD, "tensorrt"),
        engine=verdict(LOST, "recorded"),
        alike=(replace(GOOD, sqnr_db=33.0),),
    )
    assert triage(evidence, {}).evidence == (
        "FP32 agrees with the reference outputs: boxes 61.0 dB",
        "the FP32 engine (run here) agrees with the reference outputs: boxes 61.0 dB",
        "PyTorch autocast to FP16 (cuda) agrees with PyTorch FP32: boxes 61.0 dB",
        "autocast runs products in FP16 and leaves much else in FP32 (here norms, softmax, powers, sums); all-FP16 does not",
        "all-FP16, strictly emulated, against FP32: boxes 21.0 dB, 5 values lost",
        "the engine (recorded outputs) does not agree with FP32: boxes 21.0 dB, 5 values lost",
        "strict emulation is closer to the engine than FP32 is: boxes 33.0 dB against 21.0 dB",
    )


def test_autocast_that_does_not_agree_explains_nothing() -> None:
    said = triage(Hearing(verdict(LOST), autocast=verdict(COARSE, "cpu")), {}).evidence
    assert said[0] == "PyTorch autocast to FP16 (cpu) does not agree with PyTorch FP32: boxes 21.0 dB"
    assert said[1].startswith("all-FP16")


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ({Kind.OVERFLOW: 0.5, Kind.VANISH: 0.5}, ", mostly by overflow and values that vanish."),
        (
            {Kind.OVERFLOW: 0.34, Kind.VANISH: 0.33, Kind.CONSTANT: 0.33},
            ", mostly by overflow, constants outside FP16 and values that vanish.",
        ),
        ({Kind.OVERFLOW: 0.45, Kind.VANISH: 0.25, Kind.CANCEL: 0.3}, ", by overflow among others."),
        ({Kind.OVERFLOW: 0.2, Kind.CANCEL: 0.8}, ", by overflow among others."),
        ({Kind.CANCEL: 1.0}, "wanted 50 dB)."),
        ({Kind.OVERFLOW: 0.0}, "wanted 50 dB)."),
    ],
    ids=["tied", "three", "none dominates", "lost values are of range", "another fault's kind", "no share"],
)
def test_the_kinds_that_lead_are_named_and_no_other(kinds: dict[Kind, float], says: str) -> None:
    found = triage(Hearing(verdict(LOST)), kinds)
    assert found.fault is Fault.RANGE
    assert found.verdict.endswith(says)


def test_the_worst_output_is_the_figure_and_ends_of_the_scale_are_words() -> None:
    coarse, gone = replace(COARSE, output="logits"), Figures("boxes", float("-inf"), 0.0, 0.0, 0.0, 1200)
    classes = Figures("classes", float("inf"), 0.0, 0.0, 1.0, 0, mismatches=3)
    strict = judge((coarse, gone, classes), lambda _: Bounds(), "strict", "engine", 2)
    found = triage(Hearing(strict), {})
    assert "(boxes: 1,200 elements lost" in found.verdict
    assert found.evidence == (
        "all-FP16, strictly emulated, against FP32: boxes no signal left, 1,200 values lost, classes 3 values differ, logits 21.0 dB",
    )


def test_a_reference_that_loses_values_is_not_called_fp32() -> None:
    lacking = replace(LOST, lost=0, excluded=5, sqnr_db=float("nan"))
    reference = judge((lacking,), lambda _: Bounds(), "reference", "engine", 2)
    assert "the reference itself gives no finite value" in triage(Hearing(verdict(GOOD), reference=reference), {}).verdict


def test_an_output_whose_name_begins_like_another_is_not_accused_for_it() -> None:
    right, gone = replace(GOOD, output="a"), replace(LOST, output="a: x")
    engine = judge((right, gone), lambda _: Bounds(), "recorded", "engine", 2)
    assert [each.output for each in engine.failed] == ["a: x"]
    said = triage(Hearing(judge((right, gone), lambda _: Bounds(), "strict", "engine", 2), engine=engine), {})
    assert "the engine (recorded outputs) does not agree with FP32: a: x 21.0 dB, 5 values lost, but does in a 61.0 dB" in said.evidence
