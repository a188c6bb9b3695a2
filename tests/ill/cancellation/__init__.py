"""Class 19: the difference of two large, nearly equal values, in which nothing of the answer is left."""

from __future__ import annotations

import numpy as np
import onnx

from ..case import Case, Feeds, normal
from ..fragments import dense, linear
from ..net import Net

FRAMES, WIDTH, POINTS = 200, 16, 24


def statistics_pooling() -> onnx.ModelProto:
    """x-vector pooling: mean and sqrt(max(E[x²] - E[x]², 1e-4)) over time of frames near 30, joined, dense."""
    net = Net("xvector", opset=13, seed=43)
    x = net.input("frames", [1, FRAMES, WIDTH])
    with net.scope("pool"):
        hidden = linear(net, "tdnn", x, net.normal(WIDTH, WIDTH, scale=WIDTH**-0.5), np.full(WIDTH, 30.0, np.float32))
        mean = net.reduce("ReduceMean", hidden, [1], keepdims=0)
        second = net.reduce("ReduceMean", net.op("Mul", hidden, hidden), [1], keepdims=0)
        variance = net.op("Sub", second, net.op("Mul", mean, mean))
        deviation = net.op("Sqrt", net.op("Max", variance, 1e-4))
        out = dense(net, "segment", net.op("Concat", net.op("Sub", mean, 30.0), deviation, axis=1), 2 * WIDTH, 8)
    net.output("embedding", out, [1, 8])
    return net.model()


def pairwise_distance() -> onnx.ModelProto:
    """Point-cloud neighbourhoods: exp(-(|a|² + |b|² - 2 a·b)) of points near (100, 100, 20), row-normalised, times features."""
    net = Net("dgcnn", opset=13, seed=44)
    points, features = net.input("points", [1, POINTS, 3]), net.input("features", [1, POINTS, WIDTH])
    with net.scope("knn"):
        inner = net.op("Mul", net.op("MatMul", points, net.op("Transpose", points, perm=[0, 2, 1])), -2.0)
        squares = net.reduce("ReduceSum", net.op("Mul", points, points), [2])
        distance = net.op("Add", net.op("Add", squares, inner), net.op("Transpose", squares, perm=[0, 2, 1]))
        weights = net.op("Softmax", net.op("Neg", distance), axis=-1)
        out = dense(net, "mlp", net.op("MatMul", weights, features), WIDTH, WIDTH)
    net.output("aggregated", out, [1, POINTS, WIDTH])
    return net.model()


def voxels() -> list[Feeds]:
    """Points on a grid of 1/16 m, which FP16 holds exactly, within 2 m of (100, 100, 20); features of the order 1."""
    rng = np.random.default_rng(191)
    found = []
    for feeds in normal("features", (1, POINTS, WIDTH), seed=192):
        offset = rng.integers(-32, 33, (1, POINTS, 3)) / 16
        found.append({"points": (np.asarray([100.0, 100.0, 20.0]) + offset).astype(np.float32), **feeds})
    return found


CASES = (
    Case(
        name="cancellation-statistics-pooling",
        classes=(19,),
        build=statistics_pooling,
        samples=lambda: normal("frames", (1, FRAMES, WIDTH), seed=190),
        note="E[x²] = 901 is a multiple of 1/2 in FP16, and the variance is 1.",
    ),
    Case(
        name="cancellation-pairwise-distance",
        classes=(19,),
        build=pairwise_distance,
        samples=voxels,
        note="|a|² + |b|² - 2 a·b: terms of 40000 whose difference is of the order 1.",
    ),
)
