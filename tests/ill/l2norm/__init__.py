"""Class 11: L2-normalisation and cosine heads; squares overflow or vanish, and an eps of 1e-12 is zero."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from ..case import Case, Feeds, normal
from ..fragments import dense
from ..net import Net

ROWS, WIDTH, CLASSES = 8, 64, 16


def normalise(shift: int, eps: float, *, square: str = "Mul") -> onnx.ModelProto:
    """dense of the order 2^shift, x / max(sqrt(sum x²), eps), dense: F.normalize written out."""
    net = Net("embedder", opset=13, seed=23)
    x = net.input("features", [ROWS, WIDTH])
    with net.scope("embedder"):
        raw = dense(net, "fc", x, WIDTH, WIDTH, gain=2.0**shift)
        with net.scope("normalize"):
            squared = net.op("Mul", raw, raw) if square == "Mul" else net.op("Pow", raw, 2.0)
            norm = net.op("Sqrt", net.reduce("ReduceSum", squared, [1]))
            unit = net.op("Div", raw, net.op("Max", norm, eps))
        out = dense(net, "prototypes", unit, WIDTH, CLASSES, gain=8.0)
    net.output("logits", out, [ROWS, CLASSES])
    return net.model()


def padded(eps: float) -> onnx.ModelProto:
    """F.normalize as exported with ReduceL2, Clip, Expand and Div, over rows of which some are zero, then dense."""
    net = Net("matcher", opset=13, seed=24)
    x = net.input("descriptors", [1, ROWS, WIDTH])
    with net.scope("matcher"):
        raw = net.op("Relu", dense(net, "proj", x, WIDTH, WIDTH))
        norm = net.reduce("ReduceL2", raw, [2])
        clipped = net.op("Clip", norm, eps)
        shape = net.op("Shape", raw)
        unit = net.op("Div", raw, net.op("Expand", clipped, shape))
        out = dense(net, "head", unit, WIDTH, CLASSES, gain=4.0, bias=0.5)
    net.output("scores", out, [1, ROWS, CLASSES])
    return net.model()


def cosine(down: int, eps: float) -> onnx.ModelProto:
    """Cosine similarity a·b / (|a| |b| + eps) of two towers of the order 100·2^-down, then a temperature."""
    net = Net("two_tower", opset=13, seed=25)
    x, y = net.input("user", [ROWS, WIDTH]), net.input("item", [ROWS, WIDTH])
    with net.scope("tower"):
        left = dense(net, "user", x, WIDTH, WIDTH, gain=100 * 2.0**-down, bias=100 * 2.0**-down)
        right = dense(net, "item", y, WIDTH, WIDTH, gain=100 * 2.0**-down, bias=100 * 2.0**-down)
        dot = net.reduce("ReduceSum", net.op("Mul", left, right), [1])
        sizes = [net.op("Sqrt", net.reduce("ReduceSum", net.op("Mul", each, each), [1])) for each in (left, right)]
        similarity = net.op("Div", dot, net.op("Add", net.op("Mul", *sizes), eps))
        out = net.op("Mul", similarity, net.weight("temperature", 14.0))
    net.output("similarity", out, [ROWS, 1])
    return net.model()


def features() -> list[Feeds]:
    """Feature rows of the order 1."""
    return normal("features", (ROWS, WIDTH), seed=110)


def descriptors() -> list[Feeds]:
    """Descriptors of the order 1 with one to four empty (padded) rows at the end."""
    samples = normal("descriptors", (1, ROWS, WIDTH), seed=111)
    for index, feeds in enumerate(samples):
        feeds["descriptors"][0, ROWS - 1 - index :] = 0.0
    return samples


def towers() -> list[Feeds]:
    """Two inputs of the order 1 that have something in common."""
    rng = np.random.default_rng(112)
    users = [rng.standard_normal((ROWS, WIDTH)).astype(np.float32) for _ in range(4)]
    return [{"user": user, "item": (user + 0.5 * rng.standard_normal(user.shape)).astype(np.float32)} for user in users]


CASES = (
    Case(
        name="l2norm-overflow",
        classes=(11,),
        build=partial(normalise, 9, 1e-12),
        samples=features,
        free=True,
        witness=partial(normalise, 0, 1e-12 * 2.0**-9),
        note="Features of the order 500: their squares are inf and every unit vector is zero (#1954).",
    ),
    Case(
        name="l2norm-underflow",
        classes=(11, 12),
        build=partial(normalise, -14, 1e-12, square="Pow"),
        samples=features,
        free=True,
        witness=partial(normalise, 0, 1e-12 * 2.0**14, square="Pow"),
        note="Features of the order 1e-4: their squares are zero, the eps is zero, and x / 0 is inf.",
    ),
    Case(
        name="l2norm-zero-rows",
        classes=(11, 12),
        build=partial(padded, 1e-12),
        samples=descriptors,
        free=True,
        witness=partial(padded, 2.0**-24),
        note="An empty row is 0 / max(0, 1e-12): zero in FP32, 0 / 0 in FP16 unless the eps is raised to 2^-24.",
    ),
    Case(
        name="l2norm-cosine-head",
        classes=(11,),
        build=partial(cosine, 0, 1e-8),
        samples=towers,
        free=True,
        witness=partial(cosine, 7, 1e-8 * 4.0**-7),
        note="Norms near 1100 each: the dot product and the product of the norms are both inf.",
    ),
)
