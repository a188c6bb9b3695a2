"""Class 12: an eps below 2^-25 is zero in FP16, and what it guarded divides by zero or takes the logarithm of zero."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from ..case import Case, Feeds
from ..fragments import dense
from ..net import FLOAT, INT64, Net

LENGTH, WIDTH, BINS, MELS = 10, 32, 64, 16


def linear_attention(eps: float) -> onnx.ModelProto:
    """ReLU attention, weights / (sum + eps), whose rows are empty where the mask hides every key."""
    net = Net("linear_attention", opset=13, seed=26)
    x, mask = net.input("tokens", [1, LENGTH, WIDTH]), net.input("mask", [1, LENGTH, LENGTH], INT64)
    with net.scope("attn"):
        query, key = (net.op("Relu", dense(net, part, x, WIDTH, 16)) for part in ("q", "k"))
        scores = net.op("MatMul", query, net.op("Transpose", key, perm=[0, 2, 1]))
        kept = net.op("Mul", scores, net.op("Cast", mask, to=FLOAT))
        total = net.op("Add", net.reduce("ReduceSum", kept, [-1]), eps)
        context = net.op("MatMul", net.op("Div", kept, total), dense(net, "v", x, WIDTH, WIDTH))
        out = dense(net, "proj", context, WIDTH, WIDTH, bias=0.1)
    net.output("context", out, [1, LENGTH, WIDTH])
    return net.model()


def log_mel() -> onnx.ModelProto:
    """Power spectrum to mel energies, Log(mel + 1e-10), dense: an audio front end."""
    net = Net("frontend", opset=13, seed=27)
    x = net.input("power", [1, LENGTH, BINS])
    with net.scope("frontend"):
        triangles = np.maximum(0, 1 - np.abs(np.arange(BINS)[:, None] / (BINS / MELS) - np.arange(MELS)[None, :] - 0.5))
        energy = net.op("MatMul", x, net.weight("mel.weight", triangles))
        logs = net.op("Log", net.op("Add", energy, 1e-10))
        out = dense(net, "encoder/in_proj", logs, MELS, WIDTH, bias=0.1)
    net.output("frames", out, [1, LENGTH, WIDTH])
    return net.model()


def masked_tokens() -> list[Feeds]:
    """Tokens of the order 1 and block masks; the last one to four rows see nothing."""
    rng = np.random.default_rng(120)
    found: list[Feeds] = []
    for index in range(4):
        mask = (rng.random((1, LENGTH, LENGTH)) < 0.8).astype(np.int64)
        mask[0, LENGTH - 1 - index :] = 0
        found.append({"tokens": rng.standard_normal((1, LENGTH, WIDTH)).astype(np.float32), "mask": mask})
    return found


def spectra() -> list[Feeds]:
    """Power spectra from 1e-3 to 100 that fall with frequency, and digital silence in two frames."""
    rng = np.random.default_rng(121)
    found: list[Feeds] = []
    for index in range(4):
        power = 100 * 10 ** (-4 * np.linspace(0, 1, BINS)) * rng.uniform(0.2, 1, (1, LENGTH, BINS)) + 1e-3
        power[0, index : index + 2] = 0.0
        found.append({"power": power.astype(np.float32)})
    return found


CASES = (
    Case(
        name="eps-empty-attention-row",
        classes=(12,),
        build=partial(linear_attention, 1e-8),
        samples=masked_tokens,
        free=True,
        witness=partial(linear_attention, 2.0**-24),
        note="0 / (0 + 1e-8) becomes 0 / 0; an eps of 2^-24 moves nothing in FP32 (onnxconverter PR153).",
    ),
    Case(
        name="eps-log-mel",
        classes=(12, 18),
        build=log_mel,
        samples=spectra,
        note="Silence is log(1e-10) = -23 in FP32 and log(0) in FP16; raising the eps would change the answer (openvino PR8676).",
    ),
)
