"""Class 22: a CNN and Transformer detector whose boxes are off by units while autocast, which keeps norms in FP32, is fine."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from ..case import Case, Feeds, images
from ..fragments import conv_random, dense, heads, layer_norm, merge
from ..net import Net

SIZE, WIDTH, TOKENS, QUERIES, HEADS = 32, 32, 16, 4, 2


def attention(net: Net, path: str, query: str, memory: str, lengths: tuple[int, int], gain: float) -> str:
    """Multi-head attention from `query` to `memory`; its output projection has `gain`."""
    depth = WIDTH // HEADS
    with net.scope(path):
        q = heads(net, "q", dense(net, "q_proj", query, WIDTH, WIDTH, gain=depth**-0.5), lengths[0], HEADS, depth)
        k = heads(net, "k", dense(net, "k_proj", memory, WIDTH, WIDTH), lengths[1], HEADS, depth, key=True)
        v = heads(net, "v", dense(net, "v_proj", memory, WIDTH, WIDTH), lengths[1], HEADS, depth)
        weights = net.op("Softmax", net.op("MatMul", q, k), axis=-1)
        context = merge(net, "out", net.op("MatMul", weights, v), lengths[0], WIDTH)
        return dense(net, "out_proj", context, WIDTH, WIDTH, gain=gain)


def backbone(net: Net, x: str, gain: float) -> str:
    """Three stride-2 stages by MaxPool, flattened to tokens plus a position encoding: [1, TOKENS, WIDTH], with `gain`."""
    channels = (3, 16, 24, WIDTH)
    for index in range(3):
        stage = conv_random(net, f"backbone/layer{index}/conv", x, channels[index], channels[index + 1], 3, gain=1.4, bias=0.1)
        x = net.op("MaxPool", net.op("Relu", stage), kernel_shape=[2, 2], strides=[2, 2])
    flat = net.op("Transpose", net.op("Reshape", x, np.asarray([1, WIDTH, TOKENS], np.int64)), perm=[0, 2, 1])
    tokens = dense(net, "input_proj", flat, WIDTH, WIDTH, gain=2 * gain)
    return net.op("Add", tokens, net.weight("pos_embed", net.normal(1, TOKENS, WIDTH, scale=gain)))


def detector(shift: int, eps: float) -> onnx.ModelProto:
    """Backbone, encoder layer and cross-attending queries with norms written out; logits and boxes (x1, y1, x2, y2) in pixels of 128."""
    net = Net("detr", opset=13, seed=50)
    x, gain = net.input("images", [1, 3, SIZE, SIZE]), 0.9 * 2.0**shift
    tokens = backbone(net, x, gain)
    with net.scope("encoder/layers.0"):
        normed = layer_norm(net, "norm1", tokens, WIDTH, eps)
        stream = net.op("Add", tokens, attention(net, "self_attn", normed, normed, (TOKENS, TOKENS), gain))
        inner = net.op("Relu", dense(net, "linear1", layer_norm(net, "norm2", stream, WIDTH, eps), WIDTH, 2 * WIDTH))
        stream = net.op("Add", stream, dense(net, "linear2", inner, 2 * WIDTH, WIDTH, gain=gain))
        memory = layer_norm(net, "norm3", stream, WIDTH, eps)
    with net.scope("decoder/layers.0"):
        queries = net.weight("query_embed", net.normal(1, QUERIES, WIDTH))
        found = attention(net, "cross_attn", queries, memory, (QUERIES, TOKENS), 3.0)
        hidden = layer_norm(net, "norm", net.op("Add", queries, found), WIDTH, 1e-5)
    corners(net, hidden)
    net.output("logits", dense(net, "class_embed", hidden, WIDTH, 11), [1, QUERIES, 11])
    return net.model()


def corners(net: Net, hidden: str) -> None:
    """The box head: Sigmoid(cx, cy, w, h) · 128, then corners; the graph output `boxes`."""
    with net.scope("bbox_embed"):
        inner = net.op("Relu", dense(net, "layers.0", hidden, WIDTH, WIDTH))
        pixels = net.op("Mul", net.op("Sigmoid", dense(net, "layers.1", inner, WIDTH, 4)), 128.0)
        centre, size = (net.op("Slice", pixels, *(np.asarray([each], np.int64) for each in (start, start + 2, 2))) for start in (0, 2))
        half = net.op("Mul", size, 0.5)
        boxes = net.op("Concat", net.op("Sub", centre, half), net.op("Add", centre, half), axis=-1)
    net.output("boxes", boxes, [1, QUERIES, 4])


def scenes() -> list[Feeds]:
    """Small pictures in [0, 1]."""
    return images("images", (1, 3, SIZE, SIZE), seed=220)


CASES = (
    Case(
        name="detector-boxes-off",
        classes=(22, 1, 4),
        build=partial(detector, 6, 1e-5),
        samples=scenes,
        free=True,
        witness=partial(detector, 0, 1e-5 * 4.0**-6),
        note="Some variances are inf, those tokens become the norm's bias, and the boxes are finite and off by units.",
    ),
)
