"""Limits of FP16, and what diagnosis makes of them."""

from __future__ import annotations

from tools.mutate.fault import Fault

TESTS = ("tests/hazards/test_diagnose.py", "tests/hazards/test_ends.py")

FAULTS = (
    Fault(
        "overflow-at-the-largest",
        "half.py",
        "return (2.0 - 2.0**-self.digits) * 2.0**self.emax",
        "return (2.0 - 2.0 ** (1 - self.digits)) * 2.0**self.emax",
        ("tests/test_half.py",),
        "what rounds to 65504 is called infinite",
    ),
    Fault(
        "smallest-is-twice-as-large",
        "half.py",
        "2.0 ** (self.emin - self.digits + 1)",
        "2.0 ** (self.emin - self.digits + 2)",
        ("tests/test_half.py",),
        "subnormals that FP16 holds are called zero",
    ),
    Fault(
        "subnormals-start-an-octave-late",
        "half.py",
        "return 2.0**self.emin",
        "return 2.0 ** (self.emin - 1)",
        ("tests/test_half.py",),
        "the first lost bit is not seen",
    ),
    Fault(
        "vanish-only-below-half-a-step",
        "hazards/vanish.py",
        "0.0 < seen.smallest <= half.SMALLEST / 2",
        "0.0 < seen.smallest < half.SMALLEST / 4",
        TESTS,
        "a denominator that FP16 makes zero is not named",
    ),
    Fault(
        "eps-never-zero",
        "hazards/vanish.py",
        "if abs(value) <= half.SMALLEST / 2:",
        "if False:",
        TESTS,
        "an eps that is zero in FP16 is called a little inexact",
    ),
    Fault(
        "coarse-counts-unseen",
        "hazards/swamp.py",
        "seen.integral and seen.absmax > half.INTEGERS",
        "seen.integral and seen.absmax > 2 * half.INTEGERS",
        TESTS,
        "odd numbers past 2048 become even and nobody looks",
    ),
    Fault(
        "angles-unseen",
        "hazards/coarse.py",
        "seen.absmax > ANGLE:",
        "False:",
        ("tests/hazards/test_coarse.py", *TESTS),
        "a sine of a coarse angle is not named",
    ),
    Fault(
        "cancellation-unseen",
        "hazards/cancel.py",
        "if kept < (COORDINATES_DB if on_grid else KEPT_DB) and ",
        "if False and ",
        TESTS,
        "a difference of rounding errors is not named",
    ),
    Fault(
        "cancellation-by-the-smallest",
        "hazards/cancel.py",
        "largest = max(",
        "largest = min(",
        TESTS,
        "a difference is judged beside its smaller operand",
    ),
    Fault(
        "large-constants-unseen",
        "hazards/constant.py",
        "    if seen.absmax >= half.FP16.overflow:\n",
        "    if False:\n",
        TESTS,
        "an infinite literal is not named",
    ),
    Fault(
        "competing-logits-unseen",
        "hazards/coarse.py",
        "if bare or seen.wavering >= WAVERING or seen.ties >= TIES:",
        "if bare:",
        ("tests/hazards/test_coarse.py",),
        "a sharp softmax picks another winner on fresh samples",
    ),
    Fault(
        "swallowed-addends-unseen",
        "hazards/swallow.py",
        "EATEN <= below < NOTHING",
        "EATEN + 10 <= below < NOTHING",
        ("tests/hazards/test_swallow.py",),
        "increments below the spacing of a state are lost, and nobody is told",
    ),
    Fault(
        "running-sums-unseen",
        "hazards/states.py",
        "if id(node) in back and node.op in ADDITIONS]",
        "if False]",
        ("tests/hazards/test_running_sums.py",),
        "a sum that a Loop carries is right for short inputs alone",
    ),
)
