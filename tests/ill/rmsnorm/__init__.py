"""Class 3: RMSNorm over a stream with massive activations; the square of one channel overflows."""

from __future__ import annotations

from functools import partial

import onnx

from ..case import Case, Feeds, normal, scaled
from ..fragments import dense, rms_norm, silu
from ..net import Net

WIDTH, LENGTH, MASSIVE = 64, 16, 2000.0


def decoder(down: int, eps: float, *, layers: int = 2) -> onnx.ModelProto:
    """Embedded tokens plus a massive activation at the first one, residual SwiGLU layers, RMSNorm and a head; the stream times 2^-down."""
    net = Net("decoder", opset=14, seed=5)
    x = net.input("inputs_embeds", [1, LENGTH, WIDTH])
    sink = net.normal(1, LENGTH, WIDTH, scale=0.1)
    sink[0, 0, 7] = MASSIVE
    with net.scope("model"):
        projected = dense(net, "embed_proj", x, WIDTH, WIDTH, gain=2.0**-down)
        stream = net.op("Add", projected, net.weight("sink", sink * 2.0**-down))
        for index in range(layers):
            with net.scope(f"layers.{index}"):
                normed = rms_norm(net, "post_attention_layernorm", stream, WIDTH, eps)
                gate = silu(net, "mlp/act_fn", dense(net, "mlp/gate_proj", normed, WIDTH, 2 * WIDTH))
                product = net.op("Mul", gate, dense(net, "mlp/up_proj", normed, WIDTH, 2 * WIDTH))
                stream = net.op("Add", stream, dense(net, "mlp/down_proj", product, 2 * WIDTH, WIDTH, gain=2.0**-down))
        out = dense(net, "lm_head", rms_norm(net, "norm", stream, WIDTH, eps), WIDTH, 32)
    net.output("logits", out, [1, LENGTH, 32])
    return net.model()


def t5_norm(down: int, eps: float) -> onnx.ModelProto:
    """T5's own form, x / Sqrt(mean(Mul(x, x)) + eps), read by two layers; the stream times 2^-down."""
    net = Net("encoder", opset=13, seed=6)
    x = net.input("hidden_states", [1, LENGTH, WIDTH])
    with net.scope("encoder/block.0"):
        stream = dense(net, "wo", x, WIDTH, WIDTH, gain=600 * 2.0**-down)
        with net.scope("layer_norm"):
            mean = net.reduce("ReduceMean", net.op("Mul", stream, stream), [-1])
            unit = net.op("Div", stream, net.op("Sqrt", net.op("Add", mean, eps)))
            normed = net.op("Mul", unit, net.weight("weight", 1 + net.normal(WIDTH, scale=0.2)))
        keys = dense(net, "SelfAttention/k", normed, WIDTH, 32)
        values = net.op("Relu", dense(net, "SelfAttention/v", normed, WIDTH, 32))
    net.output("keys", keys, [1, LENGTH, 32])
    net.output("values", values, [1, LENGTH, 32])
    return net.model()


def embeds() -> list[Feeds]:
    """Token embeddings of the order 1."""
    return normal("inputs_embeds", (1, LENGTH, WIDTH), seed=30)


CASES = (
    Case(
        name="rmsnorm-massive",
        classes=(3,),
        build=partial(decoder, 0, 1e-6),
        samples=embeds,
        held_out=lambda: scaled(embeds(), 4.0),
        free=True,
        witness=partial(decoder, 5, 1e-6 * 4.0**-5),
        note="One channel of the first token is 2000, as in Llama-like models: its square is inf and the whole token vanishes.",
    ),
    Case(
        name="rmsnorm-div-mul-form",
        classes=(3,),
        build=partial(t5_norm, 0, 1e-6),
        samples=lambda: normal("hidden_states", (1, LENGTH, WIDTH), seed=31),
        free=True,
        witness=partial(t5_norm, 9, 1e-6 * 4.0**-9),
        note="x / sqrt(mean(x·x) + eps) over a stream of the order 600; two outputs.",
    ),
)
