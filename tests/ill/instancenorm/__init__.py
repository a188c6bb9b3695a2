"""Class 10: InstanceNorm over raw values: 16-bit images, depth in millimetres."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from ..case import Case, Feeds, images
from ..fragments import conv_random
from ..net import Net

SIZE, CHANNELS = 16, 16
SHAPE = (1, 1, SIZE, SIZE)


def raw_image(down: int) -> onnx.ModelProto:
    """InstanceNormalization of the image itself, Conv, ReLU, Conv; with `down` the image is first multiplied by 2^-down."""
    net = Net("microscopy", opset=14, seed=21)
    x = net.input("image", SHAPE)
    with net.scope("stem"):
        small = net.op("Mul", x, 2.0**-down) if down else x
        scale, bias = net.weight("norm.weight", np.ones(1)), net.weight("norm.bias", np.zeros(1))
        unit = net.op("InstanceNormalization", small, scale, bias, epsilon=1e-5 * 4.0**-down)
        inner = net.op("Relu", conv_random(net, "conv1", unit, 1, CHANNELS, 3, bias=0.1))
        out = conv_random(net, "conv2", inner, CHANNELS, 4, 3, bias=0.1)
    net.output("features", out, [1, 4, SIZE, SIZE])
    return net.model()


def depth(down: int) -> onnx.ModelProto:
    """An InstanceNorm written out over depth, Conv, ReLU, Conv; with `down` the depth is first multiplied by 2^-down."""
    net = Net("depth", opset=13, seed=22)
    x = net.input("depth_mm", SHAPE)
    with net.scope("encoder"):
        small = net.op("Mul", x, 2.0**-down) if down else x
        with net.scope("norm"):
            centred = net.op("Sub", small, net.reduce("ReduceMean", small, [2, 3]))
            variance = net.reduce("ReduceMean", net.op("Mul", centred, centred), [2, 3])
            unit = net.op("Div", centred, net.op("Sqrt", net.op("Add", variance, 1e-5 * 4.0**-down)))
        inner = net.op("Relu", conv_random(net, "conv1", unit, 1, CHANNELS, 3, bias=0.1))
        out = conv_random(net, "conv2", inner, CHANNELS, 4, 3, bias=0.1)
    net.output("features", out, [1, 4, SIZE, SIZE])
    return net.model()


def sixteen_bit() -> list[Feeds]:
    """Whole numbers from 0 to 65535, with a saturated region, as a 16-bit sensor gives them."""
    samples = [{"image": np.round(feeds["image"] * 65535).astype(np.float32)} for feeds in images("image", SHAPE, seed=100)]
    for index, feeds in enumerate(samples):
        feeds["image"][0, 0, index : index + 4, 2:6] = 65535.0
    return samples


def millimetres() -> list[Feeds]:
    """Depth from 500 to 12500 mm in whole millimetres."""
    return [{"depth_mm": np.round(500 + 12000 * feeds["image"])} for feeds in images("image", SHAPE, seed=101)]


CASES = (
    Case(
        name="instancenorm-16-bit-image",
        classes=(10,),
        build=partial(raw_image, 0),
        samples=sixteen_bit,
        free=True,
        witness=partial(raw_image, 4),
        wide_inputs=("image",),
        note="The saturated pixels of a 16-bit image, 65535, are inf as FP16 inputs (ORT#10079).",
    ),
    Case(
        name="instancenorm-depth-written-out",
        classes=(10,),
        build=partial(depth, 0),
        samples=millimetres,
        free=True,
        witness=partial(depth, 11),
        note="Depth in millimetres fits, its variance does not: the norm returns zero (#2691).",
    ),
)
