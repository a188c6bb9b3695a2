"""Class 6: attention masks written as huge negative literals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx

from ..case import Case, Feeds
from ..fragments import dense, heads, merge
from ..net import FLOAT, INT64, Net

WIDTH, LENGTH, HEADS = 32, 12, 2
LOWEST = float(np.finfo(np.float32).min)
Masking = Callable[[Net, str, str], str]
"""(net, scores, attention_mask) to masked scores."""


def attention(masking: Masking, *, opset: int = 14) -> onnx.ModelProto:
    """Self-attention over hidden_states with an attention_mask of ones and zeros, masked by `masking`."""
    net = Net("attention", opset=opset, seed=13)
    x, mask = net.input("hidden_states", [1, LENGTH, WIDTH]), net.input("attention_mask", [1, LENGTH], INT64)
    with net.scope("encoder/layer.0/attention"):
        projected = {part: dense(net, f"self/{part}", x, WIDTH, WIDTH, bias=0.1) for part in ("query", "key", "value")}
        query = heads(net, "self", projected["query"], LENGTH, HEADS, WIDTH // HEADS)
        key = heads(net, "self", projected["key"], LENGTH, HEADS, WIDTH // HEADS, key=True)
        value = heads(net, "self", projected["value"], LENGTH, HEADS, WIDTH // HEADS)
        scores = net.op("Div", net.op("MatMul", query, key), (WIDTH / HEADS) ** 0.5)
        weights = net.op("Softmax", masking(net, scores, mask), axis=-1)
        context = merge(net, "self", net.op("MatMul", weights, value), LENGTH, WIDTH)
        out = dense(net, "output/dense", context, WIDTH, WIDTH, bias=0.1)
    net.output("last_hidden_state", out, [1, LENGTH, WIDTH])
    return net.model()


def wide_mask(net: Net, mask: str) -> str:
    """[1, length] as [1, 1, 1, length]."""
    return net.op("Unsqueeze", mask, np.asarray([1, 2], np.int64))


def bert(low: float) -> Masking:
    """(1 - mask) · low, added to the scores."""

    def masking(net: Net, scores: str, mask: str) -> str:
        inverted = net.op("Sub", 1.0, net.op("Cast", wide_mask(net, mask), to=FLOAT))
        return net.op("Add", scores, net.op("Mul", inverted, low))

    return masking


def where(low: float) -> Masking:
    """scores plus Where(mask == 0, low, 0)."""

    def masking(net: Net, scores: str, mask: str) -> str:
        hidden = net.op("Equal", wide_mask(net, mask), 0)
        return net.op("Add", scores, net.op("Where", hidden, low, 0.0))

    return masking


def causal_and_padding(low: float) -> Masking:
    """A causal mask and a padding mask, each 0 or low, added one after the other."""

    def masking(net: Net, scores: str, mask: str) -> str:
        future = net.op("Add", scores, np.triu(np.full((1, 1, LENGTH, LENGTH), low, np.float32), 1))
        hidden = net.op("Equal", wide_mask(net, mask), 0)
        return net.op("Add", future, net.op("Where", hidden, low, 0.0))

    return masking


def masked(*kept: slice) -> list[Feeds]:
    """One sample for each slice of tokens kept; the rest is padding."""
    rng = np.random.default_rng(60)
    found: list[Feeds] = []
    for each in kept:
        mask = np.zeros((1, LENGTH), np.int64)
        mask[:, each] = 1
        found.append({"hidden_states": rng.standard_normal((1, LENGTH, WIDTH)).astype(np.float32), "attention_mask": mask})
    return found


RIGHT_PADDED = partial(masked, slice(0, 12), slice(0, 9), slice(0, 5), slice(0, 11))
FULLY_MASKED = partial(masked, slice(0, 0), slice(0, 1))
LEFT_PADDED = partial(masked, slice(3, 12), slice(7, 12))

CASES = (
    Case(
        name="mask-minus-1e9",
        classes=(6,),
        build=partial(attention, bert(-1e9)),
        samples=RIGHT_PADDED,
        held_out=FULLY_MASKED,
        free=True,
        witness=partial(attention, bert(-3e4)),
        note="(1 - mask) · -1e9: the literal becomes -inf and 0 · -inf is NaN for every token that is kept (#2466).",
    ),
    Case(
        name="mask-finfo-min-where",
        classes=(6,),
        build=partial(attention, where(LOWEST)),
        samples=RIGHT_PADDED,
        held_out=FULLY_MASKED,
        free=True,
        witness=partial(attention, where(-3e4)),
        note="finfo.min becomes -inf: harmless while a key is left, NaN for a fully masked row (transformers PR17306).",
    ),
    Case(
        name="mask-causal-plus-padding",
        classes=(6,),
        build=partial(attention, causal_and_padding(-1e9)),
        samples=RIGHT_PADDED,
        held_out=LEFT_PADDED,
        free=True,
        witness=partial(attention, causal_and_padding(-3e4)),
        note="Two masks are added; clamping each to -65504 still gives -inf where both hold, and left padding makes whole rows of it.",
    ),
)
