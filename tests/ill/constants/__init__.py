"""Class 17: literals that FP16 does not hold: past 65504, or so small and negative that careless clipping turns their sign."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from ..case import Case, Feeds, normal
from ..fragments import dense
from ..net import Net

ROWS, WIDTH = 8, 16


def huge_divisor(down: int) -> onnx.ModelProto:
    """Event counts divided by 1e5 (with `down`, times 2^-down over 1e5·2^-down), joined to other features, two dense layers."""
    net = Net("ranker", opset=13, seed=39)
    counts, features = net.input("counts", [ROWS, WIDTH]), net.input("features", [ROWS, WIDTH])
    with net.scope("features"):
        small = net.op("Mul", counts, 2.0**-down) if down else counts
        share = net.op("Div", small, 1e5 * 2.0**-down)
        joined = net.op("Concat", share, features, axis=1)
    with net.scope("mlp"):
        inner = net.op("Relu", dense(net, "0", joined, 2 * WIDTH, WIDTH, gain=2.0))
        out = dense(net, "2", inner, WIDTH, 4)
    net.output("score", out, [ROWS, 4])
    return net.model()


def log_hazard() -> onnx.ModelProto:
    """log(-min(x, -1e-9)) of a rate that should be negative, dense: the floor is what keeps the logarithm finite."""
    net = Net("survival", opset=13, seed=40)
    x = net.input("features", [ROWS, WIDTH])
    with net.scope("hazard"):
        rate = net.op("Sub", dense(net, "fc", x, WIDTH, WIDTH, gain=0.5), 0.5)
        logs = net.op("Log", net.op("Neg", net.op("Min", rate, -1e-9)))
        out = dense(net, "out", logs, WIDTH, 4)
    net.output("log_hazard", out, [ROWS, 4])
    return net.model()


def clicks() -> list[Feeds]:
    """Whole counts up to 60000 and features of the order 1."""
    rng = np.random.default_rng(170)
    samples = normal("features", (ROWS, WIDTH), seed=171)
    return [{"counts": rng.integers(0, 60001, (ROWS, WIDTH)).astype(np.float32), **feeds} for feeds in samples]


CASES = (
    Case(
        name="constants-huge-divisor",
        classes=(17,),
        build=partial(huge_divisor, 0),
        samples=clicks,
        free=True,
        witness=partial(huge_divisor, 4),
        note="x / 1e5 is x / inf = 0: finite and wrong. Clipping the literal to 65504 is wrong by half.",
    ),
    Case(
        name="constants-tiny-negative-floor",
        classes=(17, 12),
        build=log_hazard,
        samples=lambda: normal("features", (ROWS, WIDTH), seed=172),
        note="-1e-9 rounds to -0, and careless converters make it +6e-8: log of zero or of a negative number (onnxconverter#295).",
    ),
)
