"""Class 21: graphs that are already mixed: islands and casts put there by the user, to be respected."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from ..case import Case, images, normal
from ..fragments import conv, conv_random, gelu, layer_norm
from ..net import FLOAT, HALF, Net

SIZE, CHANNELS, WIDTH, LENGTH = 16, 16, 32, 12


def island(shift: int, eps: float) -> onnx.ModelProto:
    """An FP32 graph whose first two Convs the user put in FP16 by Casts; behind it a LayerNorm2d written out over values of 2^shift."""
    net = Net("mixed", opset=14, seed=48)
    x = net.input("images", [1, 3, SIZE, SIZE])
    with net.scope("stem"):
        narrow = net.op("Cast", x, to=HALF)
        first = net.op("Relu", conv(net, "0", narrow, net.normal(CHANNELS, 3, 3, 3, scale=0.2).astype(np.float16)))
        second = conv(net, "2", first, net.normal(CHANNELS, CHANNELS, 3, 3, scale=0.1).astype(np.float16))
        wide = net.op("Cast", second, to=FLOAT)
    with net.scope("stage"):
        stream = conv_random(net, "proj", wide, CHANNELS, CHANNELS, 1, gain=2.0**shift, bias=2.0**shift)
        normed = layer_norm(net, "norm", stream, CHANNELS, eps, axis=1)
        out = conv_random(net, "head", gelu(net, "act", normed), CHANNELS, 4, 1, bias=0.1)
    net.output("features", out, [1, 4, SIZE, SIZE])
    return net.model()


def half_export() -> onnx.ModelProto:
    """A model exported in half precision whose RMSNorms the author upcasts to FP32; right as it is, wrong without its Casts."""
    net = Net("llama_half", opset=14, seed=49)
    x = net.input("inputs_embeds", [1, LENGTH, WIDTH])
    with net.scope("model"):
        stream = net.op("MatMul", net.op("Cast", x, to=HALF), half_weight(net, "embed", WIDTH, WIDTH, 500.0))
        for index in range(2):
            with net.scope(f"layers.{index}"):
                inner = net.op("MatMul", upcast_norm(net, "input_layernorm", stream), half_weight(net, "up_proj", WIDTH, 2 * WIDTH, 1.0))
                update = net.op("MatMul", net.op("Relu", inner), half_weight(net, "down_proj", 2 * WIDTH, WIDTH, 500.0))
                stream = net.op("Add", stream, update)
        logits = net.op("MatMul", upcast_norm(net, "norm", stream), half_weight(net, "lm_head", WIDTH, 16, 1.0))
        out = net.op("Cast", logits, to=FLOAT)
    net.output("logits", out, [1, LENGTH, 16])
    return net.model()


def half_weight(net: Net, path: str, width_in: int, width_out: int, gain: float) -> str:
    """Random FP16 weights [in, out]."""
    with net.scope(path):
        return net.weight("weight", net.normal(width_in, width_out, scale=gain / width_in**0.5).astype(np.float16))


def upcast_norm(net: Net, path: str, x: str) -> str:
    """LlamaRMSNorm in half precision: Cast to FLOAT, Pow, ReduceMean, Add, Sqrt, Div, Mul, Cast to FLOAT16, Mul."""
    with net.scope(path):
        wide = net.op("Cast", x, to=FLOAT)
        mean = net.reduce("ReduceMean", net.op("Pow", wide, 2.0), [-1])
        unit = net.op("Mul", wide, net.op("Div", 1.0, net.op("Sqrt", net.op("Add", mean, 1e-6))))
        weight = net.weight("weight", (1 + net.normal(WIDTH, scale=0.2)).astype(np.float16))
        return net.op("Mul", weight, net.op("Cast", unit, to=HALF))


CASES = (
    Case(
        name="mixed-user-fp16-island",
        classes=(21, 2),
        build=partial(island, 9, 1e-6),
        samples=lambda: images("images", (1, 3, SIZE, SIZE), seed=210),
        free=True,
        witness=partial(island, 0, 1e-6 * 4.0**-9),
        note="The user's own FP16 island must stay one; the FP32 part behind it holds an overflowing norm (#3413).",
    ),
    Case(
        name="mixed-half-export-upcast-norm",
        classes=(21, 3),
        build=half_export,
        samples=lambda: normal("inputs_embeds", (1, LENGTH, WIDTH), seed=211),
        note="Half weights and FP32 norms by the author's Casts: deleting those Casts makes every norm return zero.",
    ),
)
