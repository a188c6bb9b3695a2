"""Class 4: residual streams and feed-forward products that leave FP16, though the norms that read them do not care."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from ..case import Case, Feeds, normal, scaled
from ..fragments import conv, dense, gelu, linear, rms_norm
from ..net import Array, Net

WIDTH, LENGTH = 64, 16


def writer(net: Net, width_in: int, gain: float) -> Array:
    """Weights [width_in, WIDTH] of a layer that writes the stream; two of its channels are four times stronger."""
    weight = net.normal(width_in, WIDTH, scale=gain / width_in**0.5)
    weight[:, [5, 41]] *= 4.0
    return weight


def t5(shift: int, eps: float) -> onnx.ModelProto:
    """Two T5 feed-forward blocks (RMSNorm, wi, ReLU, wo, Add), a last norm and a head; the stream is of the order 2^shift."""
    net = Net("encoder", opset=13, seed=7)
    x = net.input("inputs_embeds", [1, LENGTH, WIDTH])
    with net.scope("encoder"):
        stream = linear(net, "embed_tokens", x, writer(net, WIDTH, 2.0**shift))
        for index in range(2):
            with net.scope(f"block.{index}/layer.1"):
                normed = rms_norm(net, "layer_norm", stream, WIDTH, eps)
                inner = net.op("Relu", dense(net, "DenseReluDense/wi", normed, WIDTH, 2 * WIDTH))
                stream = net.op("Add", stream, linear(net, "DenseReluDense/wo", inner, writer(net, 2 * WIDTH, 2.0**shift)))
        out = dense(net, "head", rms_norm(net, "final_layer_norm", stream, WIDTH, eps), WIDTH, 32)
    net.output("logits", out, [1, LENGTH, 32])
    return net.model()


def vit(shift: int, eps: float) -> onnx.ModelProto:
    """Patch embedding, two MLP blocks with fused LayerNormalization, a last norm and a head; the stream is of the order 2^shift."""
    net = Net("vit", opset=17, seed=8)
    x = net.input("pixel_values", [1, 3, 32, 32])
    with net.scope("vit"):
        patches = conv(net, "embeddings/projection", x, net.normal(WIDTH, 3, 3, 3, scale=0.3 * 2.0**shift), stride=8)
        stream = net.op("Transpose", net.op("Reshape", patches, np.asarray([1, WIDTH, LENGTH], np.int64)), perm=[0, 2, 1])
        for index in range(2):
            with net.scope(f"encoder/layer.{index}"):
                normed = fused_norm(net, "layernorm_after", stream, eps)
                inner = gelu(net, "intermediate/act", dense(net, "intermediate/dense", normed, WIDTH, 2 * WIDTH))
                stream = net.op("Add", linear(net, "output/dense", inner, writer(net, 2 * WIDTH, 2.0**shift)), stream)
        out = dense(net, "classifier", fused_norm(net, "layernorm", stream, eps), WIDTH, 10)
    net.output("logits", out, [1, LENGTH, 10])
    return net.model()


def fused_norm(net: Net, path: str, x: str, eps: float) -> str:
    """LayerNormalization (opset 17) over the last axis."""
    with net.scope(path):
        gamma, beta = net.weight("weight", 1 + net.normal(WIDTH, scale=0.2)), net.weight("bias", net.normal(WIDTH, scale=0.2))
        return net.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=eps)


def swiglu(down: int) -> onnx.ModelProto:
    """silu(gate) times up, both of the order 500, read by a small down projection; up is times 2^-down, down_proj times 2^down."""
    net = Net("mlp", opset=14, seed=9)
    x = net.input("hidden_states", [1, LENGTH, WIDTH])
    with net.scope("model/layers.0/mlp"):
        gate = dense(net, "gate_proj", x, WIDTH, 2 * WIDTH, gain=500.0)
        active = net.op("Mul", gate, net.op("Sigmoid", gate))
        product = net.op("Mul", active, dense(net, "up_proj", x, WIDTH, 2 * WIDTH, gain=500 * 2.0**-down))
        out = dense(net, "down_proj", product, 2 * WIDTH, WIDTH, gain=1e-4 * 2.0**down)
    net.output("last_hidden_state", out, [1, LENGTH, WIDTH])
    return net.model()


def embeds(name: str) -> list[Feeds]:
    """Embeddings of the order 1."""
    return normal(name, (1, LENGTH, WIDTH), seed=40)


CASES = (
    Case(
        name="residual-t5-ffn",
        classes=(4, 3),
        build=partial(t5, 15, 1e-6),
        samples=partial(embeds, "inputs_embeds"),
        held_out=lambda: scaled(embeds("inputs_embeds"), 4.0),
        free=True,
        witness=partial(t5, 2, 1e-6 * 4.0**-13),
        note="wo lifts the stream past 65504; every reader is an RMSNorm, so one exponent cures all of it (transformers#5651, #2922).",
    ),
    Case(
        name="residual-vit-massive",
        classes=(4,),
        build=partial(vit, 15, 1e-12),
        samples=lambda: normal("pixel_values", (1, 3, 32, 32), seed=41),
        free=True,
        witness=partial(vit, 2, 1e-12 * 4.0**-13),
        note="Fused norms, yet their input is inf: massive activations in a ViT's residual stream.",
    ),
    Case(
        name="residual-swiglu-product",
        classes=(4,),
        build=partial(swiglu, 0),
        samples=partial(embeds, "hidden_states"),
        free=True,
        witness=partial(swiglu, 8),
        note="The gated product passes 65504 between two projections that could share the load.",
    ),
)
