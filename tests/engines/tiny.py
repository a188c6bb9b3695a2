"""Typed ONNX files of a few nodes, one for each way a build can go."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import parser

GOOD = """<ir_version: 9, opset_import: ["" : 17]>
g (float16[2,4] x) => (float[2,4] y)
<float16[4,4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}, float16[4] s = {1,1,1,1}, float16[4] b = {0,0,0,0}>
{ [mm] h = MatMul(x, w)  [ln] n = LayerNormalization(h, s, b)  [relu] q = Relu(n)  [up] f = Cast<to=1>(q)  [exp] y = Exp(f) }"""

RICH = """<ir_version: 10, opset_import: ["" : 23]>
g (float16[2,4] x, bool c) => (float16[2,4] y, float16[2,4] z, bfloat16[2,4] q, float[2,4] u)
<float16[4] s = {1,1,1,1}, int64[1] ax = {1}>
{ [rms] n = RMSNormalization(x, s)  [l2] r = ReduceL2(n, ax)  [div] y = Div(n, r)
  [if] z = If(c)<then_branch = tg () => (float16[2,4] t) { [then] t = Tanh(y) },
                else_branch = eg () => (float16[2,4] e) { [else] e = Sigmoid(y) }>
  [to_bf] b = Cast<to=16>(y)  [bf] q = Exp(b)  [to_32] f = Cast<to=1>(y)  [softmax] u = Softmax(f) }"""

DYNAMIC = """<ir_version: 9, opset_import: ["" : 17]>
g (float16["B",4] x, float16["B","N"] k) => (float16["B",4] y, float16["B","N"] j)
{ [relu] y = Relu(x)  [exp] j = Exp(k) }"""

MIXED = """<ir_version: 9, opset_import: ["" : 17]>
g (float16[2,4] x, float[2,4] z) => (float[2,4] y)
{ [relu] h = Relu(x)  [sum] y = Add(h, z) }"""

UNKNOWN = """<ir_version: 9, opset_import: ["" : 17]>
g (float16[2,4] x) => (float16[2,4] y, float16[2,4] z)
{ [one] y = Frobnicate(x)  [two] z = Defrobnicate(x) }"""

SELF_ATTENTION = """<ir_version: 10, opset_import: ["" : 23]>
g (float16[1,4,8,16] x) => (float16[1,4,8,16] y)
{ [attn] y = Attention(x, x, x) }"""

WIDE_ATTENTION = """<ir_version: 10, opset_import: ["" : 23]>
g (float[1,2,8,16] q, float[1,2,8,16] k, float[1,2,8,16] v) => (float[1,2,8,16] y)
{ [attn] y = Attention(q, k, v) }"""

ISLANDS = """<ir_version: 9, opset_import: ["" : 17]>
g (float16[2,4] x, bool c) => (float16[2,4] y)
{ [a] h = Relu(x)  [up] f = Cast<to=1>(h)  [wide] e = Exp(f)  [down] d = Cast<to=10>(e)
  [to_bf] b = Cast<to=16>(d)  [brain] bb = Exp(b)  [from_bf] o = Cast<to=10>(bb)
  [if] y = If(c)<then_branch = tg () => (float16[2,4] t) { [tw] w = Cast<to=1>(o)  [inner] v = Tanh(w)  [td] t = Cast<to=10>(v) },
                 else_branch = eg () => (float16[2,4] n) { [neg] n = Neg(o) }> }"""


def write(folder: Path, text: str, name: str = "model.onnx") -> Path:
    """The file; unchecked, because some of these are ill typed on purpose."""
    path = folder / name
    onnx.save(parser.parse_model(text), path)
    return path


def convolutions(folder: Path, layers: int = 40, channels: int = 32) -> Path:
    """A model that takes the builder long enough to be interrupted."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(generator.standard_normal((channels, channels, 3, 3)).astype(np.float16), f"w{index}")
        for index in range(layers)
    ]
    nodes = []
    for index in range(layers):
        nodes.append(helper.make_node("Conv", [f"t{index}", f"w{index}"], [f"c{index}"], name=f"conv{index}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Sigmoid", [f"c{index}"], [f"t{index + 1}"], name=f"act{index}"))
    shape = [1, channels, 32, 32]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("t0", TensorProto.FLOAT16, shape)],
        [helper.make_tensor_value_info(f"t{layers}", TensorProto.FLOAT16, shape)],
        weights,
    )
    path = folder / "convolutions.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
