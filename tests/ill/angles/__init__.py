"""Class 15: rotary and time embeddings; the spacing of FP16 at a large angle is a large angle."""

from __future__ import annotations

import numpy as np
import onnx

from ..case import Case, Feeds
from ..fragments import dense, silu
from ..net import FLOAT, INT64, Net

DEPTH, CHANNELS = 16, 32


def rope() -> onnx.ModelProto:
    """position_ids to angles (MatMul with inv_freq), Cos and Sin, rotate_half of a projected query; any length."""
    net = Net("llama", opset=14, seed=33)
    x, positions = net.input("query", [1, "sequence", DEPTH]), net.input("position_ids", [1, "sequence"], INT64)
    with net.scope("model"):
        query = dense(net, "layers.0/self_attn/q_proj", x, DEPTH, DEPTH)
        with net.scope("rotary_emb"):
            frequencies = net.weight("inv_freq", (10000.0 ** (-np.arange(0, DEPTH, 2) / DEPTH))[None, None, :])
            column = net.op("Cast", net.op("Unsqueeze", positions, np.asarray([2], np.int64)), to=FLOAT)
            angles = net.op("MatMul", column, frequencies)
            both = net.op("Concat", angles, angles, axis=-1)
            cosine, sine = net.op("Cos", both), net.op("Sin", both)
        with net.scope("layers.0/self_attn"):
            first, second = (
                net.op("Slice", query, *(np.asarray([each], np.int64) for each in bounds)) for bounds in ((0, 8, 2), (8, 16, 2))
            )
            turned = net.op("Concat", net.op("Neg", second), first, axis=-1)
            rotated = net.op("Add", net.op("Mul", query, cosine), net.op("Mul", turned, sine))
    net.output("rotated", rotated, [1, "sequence", DEPTH])
    return net.model()


def timestep() -> onnx.ModelProto:
    """Diffusion's time embedding: t · exp(-log(10000)·i/half), Sin, Cos, Concat, dense, SiLU, dense."""
    net = Net("unet", opset=14, seed=34)
    t = net.input("timestep", [4])
    with net.scope("time_proj"):
        half = CHANNELS // 2
        frequencies = net.weight("freqs", np.exp(-np.log(10000.0) * np.arange(half) / half)[None])
        angles = net.op("Mul", net.op("Unsqueeze", t, np.asarray([1], np.int64)), frequencies)
        waves = net.op("Concat", net.op("Sin", angles), net.op("Cos", angles), axis=-1)
    with net.scope("time_embedding"):
        inner = silu(net, "act", dense(net, "linear_1", waves, CHANNELS, 2 * CHANNELS, bias=0.1))
        out = dense(net, "linear_2", inner, 2 * CHANNELS, CHANNELS, bias=0.1)
    net.output("emb", out, [4, CHANNELS])
    return net.model()


def fourier() -> onnx.ModelProto:
    """Gaussian Fourier features of points in [0, 1]: sin and cos of 2π·B·x with B of the order 100, dense."""
    net = Net("nerf", opset=13, seed=35)
    x = net.input("points", [1, 32, 2])
    with net.scope("encoding"):
        angles = net.op("Mul", net.op("MatMul", x, net.weight("B", net.normal(2, 16, scale=100.0))), 2 * np.pi)
        waves = net.op("Concat", net.op("Sin", angles), net.op("Cos", angles), axis=-1)
    out = dense(net, "mlp.0", waves, 32, 16, bias=0.1)
    net.output("features", out, [1, 32, 16])
    return net.model()


def queries(length: int, count: int) -> list[Feeds]:
    """Query vectors of the order 1 at positions 0 to length - 1."""
    rng = np.random.default_rng(150 + length)
    places = np.arange(length, dtype=np.int64)[None]
    return [{"query": rng.standard_normal((1, length, DEPTH)).astype(np.float32), "position_ids": places} for _ in range(count)]


def grid_points() -> list[Feeds]:
    """Points on a grid of 1/512, which FP16 holds exactly."""
    rng = np.random.default_rng(152)
    return [{"points": (rng.integers(0, 513, (1, 32, 2)) / 512).astype(np.float32)} for _ in range(4)]


def times() -> list[Feeds]:
    """Four whole time steps from 0 to 999 a sample."""
    rng = np.random.default_rng(151)
    return [{"timestep": rng.integers(0, 1000, 4).astype(np.float32)} for _ in range(4)]


CASES = (
    Case(
        name="angles-rope-long",
        classes=(15,),
        build=rope,
        samples=lambda: queries(128, 4),
        held_out=lambda: queries(4096, 1),
        note="position · inv_freq past 2048 is a multiple of 2 radians; nearly right at 128, wrong at 4096.",
    ),
    Case(
        name="angles-timestep-embedding",
        classes=(15,),
        build=timestep,
        samples=times,
        note="Angles up to 999 radians in steps of half a radian (stable-audio-3 PR81).",
    ),
    Case(
        name="angles-fourier-features",
        classes=(15,),
        build=fourier,
        samples=grid_points,
        note="2π·B·x of several hundred radians; the weights B themselves are too coarse in FP16.",
    ),
)
