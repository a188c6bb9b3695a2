"""In: a net and a tensor's name. Out: the name of what a common layer makes of it, written as exporters write it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .net import Array, Net


def linear(net: Net, path: str, x: str, weight: Array, bias: Array | None = None) -> str:
    """x [..., in] times weight [in, out], plus bias [out]."""
    with net.scope(path):
        product = net.op("MatMul", x, net.weight("weight", weight))
        return product if bias is None else net.op("Add", net.weight("bias", bias), product)


def dense(net: Net, path: str, x: str, width_in: int, width_out: int, *, gain: float = 1.0, bias: float = 0.0) -> str:
    """A linear layer with random weights of that gain (1 keeps the variance) and random biases of that size."""
    weight = net.normal(width_in, width_out, scale=gain / width_in**0.5)
    return linear(net, path, x, weight, net.normal(width_out, scale=bias))


def conv(net: Net, path: str, x: str, weight: Array, bias: Array | None = None, *, stride: int = 1, group: int = 1) -> str:
    """Convolution of x [n, in, h, w] with weight [out, in / group, k, k]; same padding for odd k."""
    kernel, pad = weight.shape[-1], weight.shape[-1] // 2
    with net.scope(path):
        operands = [x, net.weight("weight", weight)]
        operands += [] if bias is None else [net.weight("bias", bias)]
        attributes: dict[str, Any] = {
            "kernel_shape": [kernel] * 2,
            "pads": [pad] * 4,
            "strides": [stride] * 2,
            "dilations": [1, 1],
            "group": group,
        }
        return net.op("Conv", *operands, **attributes)


def conv_random(
    net: Net, path: str, x: str, channels_in: int, channels_out: int, kernel: int, *, gain: float = 1.0, bias: float = 0.0
) -> str:
    """A convolution with random weights of that gain (1 keeps the variance) and random biases of that size."""
    scale = gain / (channels_in * kernel**2) ** 0.5
    return conv(net, path, x, net.normal(channels_out, channels_in, kernel, kernel, scale=scale), net.normal(channels_out, scale=bias))


def layer_norm(net: Net, path: str, x: str, width: int, eps: float, *, square: str = "Pow", axis: int = -1, affine: bool = True) -> str:
    """A LayerNorm written out: ReduceMean, Sub, square (Pow or Mul), ReduceMean, Add eps, Sqrt, Div, Mul, Add."""
    shape = (width,) if axis == -1 else (width, 1, 1)
    with net.scope(path):
        centred = net.op("Sub", x, net.reduce("ReduceMean", x, [axis]))
        squared = net.op("Pow", centred, 2.0) if square == "Pow" else net.op("Mul", centred, centred)
        deviation = net.op("Sqrt", net.op("Add", net.reduce("ReduceMean", squared, [axis]), eps))
        normal = net.op("Div", centred, deviation)
        if not affine:
            return normal
        gamma = net.weight("weight", 1 + net.normal(*shape, scale=0.2))
        beta = net.weight("bias", net.normal(*shape, scale=0.2))
        return net.op("Add", net.op("Mul", normal, gamma), beta)


def rms_norm(net: Net, path: str, x: str, width: int, eps: float, gamma: Array | None = None) -> str:
    """An RMSNorm written out as Llama's exports have it: Pow, ReduceMean, Add eps, Sqrt, Div 1, Mul, Mul."""
    with net.scope(path):
        mean = net.reduce("ReduceMean", net.op("Pow", x, 2.0), [-1])
        inverse = net.op("Div", 1.0, net.op("Sqrt", net.op("Add", mean, eps)))
        weight = 1 + net.normal(width, scale=0.2) if gamma is None else gamma
        return net.op("Mul", net.weight("weight", weight), net.op("Mul", x, inverse))


def silu(net: Net, path: str, x: str) -> str:
    """x times Sigmoid(x)."""
    with net.scope(path):
        return net.op("Mul", x, net.op("Sigmoid", x))


def gelu(net: Net, path: str, x: str) -> str:
    """GELU through Erf: Div √2, Erf, Add 1, Mul, Mul 0.5."""
    with net.scope(path):
        erf = net.op("Erf", net.op("Div", x, 2.0**0.5))
        return net.op("Mul", net.op("Mul", x, net.op("Add", erf, 1.0)), 0.5)


def heads(net: Net, path: str, x: str, length: int, count: int, width: int, *, key: bool = False) -> str:
    """x [1, length, count·width] as [1, count, length, width], or for keys as [1, count, width, length]."""
    with net.scope(path):
        split = net.op("Reshape", x, np.asarray([1, length, count, width], np.int64))
        return net.op("Transpose", split, perm=[0, 2, 3, 1] if key else [0, 2, 1, 3])


def merge(net: Net, path: str, x: str, length: int, width: int) -> str:
    """[1, heads, length, w] back as [1, length, width]."""
    with net.scope(path):
        return net.op("Reshape", net.op("Transpose", x, perm=[0, 2, 1, 3]), np.asarray([1, length, width], np.int64))
