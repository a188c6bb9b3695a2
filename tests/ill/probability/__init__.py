"""Class 18: logarithms of probabilities that FP16 has already rounded to zero."""

from __future__ import annotations

import numpy as np
import onnx

from ..case import Case, Feeds, normal
from ..fragments import dense, linear
from ..net import Net

FRAMES, WIDTH, LABELS = 12, 32, 20


def ctc(*, fused: bool) -> onnx.ModelProto:
    """An acoustic head: dense, ReLU, dense, Softmax, Log(p + 1e-12), or LogSoftmax."""
    net = Net("ctc", opset=13, seed=41)
    x = net.input("frames", [1, FRAMES, WIDTH])
    with net.scope("ctc_head"):
        inner = net.op("Relu", dense(net, "0", x, WIDTH, WIDTH))
        weight = net.normal(WIDTH, LABELS, scale=5 / WIDTH**0.5)
        logits = linear(net, "2", inner, weight, np.linspace(0, -10.5, LABELS).astype(np.float32))
        logs = net.op("LogSoftmax", logits, axis=-1) if fused else net.op("Log", net.op("Add", net.op("Softmax", logits, axis=-1), 1e-12))
    net.output("log_probs", logs, [1, FRAMES, LABELS])
    return net.model()


def entropy(*, fused: bool) -> onnx.ModelProto:
    """Uncertainty of a classifier: -sum p log(p + 1e-10), or the same through LogSoftmax; and p."""
    net = Net("entropy", opset=13, seed=42)
    x = net.input("features", [FRAMES, WIDTH])
    with net.scope("head"):
        inner = net.op("Relu", dense(net, "fc1", x, WIDTH, WIDTH))
        logits = dense(net, "fc2", inner, WIDTH, LABELS, gain=10.0)
        chances = net.op("Softmax", logits, axis=-1)
        logs = net.op("LogSoftmax", logits, axis=-1) if fused else net.op("Log", net.op("Add", chances, 1e-10))
        total = net.op("Neg", net.reduce("ReduceSum", net.op("Mul", chances, logs), [1], keepdims=0))
    net.output("entropy", total, [FRAMES])
    net.output("probabilities", chances, [FRAMES, LABELS])
    return net.model()


def features() -> list[Feeds]:
    """Feature rows of the order 1/2."""
    return normal("features", (FRAMES, WIDTH), seed=181, scale=0.5)


CASES = (
    Case(
        name="probability-ctc-log-softmax",
        classes=(18,),
        build=lambda: ctc(fused=False),
        samples=lambda: normal("frames", (1, FRAMES, WIDTH), seed=180, scale=0.6),
        free=True,
        witness=lambda: ctc(fused=True),
        note="Probabilities under 2^-25 are zero, so is the eps: log(0). LogSoftmax is the same function there.",
    ),
    Case(
        name="probability-entropy",
        classes=(18, 12),
        build=lambda: entropy(fused=False),
        samples=features,
        free=True,
        witness=lambda: entropy(fused=True),
        note="p log(p + 1e-10) where p is zero: 0 · -inf is NaN.",
    ),
)
