"""Class 5: the decoder of an image VAE, whose convolution stream runs to 1e6."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from ..case import Case, Feeds, normal
from ..fragments import conv_random, silu
from ..net import Net

CHANNELS, GROUPS, SIZE = 32, 8, 8


def group_norm(net: Net, path: str, x: str, size: int, eps: float) -> str:
    """GroupNorm as exported below opset 21: Reshape, InstanceNormalization with ones, Reshape, Mul, Add."""
    with net.scope(path):
        grouped = net.op("Reshape", x, np.asarray([0, GROUPS, -1], np.int64))
        ones, zeros = np.ones(GROUPS, np.float32), np.zeros(GROUPS, np.float32)
        unit = net.op("InstanceNormalization", grouped, ones, zeros, epsilon=eps)
        shaped = net.op("Reshape", unit, np.asarray([1, CHANNELS, size, size], np.int64))
        weight = net.weight("weight", 1 + net.normal(CHANNELS, 1, 1, scale=0.2))
        return net.op("Add", net.op("Mul", shaped, weight), net.weight("bias", net.normal(CHANNELS, 1, 1, scale=0.2)))


def resnet(net: Net, path: str, x: str, size: int, gain: float, eps: float) -> str:
    """norm1, SiLU, conv1, norm2, SiLU, conv2, Add; conv2 writes the stream with `gain`."""
    with net.scope(path):
        inner = conv_random(net, "conv1", silu(net, "act1", group_norm(net, "norm1", x, size, eps)), CHANNELS, CHANNELS, 3, bias=0.1)
        active = silu(net, "act2", group_norm(net, "norm2", inner, size, 1e-6))
        return net.op("Add", x, conv_random(net, "conv2", active, CHANNELS, CHANNELS, 3, gain=gain, bias=gain))


def decoder(shift: int, eps: float) -> onnx.ModelProto:
    """conv_in, ResNet block, upsample and conv, ResNet block, norm, SiLU, conv_out; the stream is of the order 2^shift."""
    net = Net("decoder", opset=17, seed=12)
    x = net.input("latent_sample", [1, 4, SIZE, SIZE])
    with net.scope("decoder"):
        stream = conv_random(net, "conv_in", x, 4, CHANNELS, 3, gain=2.0**shift, bias=2.0**shift)
        stream = resnet(net, "mid_block/resnets.0", stream, SIZE, 2.0**shift, eps)
        with net.scope("up_blocks.0/upsamplers.0"):
            scales = np.asarray([1, 1, 2, 2], np.float32)
            doubled = net.op(
                "Resize", stream, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
            )
            stream = conv_random(net, "conv", doubled, CHANNELS, CHANNELS, 3, bias=2.0**shift)
        stream = resnet(net, "up_blocks.1/resnets.0", stream, 2 * SIZE, 2.0**shift, eps)
        active = silu(net, "conv_act", group_norm(net, "conv_norm_out", stream, 2 * SIZE, eps))
        out = conv_random(net, "conv_out", active, CHANNELS, 3, 3, bias=0.1)
    net.output("sample", out, [1, 3, 2 * SIZE, 2 * SIZE])
    return net.model()


def latents() -> list[Feeds]:
    """Latents of the order 1."""
    return normal("latent_sample", (1, 4, SIZE, SIZE), seed=50)


def strong_latents() -> list[Feeds]:
    """Latents of the order 4."""
    return normal("latent_sample", (1, 4, SIZE, SIZE), seed=51, scale=4.0)


CASES = (
    Case(
        name="vae-resnet-stream",
        classes=(5, 4, 10),
        build=partial(decoder, 18, 1e-6),
        samples=latents,
        held_out=strong_latents,
        free=True,
        witness=partial(decoder, 4, 1e-6 * 4.0**-14),
        note="conv_in and every conv2 feed a stream of 1e6; GroupNorm reads it (SDXL VAE, candle#1060).",
    ),
)
