"""Addends below the spacing of what they are added to."""

from __future__ import annotations

import numpy as np

from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.ranges.measure import measure
from tests.models import model, normal

STEP = "g (float[4,64] x, float[4,64] d) => (float[4,64] y) { y = Add (x, d) }"


def swallowed(x: np.ndarray, d: np.ndarray, text: str = STEP) -> list[Hazard]:
    fp32 = model(text)
    found = diagnose(fp32, measure(fp32, [{"x": x, "d": d}]))
    return [hazard for hazard in found if hazard.kind is Kind.SWALLOW]


def test_an_increment_below_the_spacing_is_named() -> None:
    x = normal(4, 64) + 20.0
    (found,) = swallowed(x, normal(4, 64, scale=0.004))
    assert (found.node, found.tensor) == ("Add_y", "y")
    assert "'d'" in found.why
    assert "FP16 steps there are 0.0156" in found.why
    assert swallowed(x, normal(4, 64, scale=0.1)) == [], "a few steps are a rounding error like any other"


def test_one_massive_channel_does_not_swallow_what_is_added_to_the_others() -> None:
    x = normal(4, 64)
    x[:, 0] = 3e4
    assert swallowed(x, normal(4, 64, scale=0.1)) == []


def test_nothing_is_added_and_literals_are_left_to_others() -> None:
    x = normal(4, 64) + 20.0
    assert swallowed(x, np.zeros((4, 64), np.float32)) == []
    assert (
        swallowed(
            x, normal(4, 64), "g (float[4,64] x, float[4,64] d) => (float[4,64] y) <float e = {0.0001}> { s = Add (x, e) y = Mul (s, d) }"
        )
        == []
    )
    assert swallowed(x, normal(4, 64, scale=1e-9)) == [], "FP32 loses it too"


def test_what_a_mask_eats_is_meant_to_be() -> None:
    mask = np.where(np.arange(64) < 8, 0.0, -1e4).astype(np.float32)[None].repeat(4, axis=0)
    text = STEP.replace("y = Add (x, d)", "s = Add (x, d) t = Add (s, x) y = Softmax <axis = 1> (t)")
    assert swallowed(mask, normal(4, 64), text) == []
    assert swallowed(mask, normal(4, 64)) != [], "without a softmax behind it, they are increments like any other"
    assert swallowed(-mask[:, ::-1] * (np.arange(64) < 20), normal(4, 64)) == [], "most elements have nothing beside them"
