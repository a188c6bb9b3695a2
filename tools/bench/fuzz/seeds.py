"""Small models that each have something that breaks easily, and samples for them: what mutants are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper, parser

Feeds = Mapping[str, np.ndarray]
SAMPLES = 3
"""Of each model: two calibrate or one does, and the rest decide."""


@dataclass(frozen=True, slots=True)
class Seed:
    """One model in ONNX's text, its weights by shape, and its inputs."""

    name: str
    text: str
    inputs: Mapping[str, Callable[[np.random.Generator], np.ndarray]]
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    opset: int = 17

    def model(self) -> onnx.ModelProto:
        """The model, always the same."""
        made = parser.parse_model(f'<ir_version: 9, opset_import: ["" : {self.opset}, "my" : 1]>\n{self.text}')
        rng = np.random.default_rng(0)
        for name, shape in self.weights.items():
            values = rng.standard_normal(shape) / np.sqrt(shape[0])
            made.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
        return made

    def samples(self, rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
        """Inputs that suit the model as it was."""
        return [{name: draw(rng) for name, draw in self.inputs.items()} for _ in range(SAMPLES)]


def normal(*shape: int, scale: float = 1.0) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: (rng.standard_normal(shape) * scale).astype(np.float32)


def below(limit: int, *shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.integers(0, limit, shape)


SEEDS = (
    Seed(
        "mlp",
        """g (float[2,16] x) => (float[2,4] y) <float k = {9000}, float q = {0.0001}> {
            a = MatMul (x, w1) b = Add (a, b1) c = Relu (b) d = Mul (c, k) e = MatMul (d, w2) y = Mul (e, q) }""",
        {"x": normal(2, 16)},
        {"w1": (16, 32), "b1": (32,), "w2": (32, 4)},
    ),
    Seed(
        "norm",
        """g (float[N,64] x) => (float[N,64] y) <float two = {2.0}, float eps = {0.00001}> {
            p = Pow (x, two) m = ReduceMean <axes = [1]> (p) v = Add (m, eps) s = Sqrt (v) y = Div (x, s) }""",
        {"x": normal(4, 64, scale=3000.0)},
    ),
    Seed(
        "attention",
        """g (float[1,2,8,8] q, float[1,2,8,8] k, float[1,2,8,8] v, float[1,1,1,8] mask) => (float[1,2,8,8] y) <float s = {0.35}, float far = {-1000000000.0}, float one = {1.0}> {
            t = Transpose <perm = [0, 1, 3, 2]> (k) a = MatMul (q, t) b = Mul (a, s) h = Sub (one, mask) f = Mul (h, far)
            c = Add (b, f) p = Softmax <axis = -1> (c) y = MatMul (p, v) }""",
        {"q": normal(1, 2, 8, 8), "k": normal(1, 2, 8, 8), "v": normal(1, 2, 8, 8), "mask": lambda _: np.ones((1, 1, 1, 8), np.float32)},
    ),
    Seed(
        "convolution",
        """g (float[1,3,12,12] x) => (float[1,6] y) <float[6] v1 = {1.0, 2.0, 0.5, 1.0, 3.0, 1.0}> {
            a = Conv <pads = [1, 1, 1, 1]> (x, w) b = BatchNormalization (a, g1, b1, m1, v1) c = Relu (b) d = GlobalAveragePool (c)
            y = Flatten (d) }""",
        {"x": normal(1, 3, 12, 12, scale=200.0)},
        {"w": (6, 3, 3, 3), "g1": (6,), "b1": (6,), "m1": (6,)},
    ),
    Seed(
        "branch",
        """g (float[4] x, bool p) => (float[4] y) <float w = {2.0}> {
            a = Mul (x, w) y = If (p) < then_branch = t () => (float[4] r) { r = Neg (a) }, else_branch = e () => (float[4] s) { s = Exp (a) } > }""",
        {"x": normal(4), "p": lambda rng: np.array(rng.random() < 0.5)},
    ),
    Seed(
        "loop",
        """g (float[4] x) => (float[4] y) <int64 n = {5}, float half = {0.5}> {
            t = Constant <value = bool {1}> ()
            y = Loop (n, t, x) < body = b (int64 i, bool c, float[4] a) => (bool d, float[4] z) { d = Identity (c) m = Mul (a, half) z = Add (m, x) } > }""",
        {"x": normal(4)},
    ),
    Seed(
        "embedding",
        """g (int64[2,6] ids) => (float[2,6,3] y) <float[1] eps = {0.000000000001}> {
            e = Gather (table, ids) n = ReduceL2 <axes = [2], keepdims = 1> (e) d = Add (n, eps) u = Div (e, d) y = MatMul (u, w) }""",
        {"ids": below(20, 2, 6)},
        {"table": (20, 8), "w": (8, 3)},
    ),
    Seed(
        "function",
        """g (float[2,8] x) => (float[2,8] y) { a = my.Norm (x) y = my.Norm (a) }
        <domain: "my", opset_import: ["" : 17]>
        Norm (X) => (Y) { q = Mul (X, X) s = ReduceSum (q) r = Sqrt (s) Y = Div (X, r) }""",
        {"x": normal(2, 8, scale=400.0)},
    ),
    Seed(
        "quantised",
        """g (float[2,16] x) => (float[2,16] y) <float s = {0.05}, int8 z = {0}, float k = {5000.0}> {
            a = QuantizeLinear (x, s, z) b = DequantizeLinear (a, s, z) c = MatMul (b, w) d = Mul (c, k) e = Div (d, k) y = Tanh (e) }""",
        {"x": normal(2, 16)},
        {"w": (16, 16)},
    ),
    Seed(
        "old",
        "g (float[1,3,8,8] x) => (float[1,4,6,6] y) { a = Conv (x, w) b = Relu (a) y = Clip <min = 0.0, max = 6.0> (b) }",
        {"x": normal(1, 3, 8, 8)},
        {"w": (4, 3, 3, 3)},
        9,
    ),
)
