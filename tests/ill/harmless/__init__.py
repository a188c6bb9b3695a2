"""Class 9: values that overflow with no effect, since what reads them saturates. Nothing may be done about these."""

from __future__ import annotations

import onnx

from ..case import Case, Feeds, normal
from ..fragments import dense
from ..net import Net

WIDTH, LENGTH = 32, 12


def mlp(kind: str) -> onnx.ModelProto:
    """dense of the order 30, an activation written out, dense."""
    net = Net("mlp", opset=13, seed=19)
    x = net.input("hidden_states", [1, LENGTH, WIDTH])
    with net.scope("h.0/mlp"):
        inner = dense(net, "c_fc", x, WIDTH, 2 * WIDTH, gain=30.0, bias=1.0)
        with net.scope("act"):
            active = {"gelu": tanh_gelu, "mish": mish, "silu": written_out_silu}[kind](net, inner)
        out = dense(net, "c_proj", active, 2 * WIDTH, WIDTH, bias=0.1)
    net.output("last_hidden_state", out, [1, LENGTH, WIDTH])
    return net.model()


def tanh_gelu(net: Net, x: str) -> str:
    """0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))."""
    argument = net.op("Add", x, net.op("Mul", net.op("Pow", x, 3.0), 0.044715))
    tanh = net.op("Tanh", net.op("Mul", argument, 0.7978845608))
    return net.op("Mul", net.op("Mul", x, 0.5), net.op("Add", tanh, 1.0))


def mish(net: Net, x: str) -> str:
    """x tanh(log(1 + exp(x)))."""
    soft = net.op("Log", net.op("Add", net.op("Exp", x), 1.0))
    return net.op("Mul", x, net.op("Tanh", soft))


def written_out_silu(net: Net, x: str) -> str:
    """x · 1 / (1 + exp(-x))."""
    return net.op("Mul", x, net.op("Div", 1.0, net.op("Add", net.op("Exp", net.op("Neg", x)), 1.0)))


def rbf() -> onnx.ModelProto:
    """A radial basis layer exp(-d²/2) over points up to 600 apart, then dense."""
    net = Net("rbf", opset=13, seed=20)
    x = net.input("points", [1, LENGTH, 1, 3])
    with net.scope("rbf"):
        offset = net.op("Sub", x, net.weight("centres", net.normal(1, 1, 24, 3, scale=0.7)))
        squared = net.reduce("ReduceSum", net.op("Mul", offset, offset), [-1], keepdims=0)
        basis = net.op("Exp", net.op("Mul", squared, -0.5))
        out = dense(net, "fc", basis, 24, 8, gain=5.0, bias=1.0)
    net.output("features", out, [1, LENGTH, 8])
    return net.model()


def points() -> list[Feeds]:
    """Points near the origin, and two far away."""
    samples = normal("points", (1, LENGTH, 1, 3), seed=91)
    for feeds in samples:
        feeds["points"][0, :2] *= 300.0
    return samples


def hidden_states() -> list[Feeds]:
    """Hidden states of the order 1."""
    return normal("hidden_states", (1, LENGTH, WIDTH), seed=90)


CASES = (
    Case(
        name="harmless-tanh-gelu-cube",
        classes=(9,),
        build=lambda: mlp("gelu"),
        samples=hidden_states,
        harmless=True,
        note="x³ is inf past 40, and tanh(inf) = 1 (fairseq#2235).",
    ),
    Case(
        name="harmless-mish",
        classes=(9,),
        build=lambda: mlp("mish"),
        samples=hidden_states,
        harmless=True,
        note="exp(x) is inf past 11.09; tanh(log(inf)) = 1.",
    ),
    Case(
        name="harmless-silu-saturating",
        classes=(9,),
        build=lambda: mlp("silu"),
        samples=hidden_states,
        harmless=True,
        note="exp(-x) is inf below -11.09; x / inf is 0, and the true value is under 2^-13.",
    ),
    Case(
        name="harmless-rbf-distance",
        classes=(9,),
        build=rbf,
        samples=points,
        harmless=True,
        note="The squared distance of a far point is inf; exp(-inf) = 0, as it should be.",
    ),
)
