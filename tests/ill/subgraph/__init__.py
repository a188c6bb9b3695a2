"""Class 20: the same illnesses inside the bodies of If, Loop and Scan."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from ..case import Case, Feeds, normal
from ..fragments import dense, layer_norm, rms_norm
from ..net import BOOL, INT64, Net

WIDTH, LENGTH, STEPS = 32, 10, 4


def branch(shift: int, eps: float) -> onnx.ModelProto:
    """dense of the order 2^shift, then If(flag): a LayerNorm written out, else a multiplication by 2^-shift; dense."""
    net = Net("torch_jit", opset=13, seed=45)
    x, flag = net.input("hidden_states", [1, LENGTH, WIDTH]), net.input("normalize", [], INT64)
    with net.scope("block"):
        stream = dense(net, "proj", x, WIDTH, WIDTH, gain=2.0**shift, bias=2.0**shift)
        yes, no = net.body("then_branch"), net.body("else_branch")
        yes.output("normed", layer_norm(yes, "norm", stream, WIDTH, eps), [1, LENGTH, WIDTH])
        no.output("plain", no.op("Mul", stream, 2.0**-shift), [1, LENGTH, WIDTH])
        condition = net.op("Cast", flag, to=BOOL)
        chosen = net.op("If", condition, then_branch=yes.graph(), else_branch=no.graph())
        out = dense(net, "head", chosen, WIDTH, 16)
    net.output("out", out, [1, LENGTH, 16])
    return net.model()


def loop(shift: int, eps: float) -> onnx.ModelProto:
    """A weight-shared refiner: h = h + wo·relu(wi·RMSNorm(h)) four times in a Loop, RMSNorm, head; h is of the order 2^shift."""
    net = Net("refiner", opset=14, seed=46)
    x = net.input("inputs_embeds", [1, LENGTH, WIDTH])
    with net.scope("refiner"):
        start = dense(net, "embed", x, WIDTH, WIDTH, gain=2.0**shift)
        body = net.body("body")
        body.input("step", [], INT64)
        body.input("running", [], BOOL)
        state = body.input("state", [1, LENGTH, WIDTH])
        inner = body.op("Relu", dense(body, "wi", rms_norm(body, "norm", state, WIDTH, eps), WIDTH, 2 * WIDTH))
        update = dense(body, "wo", inner, 2 * WIDTH, WIDTH, gain=2.0**shift)
        body.output("still_running", body.op("Identity", "running"), [], BOOL)
        body.output("next_state", body.op("Add", state, update), [1, LENGTH, WIDTH])
        final = net.op("Loop", STEPS, np.asarray(True), start, body=body.graph())
        out = dense(net, "head", rms_norm(net, "final_norm", final, WIDTH, eps), WIDTH, 16)
    net.output("logits", out, [1, LENGTH, 16])
    return net.model()


def scan(down: int) -> onnx.ModelProto:
    """Automatic gain control: power = 0.9 power + 0.1 x² over time in a Scan, x / sqrt(power + 1), dense; x is times 2^-down."""
    net = Net("agc", opset=13, seed=47)
    x = net.input("signal", [LENGTH, WIDTH])
    with net.scope("agc"):
        loud = dense(net, "gain", x, WIDTH, WIDTH, gain=600 * 2.0**-down)
        body = net.body("body")
        power, frame = body.input("power", [WIDTH]), body.input("frame", [WIDTH])
        fresh = body.op("Mul", body.op("Mul", frame, frame), 0.1)
        smoothed = body.op("Add", body.op("Mul", power, 0.9), fresh)
        level = body.op("Sqrt", body.op("Add", smoothed, 4.0**-down))
        levelled = body.op("Div", frame, level)
        body.output("next_power", smoothed, [WIDTH])
        body.output("levelled", levelled, [WIDTH])
        silence = np.zeros(WIDTH, np.float32)
        net.op("Scan", silence, loud, outputs=2, body=body.graph(), num_scan_inputs=1)
        out = dense(net, "proj", "/agc/Scan_output_1", WIDTH, 8)
    net.output("features", out, [LENGTH, 8])
    return net.model()


def flagged() -> list[Feeds]:
    """Hidden states of the order 1, normalised or not."""
    samples = normal("hidden_states", (1, LENGTH, WIDTH), seed=200)
    return [{**feeds, "normalize": np.asarray(index % 2, np.int64)} for index, feeds in enumerate(samples)]


CASES = (
    Case(
        name="subgraph-if-layernorm",
        classes=(20, 1),
        build=partial(branch, 9, 1e-5),
        samples=flagged,
        free=True,
        witness=partial(branch, 0, 1e-5 * 4.0**-9),
        note="The decomposed norm sits in then_branch; both branches are taken by the samples.",
    ),
    Case(
        name="subgraph-loop-residual",
        classes=(20, 4, 3),
        build=partial(loop, 15, 1e-6),
        samples=lambda: normal("inputs_embeds", (1, LENGTH, WIDTH), seed=201),
        free=True,
        witness=partial(loop, 2, 1e-6 * 4.0**-13),
        note="A residual stream carried by a Loop leaves FP16; one exponent for the carried state.",
    ),
    Case(
        name="subgraph-scan-power",
        classes=(20,),
        build=partial(scan, 0),
        samples=lambda: normal("signal", (LENGTH, WIDTH), seed=202),
        free=True,
        witness=partial(scan, 9),
        note="The squares in a Scan body overflow, and with them the carried power.",
    ),
)
