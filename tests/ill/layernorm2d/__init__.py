"""Class 2: LayerNorm over the channels of a feature map, which no fuser takes for a norm."""

from __future__ import annotations

from functools import partial

import onnx

from ..case import Case, Feeds, images
from ..fragments import conv_random, gelu, layer_norm
from ..net import Net

CHANNELS, SIZE = 24, 16


def downsample(shift: int, eps: float) -> onnx.ModelProto:
    """Conv stem, LayerNorm2d over axis 1, Conv, GELU, Conv: ConvNeXt's downsampling; the stem's output is of the order 2^shift."""
    net = Net("backbone", opset=16, seed=3)
    x = net.input("images", [1, 3, SIZE, SIZE])
    with net.scope("backbone"):
        stem = conv_random(net, "downsample_layers.0/0", x, 3, CHANNELS, 3, gain=2.0**shift, bias=0.5 * 2.0**shift)
        normed = layer_norm(net, "downsample_layers.1/0", stem, CHANNELS, eps, axis=1)
        inner = gelu(net, "act", conv_random(net, "downsample_layers.1/1", normed, CHANNELS, CHANNELS, 3, bias=0.1))
        out = conv_random(net, "head", inner, CHANNELS, 8, 1, bias=0.1)
    net.output("features", out, [1, 8, SIZE, SIZE])
    return net.model()


def transposed(shift: int, eps: float) -> onnx.ModelProto:
    """The same norm between two Transposes, over the last axis: a permute-based LayerNorm2d."""
    net = Net("neck", opset=13, seed=4)
    x = net.input("images", [1, 3, SIZE, SIZE])
    with net.scope("neck"):
        stem = conv_random(net, "0", x, 3, CHANNELS, 3, gain=2.0**shift, bias=0.5 * 2.0**shift)
        last = net.op("Transpose", stem, perm=[0, 2, 3, 1])
        normed = net.op("Transpose", layer_norm(net, "1", last, CHANNELS, eps, square="Mul"), perm=[0, 3, 1, 2])
        out = conv_random(net, "2", normed, CHANNELS, 8, 3, bias=0.1)
    net.output("features", out, [1, 8, SIZE, SIZE])
    return net.model()


def pictures() -> list[Feeds]:
    """Small pictures in [0, 1]."""
    return images("images", (1, 3, SIZE, SIZE), seed=20)


CASES = (
    Case(
        name="layernorm2d-channel-first",
        classes=(2,),
        build=partial(downsample, 10, 1e-6),
        samples=pictures,
        free=True,
        witness=partial(downsample, 0, 1e-6 * 4.0**-10),
        note="ReduceMean over axis 1 and weights [C, 1, 1]: the square overflows (rf-detr#176, #352).",
    ),
    Case(
        name="layernorm2d-transposed",
        classes=(2, 1),
        build=partial(transposed, 10, 1e-6),
        samples=pictures,
        free=True,
        witness=partial(transposed, 0, 1e-6 * 4.0**-10),
        note="The permute form of the same norm (SAM's neck, efficientvit#142).",
    ),
)
