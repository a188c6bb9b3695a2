"""Class 1: LayerNorm written out by exporters before opset 17; its squares overflow, or vanish with the eps."""

from __future__ import annotations

from functools import partial

import onnx

from ..case import Case, Feeds, normal, scaled
from ..fragments import dense, gelu, layer_norm
from ..net import Net

WIDTH, LENGTH = 64, 16


def block(shift: int, eps: float, *, opset: int, square: str, affine: bool = True) -> onnx.ModelProto:
    """dense, LayerNorm, dense, GELU, dense; what the norm reads is of the order 2^shift."""
    net = Net("encoder", opset=opset, seed=1)
    x = net.input("hidden_states", [1, LENGTH, WIDTH])
    with net.scope("layers.0"):
        stream = dense(net, "self_attn/out_proj", x, WIDTH, WIDTH, gain=2.0**shift, bias=0.5 * 2.0**shift)
        normed = layer_norm(net, "norm1", stream, WIDTH, eps, square=square, affine=affine)
        inner = gelu(net, "activation", dense(net, "linear1", normed, WIDTH, 2 * WIDTH, bias=0.1))
        out = dense(net, "linear2", inner, 2 * WIDTH, WIDTH, bias=0.1)
    net.output("last_hidden_state", out, [1, LENGTH, WIDTH])
    return net.model()


def moments(shift: int, eps: float) -> onnx.ModelProto:
    """TensorFlow's form, x·(γ/σ) + (β − μ·(γ/σ)), over what a dense layer makes, of the order 2^shift."""
    net = Net("tf2onnx", opset=13, seed=2)
    x = net.input("inputs", [1, LENGTH, WIDTH])
    with net.scope("model"):
        stream = dense(net, "dense", x, WIDTH, WIDTH, gain=2.0**shift, bias=0.5 * 2.0**shift)
        with net.scope("layer_normalization/moments"):
            mean = net.reduce("ReduceMean", stream, [2])
            distance = net.op("Sub", stream, mean)
            variance = net.reduce("ReduceMean", net.op("Mul", distance, distance), [2])
        with net.scope("layer_normalization/batchnorm"):
            root = net.op("Reciprocal", net.op("Sqrt", net.op("Add", variance, eps)))
            factor = net.op("Mul", root, net.weight("gamma", 1 + net.normal(WIDTH, scale=0.2)))
            offset = net.op("Sub", net.weight("beta", net.normal(WIDTH, scale=0.2)), net.op("Mul", mean, factor))
            normed = net.op("Add", net.op("Mul", stream, factor), offset)
        out = dense(net, "dense_1", normed, WIDTH, WIDTH, bias=0.1)
    net.output("outputs", out, [1, LENGTH, WIDTH])
    return net.model()


def hidden_states() -> list[Feeds]:
    """What a residual branch carries: normal, of the order 1."""
    return normal("hidden_states", (1, LENGTH, WIDTH), seed=10)


CASES = (
    Case(
        name="layernorm-pow-opset13",
        classes=(1,),
        build=partial(block, 9, 1e-5, opset=13, square="Pow"),
        samples=hidden_states,
        held_out=lambda: scaled(hidden_states(), 4.0),
        free=True,
        witness=partial(block, 0, 1e-5 * 4.0**-9, opset=13, square="Pow"),
        note="Pow(x - mean, 2) passes 65504, the variance is inf and the norm returns its bias (TensorRT#2564, #2781, #3657).",
    ),
    Case(
        name="layernorm-mul-opset11",
        classes=(1,),
        build=partial(block, 10, 1e-6, opset=11, square="Mul"),
        samples=hidden_states,
        free=True,
        witness=partial(block, 0, 1e-6 * 4.0**-10, opset=11, square="Mul"),
        note="The same with the square as Mul(d, d), as older exporters write it.",
    ),
    Case(
        name="layernorm-no-affine-opset18",
        classes=(1,),
        build=partial(block, 9, 1e-5, opset=18, square="Pow", affine=False),
        samples=hidden_states,
        free=True,
        witness=partial(block, 0, 1e-5 * 4.0**-9, opset=18, square="Pow", affine=False),
        note="Axes as an input (opset 18) and no affine part, as in adaptive norms (DiT).",
    ),
    Case(
        name="layernorm-vanish-eps-1e-12",
        classes=(1, 12),
        build=partial(block, -12, 1e-12, opset=14, square="Pow"),
        samples=hidden_states,
        free=True,
        witness=partial(block, 0, 1e-12 * 4.0**12, opset=14, square="Pow"),
        note="Small activations under BERT's eps of 1e-12: squares and eps both fall below 2^-24 and the norm divides by zero.",
    ),
    Case(
        name="layernorm-tf-moments",
        classes=(1,),
        build=partial(moments, 9, 1e-3),
        samples=lambda: normal("inputs", (1, LENGTH, WIDTH), seed=11),
        free=True,
        witness=partial(moments, 0, 1e-3 * 4.0**-9),
        note="tf2onnx's LayerNormalization (moments and batchnorm): the square overflows, and mean times factor is a second long road.",
    ),
)
