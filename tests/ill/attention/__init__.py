"""Class 7: query times key leaves FP16 before the scale brings it back."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from ..case import Case, Feeds
from ..fragments import dense, heads, linear, merge
from ..net import Array, Net

WIDTH, LENGTH, HEADS, DEPTH = 32, 16, 2, 16
SINK, GAIN = 30.0, 12.0
"""What input channel 0 holds at the sink token, and its weight into channel 0 of every head's query and key: (30 · 12)² = 129600."""


def projection(net: Net, *, scale: float, sink: float) -> Array:
    """Weights [WIDTH, WIDTH] in which input channel 0 goes to channel 0 of each head alone, with `sink`; all times `scale`."""
    weight = net.normal(WIDTH, WIDTH, scale=WIDTH**-0.5)
    weight[0, :] = 0.0
    weight[0, ::DEPTH] = sink
    return weight * np.float32(scale)


def self_attention(query_scale: float, score_scale: float, *, kind: str, opset: int) -> onnx.ModelProto:
    """Self-attention without mask; the query weights carry `query_scale`, the scores are multiplied (kind Mul) or divided (Div)."""
    net = Net("attention", opset=opset, seed=14)
    x = net.input("hidden_states", [1, LENGTH, WIDTH])
    with net.scope("blocks.0/attn1"):
        query = linear(net, "to_q", x, projection(net, scale=query_scale, sink=GAIN))
        key = linear(net, "to_k", x, projection(net, scale=1.0, sink=GAIN))
        value = heads(net, "v", dense(net, "to_v", x, WIDTH, WIDTH), LENGTH, HEADS, DEPTH)
        split = heads(net, "q", query, LENGTH, HEADS, DEPTH)
        scores = net.op("MatMul", split, heads(net, "k", key, LENGTH, HEADS, DEPTH, key=True))
        weights = net.op("Softmax", net.op(kind, scores, score_scale), axis=-1)
        context = merge(net, "out", net.op("MatMul", weights, value), LENGTH, WIDTH)
        out = dense(net, "to_out.0", context, WIDTH, WIDTH, bias=0.1)
    net.output("sample", out, [1, LENGTH, WIDTH])
    return net.model()


def einsum(query_scale: float) -> onnx.ModelProto:
    """The same as einsum(q, k) · d^-0.5 with q and k [heads, length, depth], as old diffusion code has it."""
    net = Net("attention", opset=13, seed=15)
    x = net.input("hidden_states", [1, LENGTH, WIDTH])
    with net.scope("attn"):
        parts = {
            "to_q": linear(net, "to_q", x, projection(net, scale=query_scale, sink=GAIN)),
            "to_k": linear(net, "to_k", x, projection(net, scale=1.0, sink=GAIN)),
            "to_v": dense(net, "to_v", x, WIDTH, WIDTH),
        }
        query, key, value = (heads(net, name, tensor, LENGTH, HEADS, DEPTH) for name, tensor in parts.items())
        scores = net.op("Mul", net.op("Einsum", query, key, equation="bhid,bhjd->bhij"), DEPTH**-0.5 / query_scale)
        context = net.op("Einsum", net.op("Softmax", scores, axis=-1), value, equation="bhij,bhjd->bhid")
        out = dense(net, "to_out", merge(net, "out", context, LENGTH, WIDTH), WIDTH, WIDTH, bias=0.1)
    net.output("sample", out, [1, LENGTH, WIDTH])
    return net.model()


def sinks() -> list[Feeds]:
    """Tokens of the order 1, with channel 0 empty but for one sink token a sample."""
    rng = np.random.default_rng(70)
    found = []
    for index in range(4):
        x = rng.standard_normal((1, LENGTH, WIDTH)).astype(np.float32)
        x[..., 0] = 0.0
        x[0, 3 * index, 0] = SINK
        found.append({"hidden_states": x})
    return found


CASES = (
    Case(
        name="attention-scale-after-product",
        classes=(7,),
        build=partial(self_attention, 1.0, 0.25, kind="Mul", opset=14),
        samples=sinks,
        free=True,
        witness=partial(self_attention, 0.25, 1.0, kind="Mul", opset=14),
        note="A sink token's q·k is 129600 before the scale of 1/4: +inf, then inf - inf in the softmax (SD 2.1: #3145, diffusers#1614).",
    ),
    Case(
        name="attention-div-after-product",
        classes=(7,),
        build=partial(self_attention, 1.0, 4.0, kind="Div", opset=17),
        samples=sinks,
        free=True,
        witness=partial(self_attention, 0.25, 1.0, kind="Div", opset=17),
        note="The same with a Div by sqrt(d) behind the product (DINOv3, #4723).",
    ),
    Case(
        name="attention-einsum",
        classes=(7,),
        build=partial(einsum, 1.0),
        samples=sinks,
        free=True,
        witness=partial(einsum, 0.25),
        note="The same as Einsum, with the scale after it.",
    ),
)
