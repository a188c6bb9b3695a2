"""Class 8: softmax, logsumexp and softplus written out; exp overflows FP16 past 11.09."""

from __future__ import annotations

import numpy as np
import onnx

from ..case import Case, Feeds, normal
from ..fragments import dense, linear
from ..net import Net

WIDTH, KEYS = 32, 24


def pooling(*, fused: bool) -> onnx.ModelProto:
    """Attention pooling: logits near 12.5, Exp, ReduceSum, Div (or Softmax), weighted sum of values, dense."""
    net = Net("pool", opset=13, seed=16)
    x = net.input("tokens", [1, KEYS, WIDTH])
    with net.scope("pool"):
        weight = net.normal(WIDTH, 4, scale=0.3 / WIDTH**0.5)
        logits = linear(net, "attn", x, weight, np.full(4, 12.0, np.float32))
        if fused:
            weights = net.op("Softmax", logits, axis=1)
        else:
            powers = net.op("Exp", logits)
            weights = net.op("Div", powers, net.reduce("ReduceSum", powers, [1]))
        values = net.op("Relu", dense(net, "value", x, WIDTH, WIDTH, bias=1.0))
        pooled = net.op("MatMul", net.op("Transpose", weights, perm=[0, 2, 1]), values)
        out = dense(net, "proj", pooled, WIDTH, 16)
    net.output("pooled", out, [1, 4, 16])
    return net.model()


def energy(*, shifted: bool) -> onnx.ModelProto:
    """The free energy of a classifier: Log(ReduceSum(Exp(logits))), or the same shifted by the maximum."""
    net = Net("energy", opset=13, seed=17)
    x = net.input("features", [8, WIDTH])
    with net.scope("head"):
        logits = dense(net, "fc", x, WIDTH, 20, gain=5.0, bias=1.0)
        top = net.reduce("ReduceMax", logits, [1]) if shifted else logits
        powers = net.op("Exp", net.op("Sub", logits, top) if shifted else logits)
        total = net.op("Log", net.reduce("ReduceSum", powers, [1]))
        score = net.op("Neg", net.op("Add", total, top) if shifted else total)
    net.output("energy", score, [8, 1])
    return net.model()


def variance_head(*, fused: bool) -> onnx.ModelProto:
    """A softplus written as Log(1 + Exp(x)) on a head whose logits pass 20, then a dense layer."""
    net = Net("head", opset=13, seed=18)
    x = net.input("features", [8, WIDTH])
    with net.scope("sigma"):
        raw = dense(net, "fc1", x, WIDTH, WIDTH, gain=6.0, bias=1.0)
        soft = net.op("Softplus", raw) if fused else net.op("Log", net.op("Add", net.op("Exp", raw), 1.0))
        out = dense(net, "fc2", soft, WIDTH, 4)
    net.output("sigma", out, [8, 4])
    return net.model()


def features() -> list[Feeds]:
    """Feature rows of the order 1."""
    return normal("features", (8, WIDTH), seed=81)


CASES = (
    Case(
        name="exponential-softmax-written-out",
        classes=(8,),
        build=lambda: pooling(fused=False),
        samples=lambda: normal("tokens", (1, KEYS, WIDTH), seed=80),
        free=True,
        witness=lambda: pooling(fused=True),
        note="exp(12.5) / sum: inf / inf. Softmax itself is shifted by the maximum inside.",
    ),
    Case(
        name="exponential-logsumexp-written-out",
        classes=(8,),
        build=lambda: energy(shifted=False),
        samples=features,
        free=True,
        witness=lambda: energy(shifted=True),
        note="log(sum(exp(x))) of logits past 11.09 is inf.",
    ),
    Case(
        name="exponential-softplus-written-out",
        classes=(8,),
        build=lambda: variance_head(fused=False),
        samples=features,
        free=True,
        witness=lambda: variance_head(fused=True),
        note="log(1 + exp(x)) past 11.09 is inf where the answer is x.",
    ),
)
