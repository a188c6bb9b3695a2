"""Class 16: weights outside FP16, next to neighbours that could share the load; BatchNorm with a tiny variance."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from ..case import Case, Feeds, images, normal
from ..fragments import conv_random, dense
from ..net import Net

SIZE, CHANNELS, WIDTH = 16, 16, 64


def batch_norm(net: Net, path: str, x: str, down: int) -> str:
    """BatchNormalization with a running variance of 1e-8 to 1e-6 and an eps of 1e-9, both times 4^-down (and the mean times 2^-down)."""
    with net.scope(path):
        gamma, beta = 1 + net.normal(CHANNELS, scale=0.2), net.normal(CHANNELS, scale=0.2)
        deviation = 10 ** net.rng.uniform(-4, -3, CHANNELS)
        mean = 0.5 * deviation * net.rng.standard_normal(CHANNELS)
        named = {"weight": gamma, "bias": beta, "running_mean": mean * 2.0**-down, "running_var": deviation**2 * 4.0**-down}
        return net.op("BatchNormalization", x, *(net.weight(leaf, value) for leaf, value in named.items()), epsilon=1e-9 * 4.0**-down)


def tiny_variance(down: int, *, activation_first: bool) -> onnx.ModelProto:
    """Conv of the order 1e-3·2^-down, (ReLU,) BatchNormalization, ReLU, Conv."""
    net = Net("resnet", opset=14, seed=36)
    x = net.input("images", [1, 3, SIZE, SIZE])
    with net.scope("layer1.0"):
        inner = conv_random(net, "conv1", x, 3, CHANNELS, 3, gain=1e-3 * 2.0**-down, bias=1e-4 * 2.0**-down)
        inner = net.op("Relu", inner) if activation_first else inner
        normed = net.op("Relu", batch_norm(net, "bn1", inner, down))
        out = conv_random(net, "conv2", normed, CHANNELS, 8, 3, gain=0.3, bias=0.1)
    net.output("features", out, [1, 8, SIZE, SIZE])
    return net.model()


def huge(down: int) -> onnx.ModelProto:
    """fc1 with tiny weights, ReLU, fc2 with weights past 65504 (times 2^-down; fc1 times 2^down), a last layer."""
    net = Net("mlp", opset=13, seed=37)
    x = net.input("features", [4, WIDTH])
    with net.scope("mlp"):
        inner = net.op("Relu", dense(net, "fc1", x, WIDTH, WIDTH, gain=2.0 ** (down - 19), bias=2.0 ** (down - 19)))
        second = net.op("Relu", dense(net, "fc2", inner, WIDTH, WIDTH, gain=2.0 ** (19 - down), bias=0.1))
        out = dense(net, "fc3", second, WIDTH, 10, bias=0.1)
    net.output("logits", out, [4, 10])
    return net.model()


def subnormal(up: int) -> onnx.ModelProto:
    """A first Conv with 1/8 and 1/65535 folded into its weights (times 2^up), LeakyReLU, a Conv (times 2^-up), GlobalAveragePool, dense."""
    net = Net("sensor", opset=13, seed=38)
    x = net.input("counts", [1, 1, SIZE, SIZE])
    with net.scope("net"):
        inner = conv_random(net, "0", x, 1, CHANNELS, 3, gain=2.0 ** (up - 3) / 65535, bias=0.1 * 2.0 ** (up - 3))
        active = net.op("LeakyRelu", inner, alpha=0.1)
        second = net.op("Relu", conv_random(net, "2", active, CHANNELS, CHANNELS, 3, gain=2.0 ** (3 - up)))
        pooled = net.op("Flatten", net.op("GlobalAveragePool", second), axis=1)
        out = dense(net, "4", pooled, CHANNELS, 8, gain=4.0)
    net.output("logits", out, [1, 8])
    return net.model()


def pictures() -> list[Feeds]:
    """Small pictures in [0, 1]."""
    return images("images", (1, 3, SIZE, SIZE), seed=160)


def counts() -> list[Feeds]:
    """Sensor counts from 0 to 60000."""
    return [{"counts": np.round(60000 * feeds["counts"])} for feeds in images("counts", (1, 1, SIZE, SIZE), seed=161)]


CASES = (
    Case(
        name="weights-conv-bn-tiny-variance",
        classes=(16,),
        build=partial(tiny_variance, 0, activation_first=False),
        samples=pictures,
        free=True,
        witness=partial(tiny_variance, -10, activation_first=False),
        note="running_var of 1e-8 to 1e-6 is subnormal or zero in FP16; folding or one exponent cures it (#2838).",
    ),
    Case(
        name="weights-relu-bn-tiny-variance",
        classes=(16,),
        build=partial(tiny_variance, 0, activation_first=True),
        samples=pictures,
        free=True,
        witness=partial(tiny_variance, -10, activation_first=True),
        note="The same behind a ReLU, where the norm cannot be folded backwards.",
    ),
    Case(
        name="weights-huge-after-tiny",
        classes=(16,),
        build=partial(huge, 0),
        samples=lambda: normal("features", (4, WIDTH), seed=162),
        free=True,
        witness=partial(huge, 19),
        note="Weights of 1e5 become inf, those before them subnormal: two neighbours that belong 19 octaves closer (#3224).",
    ),
    Case(
        name="weights-subnormal-first-conv",
        classes=(16,),
        build=partial(subnormal, 0),
        samples=counts,
        free=True,
        witness=partial(subnormal, 11),
        note="1/65535 folded into the first convolution makes its weights subnormal: one to six bits are left of each.",
    ),
)
