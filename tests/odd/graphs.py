"""Small models of the kinds that ended a repair once: control flow, data-dependent shapes, quantised graphs, what old exporters write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper, parser

from tests.models import normal

Sample = dict[str, np.ndarray]


@dataclass(frozen=True)
class Odd:
    """One model, what it is fed, and how much of it may be FP32 in the end."""

    name: str
    build: Callable[[], onnx.ModelProto]
    sample: Callable[[int], Sample]
    wide: int = 0
    """FP32 nodes, the first QuantizeLinear included."""


def text(body: str, opset: int = 17, **weights: Any) -> onnx.ModelProto:
    """A model in ONNX's text form, weights given as arrays."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {body}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items())
    return model


def in_a_loop(body: str, gain: float, scale: float) -> onnx.ModelProto:
    """``x · scale``, then the body three times in a Loop whose shapes are names; ``v`` to ``w``."""
    return text(
        f"""g (float[B,L,D] x) => (float[B,L,D] y) <float scale = {{{scale}}}, float small = {{0.01}}, int64 n = {{3}}, bool go = {{1}}> {{
          s = Mul (x, scale)
          t = Loop (n, go, s) <body = b (int64 i, bool c, float[b,l,d] v) => (bool d, float[b,l,d] w)
            <float two = {{2}}, float eps = {{0.00001}}, float gain = {{{gain}}}, float half = {{-0.5}}, int64[1] a = {{2}}> {{
            d = Identity (c) {body} }}>
          y = Mul (t, small) }}""",
        opset=14,
    )


RMS = "p = Pow (v, two) m = ReduceMean <axes = [2]> (p) e = Add (m, eps) r = Sqrt (e) q = Reciprocal (r) k = Mul (v, q) w = Mul (k, gain)"
LAYER = """u = ReduceMean <axes = [2]> (v) f = Sub (v, u) p = Pow (f, two) m = ReduceMean <axes = [2]> (p) e = Add (m, eps) r = Sqrt (e)
    k = Div (f, r) w = Mul (k, gain)"""
LSE = "z = Mul (v, gain) l = ReduceLogSumExp <axes = [2]> (z) k = Mul (l, half) w = Add (z, k)"
SOFTMAX = "e = Exp (v) z = ReduceSum (e, a) k = Div (e, z) w = Mul (k, gain)"


def tokens(seed: int) -> Sample:
    return {"x": normal(1, 12, 16, seed=seed)}


def branches() -> onnx.ModelProto:
    """A product that overflows before a Softmax in both branches of an If; nothing says what their shapes are."""
    inner = (
        "xt = Transpose <perm = [0, 2, 1]> (x) {0} = MatMul (x, xt) {1} = Mul ({0}, k) {2} = Mul ({1}, j) {3} = Softmax <axis = -1> ({2})"
    )
    yes, no = (inner.replace("xt", f"xt{side}").format(*(f"{name}{side}" for name in "pqwy")) for side in "tf")
    return text(
        f"""g (float[b,s,16] x, bool c) => (float[b,s,t] y) <float k = {{4000}}, float j = {{0.001}}> {{
          y = If (c) <then_branch = t () => (float[b,s,t] yt) {{ {yes} }}, else_branch = f () => (float[b,s,t] yf) {{ {no} }}> }}"""
    )


def condition(shape: tuple[int, ...], scale: float) -> Callable[[int], Sample]:
    return lambda seed: {"x": normal(*shape, scale=scale, seed=seed), "c": np.array(seed % 2 == 0)}


def norm_before_gru() -> onnx.ModelProto:
    """The fused norm needs opset 17, in which GRU has an attribute more than in 13."""
    return text(
        """g (float[T,1,32] x) => (float[T,1,1,32] y) <float two = {2}, float eps = {0.00001}> {
          m = ReduceMean <axes = [-1]> (x) d = Sub (x, m) p = Pow (d, two) v = ReduceMean <axes = [-1]> (p) e = Add (v, eps) s = Sqrt (e)
          n = Div (d, s) a = Mul (n, gamma) b = Add (a, beta) y, h = GRU <hidden_size = 32> (b, W, R) }""",
        opset=13,
        gamma=np.ones(32, np.float32),
        beta=np.zeros(32, np.float32),
        W=normal(1, 96, 32, scale=0.3),
        R=normal(1, 96, 32, scale=0.3, seed=1),
    )


def kept_rows() -> onnx.ModelProto:
    """Which rows are kept hangs on energies past 65504: in plain FP16 other rows are, and the two graphs do not meet."""
    return text(
        """g (float[64,8] x) => (float[K,8] y) <int64[1] a = {1}, float limit = {100000}> {
          q = Mul (x, x) e = ReduceSum <keepdims = 0> (q, a) low = Less (e, limit) at = NonZero (low) rows = Transpose <perm = [1, 0]> (at)
          p = GatherND (x, rows) y = MatMul (p, eye) }""",
        eye=np.eye(8, dtype=np.float32),
    )


def rows(seed: int) -> Sample:
    return {"x": normal(64, 8, seed=seed) * np.random.default_rng(seed).choice([30, 100, 130], (64, 1)).astype(np.float32)}


def looked_up() -> onnx.ModelProto:
    """A flat index is taken apart by a division in floats: FP16 makes a row of it that the table does not have."""
    return text(
        """g (float[40000] x) => (float[8] y) <int64[1] k = {8}, float side = {200}, int64[2] two = {8, 1}> {
          v, i = TopK (x, k) f = Cast <to = 1> (i) q = Div (f, side) r = Floor (q) b = Mul (r, side) c = Sub (f, b)
          ri = Cast <to = 7> (r) ci = Cast <to = 7> (c) ru = Reshape (ri, two) cu = Reshape (ci, two) at = Concat <axis = 1> (ru, cu)
          y = GatherND (table, at) }""",
        table=normal(200, 200),
    )


def flat(seed: int) -> Sample:
    return {"x": normal(40000, seed=seed)}


def old_softmax() -> onnx.ModelProto:
    """Opset 11, and nothing tells the rank of what the Softmax reads."""
    return text(
        """g (float[N,4,6] x, int64[R] s) => (float y) <float k = {4}> {
          r = Reshape (x, s) m = Mul (r, k) p = Softmax <axis = 2> (m) y = Mul (p, k) }""",
        opset=11,
    )


def any_rank(seed: int) -> Sample:
    return {"x": normal(2, 4, 6, seed=seed), "s": np.array([2, 2, 2, 6])}


def disorderly() -> onnx.ModelProto:
    """No name, nodes out of order, an output without a shape: ONNX Runtime runs it, the checker refuses it."""
    model = text("g (float[4,32] x) => (float[4,64] y) { m = MatMul (x, w) n = Neg (m) y = Tanh (n) }", opset=11, w=normal(32, 64))
    model.graph.name = ""
    model.graph.output[0].type.tensor_type.ClearField("shape")
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[2], nodes[0], nodes[1]])
    return model


def wrong_rank() -> onnx.ModelProto:
    """An output declared with a rank that it does not have, and declared twice."""
    model = text("g (float[4,32] x) => (float[4] y) { m = MatMul (x, w) y = Tanh (m) }", w=normal(32, 64))
    model.graph.output.append(model.graph.output[0])
    return model


def constant_output() -> onnx.ModelProto:
    """An initializer that is an output."""
    return text("g (float[4,32] x) => (float[4,64] y, float[32,64] w) { m = MatMul (x, w) y = Tanh (m) }", w=normal(32, 64))


def matrix(seed: int) -> Sample:
    return {"x": normal(4, 32, seed=seed)}


def number_after_norm() -> onnx.ModelProto:
    """A LayerNorm over the last axis that a single number follows; the middle axis is free."""
    return text(
        f"""g (float[B,L,16] x) => (float[B,L,16] y) <float scale = {{400}}, float two = {{2}}, float eps = {{0.00001}}, float gain = {{3}}> {{
          v = Mul (x, scale) {LAYER} y = Tanh (w) }}"""
    )


def dequantised(weights: np.ndarray, axis: int, name: str) -> dict[str, Any]:
    """Integers and scales of a weight, one scale for each entry of an axis."""
    others = tuple(each for each in range(weights.ndim) if each != axis)
    scale = (np.abs(weights).max(axis=others) / 127).astype(np.float32)
    steps = np.round(weights / scale.reshape([-1 if each == axis else 1 for each in range(weights.ndim)]))
    return {f"{name}q": steps.clip(-127, 127).astype(np.int8), f"{name}s": scale, f"{name}z": np.zeros(len(scale), np.int8)}


def quantised_product(gain: str = "") -> onnx.ModelProto:
    """Q, DQ, a dequantised weight, MatMul; healthy in FP16."""
    tail = "m = MatMul (d, w) y = Mul (m, g)" if gain else "y = MatMul (d, w)"
    weights: dict[str, Any] = {"g": np.float32(0.5)} if gain else {}
    return text(
        f"""g (float[N,8] x) => (float[N,8] y) <float s = {{0.02}}, int8 z = {{0}}> {{
          q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) w = DequantizeLinear <axis = 1> (wq, ws, wz) {tail} }}""",
        **dequantised(normal(8, 8), 1, "w"),
        **weights,
    )


def quantised_stream() -> onnx.ModelProto:
    """Two quantised convolutions around a stream that leaves FP16, weights whose scales vanish in it; the exponents go into scales."""
    return text(
        """g (float[1,3,16,16] x) => (float[1,8,16,16] y) <float s = {0.03}, float t = {900}, int8 z = {0}> {
          q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) v = DequantizeLinear <axis = 0> (vq, vs, vz)
          a = Conv <pads = [1, 1, 1, 1]> (d, v) b = Relu (a) r = QuantizeLinear (b, t, z) e = DequantizeLinear (r, t, z)
          w = DequantizeLinear <axis = 0> (wq, ws, wz) y = Conv <pads = [1, 1, 1, 1]> (e, w) }""",
        **dequantised(normal(8, 3, 3, 3, scale=8000.0), 0, "v"),
        **dequantised(normal(8, 8, 3, 3, scale=2.5e-6, seed=1), 0, "w"),
    )


def four_bits() -> onnx.ModelProto:
    """Weights of half a byte."""
    return text(
        """g (float[N,8] x) => (float[N,8] y) { w = DequantizeLinear <axis = 1> (wq, ws) y = MatMul (x, w) }""",
        opset=21,
        wq=np.random.default_rng(0).integers(-8, 8, (8, 8)).astype(ml_dtypes.int4),
        ws=np.full(8, 0.1, np.float32),
    )


def read_by_a_body() -> onnx.ModelProto:
    """A dequantised table behind a Reshape, read in a Loop: ONNX Runtime's QDQ optimiser ends the process over it."""
    return text(
        """g (float[4,8] x) => (float[4,8] y) <int64[2] to = {4, 8}, int64 n = {2}, bool go = {1}> {
          w = DequantizeLinear (wq, ws, wz) r = Reshape (w, to)
          y = Loop (n, go, x) <body = b (int64 i, bool c, float[4,8] v) => (bool d, float[4,8] u) { d = Identity (c) u = Add (v, r) }> }""",
        wq=np.arange(32, dtype=np.int8).reshape(8, 4),
        ws=np.float32(0.1),
        wz=np.int8(0),
    )


def endless() -> onnx.ModelProto:
    """A sum of 2⁻¹⁰ until it reaches 6: FP16 stops counting at 4, and no trip count ends it."""
    return text(
        """g (float[4] x) => (float[4] y, float z) <float zero = {0}, bool go = {1}> {
          z = Loop ( , go, zero) <body = b (int64 i, bool c, float v) => (bool d, float w) <float step = {0.0009765625}, float end = {6}> {
            w = Add (v, step) d = Less (w, end) }>
          y = Mul (x, z) }"""
    )


def settling() -> onnx.ModelProto:
    """Half the way to 3.0003 in every round, until it is nearer than FP16 can be: what it gives by then is right, and it never ends."""
    return text(
        """g (float[4] x) => (float[4] y) <float zero = {0}, bool go = {1}> {
          z = Loop ( , go, zero) <body = b (int64 i, bool c, float v) => (bool d, float w) <float half = {0.5}, float end = {3.0003}, float near = {0.0001}> {
            f = Sub (end, v) h = Mul (f, half) w = Add (v, h) r = Sub (end, w) a = Abs (r) d = Greater (a, near) }>
          y = Mul (x, z) }"""
    )


def small(*shape: int) -> Callable[[int], Sample]:
    return lambda seed: {"x": normal(*shape, seed=seed)}


CASES = (
    Odd("rms-in-loop", lambda: in_a_loop(RMS, 12.0, 400.0), tokens),
    Odd("layernorm-in-loop", lambda: in_a_loop(LAYER, 12.0, 400.0), tokens),
    Odd("logsumexp-in-loop", lambda: in_a_loop(LSE, 1.5, 12.0), tokens),
    Odd("softmax-in-loop", lambda: in_a_loop(SOFTMAX, 12.0, 20.0), tokens, wide=3),
    Odd("softmax-in-branches", branches, condition((1, 5, 16), 3.0)),
    Odd("norm-before-gru", norm_before_gru, small(6, 1, 32)),
    Odd("kept-rows", kept_rows, rows),
    Odd("looked-up", looked_up, flat, wide=8),
    Odd("old-softmax", old_softmax, any_rank),
    Odd("disorderly", disorderly, matrix),
    Odd("wrong-rank", wrong_rank, matrix),
    Odd("constant-output", constant_output, matrix),
    Odd("number-after-norm", number_after_norm, small(1, 12, 16)),
    Odd("quantised-product", quantised_product, small(4, 8), wide=1),
    Odd("quantised-product-times", lambda: quantised_product("g"), small(4, 8), wide=1),
    Odd("quantised-stream", quantised_stream, small(1, 3, 16, 16), wide=1),
    Odd("quantised-to-four-bits", four_bits, small(4, 8)),
    Odd("endless", endless, small(4), wide=3),
    Odd("settling", settling, small(4), wide=6),
    Odd("read-by-a-body", read_by_a_body, small(4, 8)),
)
