"""Class 13: sums over long axes pass 65504 before they are divided."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from ..case import Case, Feeds, images
from ..fragments import conv_random, dense
from ..net import FLOAT, INT64, Net

SIZE, CHANNELS, LENGTH, WIDTH = 64, 8, 4096, 8


def squeeze_excite(*, divide_first: bool) -> onnx.ModelProto:
    """Conv, ReLU, ReduceSum over 64 x 64 then times 1/4096 (or first), two 1x1 layers, Sigmoid, Mul, pooled head."""
    net = Net("mobilenet", opset=13, seed=28)
    x = net.input("images", [1, 3, SIZE, SIZE])
    with net.scope("features.0/block"):
        inner = net.op("Relu", conv_random(net, "0", x, 3, CHANNELS, 3, gain=60.0, bias=20.0))
        with net.scope("avgpool"):
            source = net.op("Mul", inner, SIZE**-2.0) if divide_first else inner
            total = net.reduce("ReduceSum", source, [2, 3])
            mean = total if divide_first else net.op("Mul", total, SIZE**-2.0)
        squeezed = net.op("Relu", conv_random(net, "fc1", mean, CHANNELS, 4, 1, gain=0.03))
        gate = net.op("Sigmoid", conv_random(net, "fc2", squeezed, 4, CHANNELS, 1))
        scaled = net.op("MaxPool", net.op("Mul", inner, gate), kernel_shape=[16, 16], strides=[16, 16])
        out = conv_random(net, "3", scaled, CHANNELS, 4, 1, gain=0.03)
    net.output("features", out, [1, 4, SIZE // 16, SIZE // 16])
    return net.model()


def mean_pooling(down: int, eps: float) -> onnx.ModelProto:
    """Sentence embedding: sum of token vectors under a mask over max(count, eps), dense; the token vectors are times 2^-down."""
    net = Net("sentence", opset=14, seed=29)
    x, mask = net.input("tokens", [1, LENGTH, WIDTH]), net.input("attention_mask", [1, LENGTH], INT64)
    with net.scope("pooling"):
        hidden = dense(net, "dense", x, WIDTH, WIDTH, gain=10 * 2.0**-down, bias=40 * 2.0**-down)
        kept = net.op("Cast", net.op("Unsqueeze", mask, np.asarray([-1], np.int64)), to=FLOAT)
        total = net.reduce("ReduceSum", net.op("Mul", hidden, kept), [1], keepdims=0)
        count = net.op("Clip", net.reduce("ReduceSum", kept, [1], keepdims=0), eps)
        out = dense(net, "proj", net.op("Div", total, count), WIDTH, WIDTH, gain=0.02 * 2.0**down, bias=0.1)
    net.output("sentence_embedding", out, [1, WIDTH])
    return net.model()


def documents() -> list[Feeds]:
    """Long documents: token vectors of the order 1, all or most of them kept."""
    rng = np.random.default_rng(131)
    return [
        {
            "tokens": rng.standard_normal((1, LENGTH, WIDTH)).astype(np.float32),
            "attention_mask": (np.arange(LENGTH) < kept).astype(np.int64)[None],
        }
        for kept in (LENGTH, 4000, 3500, 3100)
    ]


def nothing_kept() -> list[Feeds]:
    """A document that is padding throughout."""
    return [{"tokens": feeds["tokens"], "attention_mask": np.zeros((1, LENGTH), np.int64)} for feeds in documents()[:1]]


CASES = (
    Case(
        name="longsum-squeeze-excite",
        classes=(13,),
        build=lambda: squeeze_excite(divide_first=False),
        samples=lambda: images("images", (1, 3, SIZE, SIZE), seed=130),
        free=True,
        witness=lambda: squeeze_excite(divide_first=True),
        note="A mean written as a sum times 1/4096: the sum of 4096 activations near 30 is inf, and the gate saturates.",
    ),
    Case(
        name="longsum-masked-mean-pooling",
        classes=(13, 12),
        build=partial(mean_pooling, 0, 1e-9),
        samples=documents,
        held_out=nothing_kept,
        free=True,
        witness=partial(mean_pooling, 5, 2.0**-24),
        note="4096 token vectors near 40 are summed before they are divided; on nothing but padding the eps of 1e-9 is zero.",
    ),
)
