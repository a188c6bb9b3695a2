"""Bounds of every input in a box: sound for each operator that has a law, tight where that is possible, and honest about where they end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from fp16fix.cli.all import app
from fp16fix.errors import InputError
from fp16fix.graph.load import model_from_proto
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.half import LARGEST
from fp16fix.strict.box import Boxed, boxed
from fp16fix.strict.emulate import emulate
from fp16fix.strict.interval import LAWS, SLACK
from tests.models import filled, model, normal, proto

BOX = (-3.0, 2.0)
POSITIVE = (0.5, 4.0)
ROWS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("Transpose", "y = Transpose<perm = [1, 0]>(x)", {}),
    ("Squeeze", "u = Unsqueeze(x, a) y = Squeeze(u, a)", {"weights": {"a": np.asarray([0])}}),
    ("Unsqueeze", "y = Unsqueeze(x, a)", {"weights": {"a": np.asarray([0])}}),
    ("Flatten", "y = Flatten(x)", {}),
    ("DepthToSpace", "y = DepthToSpace<blocksize = 2>(x)", {"shape": (1, 4, 2, 2)}),
    ("SpaceToDepth", "y = SpaceToDepth<blocksize = 2>(x)", {"shape": (1, 1, 4, 4)}),
    ("Identity", "y = Identity(x)", {}),
    ("Reshape", "y = Reshape(x, a)", {"weights": {"a": np.asarray([8, 4])}}),
    ("Expand", "y = Expand(x, a)", {"weights": {"a": np.asarray([2, 4, 8])}}),
    ("Tile", "y = Tile(x, a)", {"weights": {"a": np.asarray([2, 1])}}),
    ("Slice", "y = Slice(x, a, b)", {"weights": {"a": np.asarray([1]), "b": np.asarray([3])}}),
    ("Trilu", "y = Trilu(x)", {}),
    ("CenterCropPad", "y = CenterCropPad(x, a)", {"weights": {"a": np.asarray([2, 2])}}),
    ("Split", "u, v = Split<num_outputs = 2>(x) y = Sub(u, v)", {}),
    ("Concat", "y = Concat<axis = 0>(x, x)", {}),
    ("Max", "y = Max(x, w)", {"weights": {"w": normal(8)}}),
    ("Min", "y = Min(x, w)", {"weights": {"w": normal(8)}}),
    ("Add", "u = Neg(x) y = Add(x, u)", {}),
    ("Sum", "y = Sum(x, w, x)", {"weights": {"w": normal(8)}}),
    ("Mean", "y = Mean(x, w)", {"weights": {"w": normal(8)}}),
    ("Relu", "y = Relu(x)", {}),
    ("MaxPool", "y = MaxPool<kernel_shape = [2, 2]>(x)", {"shape": (1, 2, 5, 5)}),
    ("GlobalMaxPool", "y = GlobalMaxPool(x)", {"shape": (1, 2, 5, 5)}),
    ("ReduceMax", "y = ReduceMax(x)", {}),
    ("ReduceMin", "y = ReduceMin(x)", {}),
    ("Pad", "y = Pad(x, a)", {"weights": {"a": np.asarray([1, 0, 0, 1])}}),
    ("GatherND", "y = GatherND(x, a)", {"weights": {"a": np.asarray([[1], [2]])}}),
    ("GatherElements", "y = GatherElements(x, a)", {"weights": {"a": np.asarray([[2, 0, 1, 0, 1, 2, 3, 0]])}}),
    ("Clip", "y = Clip(x, a, b)", {"weights": {"a": np.float32(-1), "b": np.float32(0.5)}}),
    ("Resize", 'y = Resize<mode = "linear">(x, , a)', {"weights": {"a": np.asarray([1, 1, 2, 2], np.float32)}, "shape": (1, 1, 3, 3)}),
    ("Gather", "y = Gather(x, a)", {"weights": {"a": np.asarray([2, 0])}}),
    ("Gather", "i = ArgMax<axis = 1>(x) y = Gather(w, i)", {"weights": {"w": normal(8, 3)}}),
    ("Where", "c = Greater(x, w) y = Where(c, x, w)", {"weights": {"w": normal(8)}}),
    ("Where", "y = Where(c, x, w)", {"weights": {"c": np.arange(8) > 3, "w": normal(8)}}),
    ("Cast", "c = Greater(x, w) y = Cast<to = 1>(c)", {"weights": {"w": normal(8)}}),
    ("Dropout", "y = Dropout(x)", {}),
    ("Exp", "y = Exp(x)", {}),
    ("Floor", "y = Floor(x)", {}),
    ("Ceil", "y = Ceil(x)", {}),
    ("Round", "y = Round(x)", {}),
    ("Tanh", "y = Tanh(x)", {}),
    ("Erf", "y = Erf(x)", {}),
    ("Sigmoid", "y = Sigmoid(x)", {}),
    ("Softplus", "y = Softplus(x)", {}),
    ("Softsign", "y = Softsign(x)", {}),
    ("ReduceLogSumExp", "y = ReduceLogSumExp(x)", {}),
    ("LeakyRelu", "y = LeakyRelu(x)", {}),
    ("HardSigmoid", "y = HardSigmoid(x)", {}),
    ("Celu", "u = Celu(x) y = Neg(u)", {}),
    ("Selu", "y = Selu(x)", {}),
    ("Elu", "y = Elu(x)", {}),
    ("ThresholdedRelu", "y = ThresholdedRelu(x)", {}),
    ("Sqrt", "y = Sqrt(x)", {"box": POSITIVE}),
    ("Log", "y = Log(x)", {"box": POSITIVE}),
    ("ReduceLogSum", "y = ReduceLogSum(x)", {"box": POSITIVE}),
    ("ReduceSum", "y = ReduceSum(x)", {}),
    ("ReduceMean", "y = ReduceMean(x)", {}),
    ("GlobalAveragePool", "y = GlobalAveragePool(x)", {"shape": (1, 2, 5, 5)}),
    ("AveragePool", "y = AveragePool<kernel_shape = [2, 2]>(x)", {"shape": (1, 2, 5, 5)}),
    ("CumSum", "y = CumSum(x, a)", {"weights": {"a": np.asarray(1)}}),
    ("Neg", "y = Neg(x)", {}),
    ("Sub", "y = Sub(w, x)", {"weights": {"w": normal(8)}}),
    ("Abs", "y = Abs(x)", {}),
    ("Abs", "y = Abs(x)", {"box": (-4.0, -1.0)}),
    ("Mul", "u = Add(x, w) y = Mul(x, u)", {"weights": {"w": normal(8)}}),
    ("Mul", "y = Mul(x, x)", {}),
    ("Mul", "y = Mul(w, x)", {"weights": {"w": normal(8)}}),
    ("Div", "y = Div(w, x)", {"weights": {"w": normal(8)}, "box": POSITIVE}),
    ("Div", "y = Div(w, x)", {"weights": {"w": normal(8)}, "box": (-4.0, -0.5)}),
    ("Reciprocal", "y = Reciprocal(x)", {"box": POSITIVE}),
    ("Pow", "y = Pow(x, a)", {"weights": {"a": np.float32(2)}}),
    ("Pow", "y = Pow(x, a)", {"weights": {"a": np.float32(3)}}),
    ("Pow", "y = Pow(x, a)", {"weights": {"a": np.float32(0.5)}, "box": POSITIVE}),
    ("Gelu", "y = Gelu(x)", {"opset": 20}),
    ("Gelu", "y = Gelu(x)", {"opset": 20, "box": (-0.6, -0.1)}),
    ("Swish", "y = Swish(x)", {"opset": 24}),
    ("Mish", "y = Mish(x)", {"opset": 18}),
    ("HardSwish", "y = HardSwish(x)", {}),
    ("HardSwish", "y = HardSwish(x)", {"box": (-2.0, -1.0)}),
    ("Sin", "y = Sin(x)", {}),
    ("Cos", "y = Cos(x)", {}),
    ("Softmax", "y = Softmax(x)", {}),
    ("Hardmax", "y = Hardmax(x)", {}),
    ("LpNormalization", "y = LpNormalization(x)", {}),
    ("LogSoftmax", "y = LogSoftmax(x)", {}),
    ("BatchNormalization", "y = BatchNormalization(x, w, b, m, v)", {"shape": (2, 4, 3), "norm": 4}),
    ("PRelu", "y = PRelu(x, w)", {"weights": {"w": normal(8)}}),
    ("LayerNormalization", "y = LayerNormalization(x, w, b)", {"weights": {"w": normal(8), "b": normal(8, seed=1)}}),
    ("LayerNormalization", "y = LayerNormalization<axis = 0>(x, w)", {"weights": {"w": normal(1)}}),
    ("InstanceNormalization", "y = InstanceNormalization(x, w, b)", {"shape": (2, 4, 9), "norm": 4}),
    ("GroupNormalization", "y = GroupNormalization<num_groups = 2>(x, w, b)", {"shape": (2, 4, 9), "norm": 4, "opset": 21}),
    ("MatMul", "y = MatMul(x, w)", {"weights": {"w": normal(8, 5)}}),
    ("MatMul", "u = Relu(x) y = MatMul(u, w)", {"weights": {"w": normal(8, 5)}}),
    ("MatMul", "t = Transpose<perm = [1, 0]>(x) y = MatMul(x, t)", {}),
    ("MatMul", "s = Softmax(q) t = Sub(x, w) y = MatMul(s, t)", {"weights": {"q": normal(8, 4), "w": normal(8)}}),
    (
        "MatMul",
        "n = LayerNormalization(x, w, b) y = MatMul(n, m)",
        {"weights": {"w": normal(8), "b": normal(8, seed=2), "m": normal(8, 16)}},
    ),
    ("Gemm", "y = Gemm<alpha = -0.5, beta = 2.0>(x, w, b)", {"weights": {"w": normal(8, 5), "b": normal(5)}}),
    ("Gemm", "y = Gemm<transA = 1, transB = 1>(x, w)", {"weights": {"w": normal(5, 4)}}),
    ("Gemm", "y = Gemm<beta = -1.0>(u, w, x)", {"weights": {"u": normal(4, 3), "w": normal(3, 8)}}),
    ("Conv", "y = Conv<pads = [1, 1, 1, 1]>(x, w, b)", {"shape": (1, 2, 5, 5), "weights": {"w": normal(3, 2, 3, 3), "b": normal(3)}}),
    ("ConvTranspose", "y = ConvTranspose(x, w, b)", {"shape": (1, 2, 3, 3), "weights": {"w": normal(2, 3, 3, 3), "b": normal(3)}}),
    ("Einsum", 'y = Einsum<equation = "ij,jk->ik">(x, w)', {"weights": {"w": normal(8, 5)}}),
)
FREE = {
    "Equal",
    "Greater",
    "Less",
    "GreaterOrEqual",
    "LessOrEqual",
    "And",
    "Or",
    "Not",
    "Xor",
    "IsNaN",
    "IsInf",
    "ArgMax",
    "ArgMin",
    "Upsample",
}
"""Laws that say nothing, or that opset 9 alone has: nothing to be sound about."""
EXACT = (
    "Relu Neg Abs Exp Sigmoid Clip Max Min Softplus ReduceMax Transpose Gather Reciprocal Sqrt Pow Mul ReduceSum Gemm Conv MatMul Einsum"
)
"""Operators whose bounds are reached at a corner, where each operand stands once."""


def built(body: str, facts: dict[str, Any]) -> tuple[Model, dict[str, np.ndarray]]:
    shape = facts.get("shape", (4, 8))
    weights = dict(facts.get("weights", {}))
    if "norm" in facts:
        names = "wbmv" if "m, v" in body else "wb"
        weights |= {name: normal(facts["norm"], seed=k) for k, name in enumerate(names)}
        weights |= {"v": np.abs(weights["v"]) + 0.2} if "v" in weights else {}
    kinds = {"f": "float", "i": "int64", "b": "bool"}
    given = "".join(f", {kinds[np.asarray(v).dtype.kind]}[{','.join(map(str, np.shape(v)))}] {k}" for k, v in weights.items())
    given = given.replace("[]", "")
    text = f"g (float[{','.join(map(str, shape))}] x{given}) => (float[?] y) {{ {body} }}"
    arrays = {name: np.asarray(array) for name, array in weights.items()}
    parsed = proto(text, facts.get("opset", 18), check=False)
    parsed.graph.output[0].type.tensor_type.ClearField("shape")
    kept = [value for value in parsed.graph.input if value.name == "x"]
    del parsed.graph.input[:]
    parsed.graph.input.extend(kept)
    parsed.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    return lower(model_from_proto(parsed, "test"), {}), {"x": np.zeros(shape, np.float32)}


def corners(shape: tuple[int, ...], box: tuple[float, float], count: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    ends = [np.full(shape, end, np.float32) for end in box]
    drawn = [rng.uniform(*box, shape).astype(np.float32) for _ in range(count)]
    return [*ends, *drawn, *(np.where(rng.random(shape) < 0.5, *ends).astype(np.float32) for _ in range(count))]


def seen(typed: Model, given: list[np.ndarray]) -> tuple[float, float]:
    session = Session(emulate(typed))
    values = [session.run({"x": each})["y"] for each in given]
    return min(float(v.min()) for v in values), max(float(v.max()) for v in values)


def of(found: Boxed, tensor: str) -> tuple[float, float]:
    return next((each.low, each.high) for each in found.tensors if each.tensor == tensor)


def stored(typed: Model) -> str:
    """The FP16 tensor that becomes the output."""
    last = next(node for node in typed.graph.nodes if typed.graph.outputs[0] in node.outputs)
    return str(last.inputs[0].name if last.op == "Cast" else last.outputs[0].name)


@pytest.mark.parametrize(("op", "body", "facts"), ROWS, ids=[f"{k}-{row[0]}" for k, row in enumerate(ROWS)])
def test_nothing_leaves_its_bounds(op: str, body: str, facts: dict[str, Any]) -> None:
    typed, sample = built(body, facts)
    box = facts.get("box", BOX)
    low, high = of(boxed(typed, {"x": box}, sample), stored(typed))
    least, most = seen(typed, corners(sample["x"].shape, box))
    # Bounds are of what is computed; what is stored of it is rounded.
    assert np.float16(low - abs(low) * SLACK) <= least
    assert most <= np.float16(high + abs(high) * SLACK)
    assert op == "LogSoftmax" or (np.isfinite(low) and np.isfinite(high))


@pytest.mark.parametrize("op", EXACT.split())
def test_bounds_are_reached_where_an_operand_stands_once(op: str) -> None:
    body, facts = next((body, facts) for name, body, facts in ROWS if name == op and len(re.findall(r"\bx\b", body)) == 1)
    typed, sample = built(body, facts)
    box = facts.get("box", BOX)
    low, high = of(boxed(typed, {"x": box}, sample), stored(typed))
    given = corners(sample["x"].shape, box)
    if op in {"Gemm", "Conv", "MatMul", "Einsum"}:
        # The corner that is worst for one result: against or along the sign of its weights.
        given += worst_corners(typed, sample["x"].shape, box)
    least, most = seen(typed, given)
    width = max(most - least, 1e-3)
    assert least - low <= 0.01 * width
    assert high - most <= 0.01 * width


def worst_corners(typed: Model, shape: tuple[int, ...], box: tuple[float, float]) -> list[np.ndarray]:
    """For every result the corner where it is largest, and where it is smallest, by its slope at zero."""
    session, zero = Session(emulate(typed)), np.zeros(shape, np.float32)
    base = session.run({"x": zero})["y"].reshape(-1)
    slopes = []
    for place in np.ndindex(*shape):
        one = zero.copy()
        one[place] = 1.0
        slopes.append(session.run({"x": one})["y"].reshape(-1) - base)
    signs = np.asarray(slopes) > 0
    picked = [np.where(signs[:, k].reshape(shape) == up, box[1], box[0]) for k in range(signs.shape[1]) for up in (True, False)]
    return [each.astype(np.float32) for each in picked]


def test_every_law_is_tried() -> None:
    assert {op for op, *_ in ROWS} | FREE == set(LAWS)


def test_a_proof_holds_what_it_says() -> None:
    typed = lower(
        filled(
            "g (float[2,8] x, float[8,8] w) => (float[2,8] y) { h = MatMul(x, w) y = Relu(h) }", {"w": np.full((8, 8), 100, np.float32)}
        ),
        {},
    )
    within = boxed(typed, {"x": (-1.0, 80.0)}, {"x": np.zeros((2, 8), np.float32)})
    assert within.proven
    assert within.open == ()
    assert within.sums[0].op == "MatMul"
    assert within.sums[0].bound == pytest.approx(64000, rel=0.01)
    assert within.sums[0].terms == 8
    beyond = boxed(typed, {"x": (-1.0, 82.0)}, {"x": np.zeros((2, 8), np.float32)})
    assert not beyond.proven
    assert [each.op for each in beyond.open] == ["MatMul"]


def test_partial_sums_alone_keep_a_proof_open() -> None:
    """The result is small; what is added on the way need not be."""
    weights = np.asarray([[1000.0], [-1000.0]], np.float32)
    typed = lower(
        filled("g (float[1,1] x, float[2,1] w) => (float[1,1] y) { h = Concat<axis = 1>(x, x) y = MatMul(h, w) }", {"w": weights}), {}
    )
    found = boxed(typed, {"x": (50.0, 50.0)}, {"x": np.zeros((1, 1), np.float32)})
    assert [each.why for each in found.open] == ["partial sums may reach 1e+05"]
    assert max(abs(each.low) for each in found.tensors) < LARGEST


def test_only_where_a_proof_ends_is_named() -> None:
    typed = lower(model("g (float[2,8] x) => (float[2,8] y) { a = Exp(x) b = Mul(a, a) c = Softmax(b) y = Exp(c) }"), {})
    found = boxed(typed, {"x": (0.0, 20.0)}, {"x": np.zeros((2, 8), np.float32)})
    assert [each.op for each in found.open] == ["Exp"]
    assert of(found, stored(typed))[1] == pytest.approx(np.e, rel=0.01)


GIVEN: dict[str, tuple[str, np.ndarray]] = {
    "z": ("int64[1]", np.asarray([0])),
    "w": ("float[3]", np.ones(3, np.float32)),
    "c": ("bool", np.asarray(True)),
    "k": ("float", np.asarray(0.5, np.float32)),
}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("y = Sinh(x)", "no law"),
        ("u = NonZero(x) v = Cast<to = 1>(u) y = ReduceSum<keepdims = 0>(v, z)", "no law"),
        ("u = RandomNormalLike(x) y = Add(u, x)", "random"),
        ("r = Dropout(x, k, c) y = Neg(r)", "nothing is known"),
        ("s = Cast<to = 7>(x) u = ReduceMax<keepdims = 0>(s) v = Unsqueeze(u, z) y = Slice(w, z, v)", "depends on values"),
        (
            "y = If(c) <then_branch = t () => (float[3] a) { a = Mul(x, x) }, else_branch = e () => (float[3] b) { b = Add(x, x) }>",
            "inside a body",
        ),
        ("y = Sqrt(x)", "may lie"),
        ("u = Tanh(x) y = Reciprocal(u)", "may lie"),
    ],
)
def test_what_is_not_known_is_said(body: str, why: str) -> None:
    used = {name: value for name, value in GIVEN.items() if re.search(rf"\b{name}\b", body)}
    given = "".join(f", {kind} {name}" for name, (kind, _) in used.items())
    text = f"g (float[3] x{given}) => (float[n] y) {{ {body} }}"
    typed = lower(filled(text, {name: values for name, (_, values) in used.items()}), {})
    found = boxed(typed, {"x": (-1.0, 1.0)}, {"x": np.ones(3, np.float32)})
    assert not found.proven
    assert why in found.open[0].why


def test_an_input_past_fp16_is_named() -> None:
    typed = lower(model("g (float[3] x) => (float[3] y) { y = Tanh(x) }"), {}, io="fp16")
    found = boxed(typed, {"x": (-1e5, 1.0)}, {"x": np.zeros(3, np.float32)})
    assert [(each.node, each.op) for each in found.open] == [("x", "")]


@pytest.mark.parametrize(("value", "where"), [(300, ["Mul"]), (200, [])])
def test_what_is_computed_of_constants_counts(value: float, where: list[str]) -> None:
    weights = {"w": np.full(3, value, np.float32)}
    typed = lower(filled("g (float[3] x, float[3] w) => (float[3] y) { v = Mul(w, w) u = Tanh(v) y = Mul(u, x) }", weights), {})
    found = boxed(typed, {"x": (0.0, 1.0)}, {"x": np.zeros(3, np.float32)})
    assert [each.op for each in found.open] == where


def test_a_pinned_product_may_pass_what_fp16_holds() -> None:
    weights = {"w": np.full((8, 8), 3000, np.float32)}
    fp32 = filled("g (float[2,8] x, float[8,8] w) => (float[2,8] y) { h = MatMul(x, w) y = Tanh(h) }", weights)
    sample = {"x": np.zeros((2, 8), np.float32)}
    names = {node.name: "fp32" for node in fp32.graph.nodes}
    assert not boxed(lower(fp32, {}), {"x": (-4.0, 4.0)}, sample).proven
    assert boxed(lower(fp32, names), {"x": (-4.0, 4.0)}, sample).proven


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ({}, "no interval"),
        ({"x": (1.0, 0.0)}, "is empty"),
        ({"x": (0.0, 1.0), "z": (0.0, 1.0)}, "no input 'z'"),
        ({"x": (float("nan"), 1.0)}, "is empty"),
    ],
)
def test_a_box_that_means_nothing_is_refused(box: dict[str, tuple[float, float]], said: str) -> None:
    typed = lower(model("g (float[3] x) => (float[3] y) { y = Tanh(x) }"), {})
    with pytest.raises(InputError, match=said):
        boxed(typed, box, {"x": np.zeros(3, np.float32)})


def test_the_command_says_proven_or_where_the_proof_ends(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(proto("g (float[n,8] x) => (float[n,8] y) { a = Exp(x) y = Mul(a, a) }"), path)
    run = CliRunner().invoke
    good = run(app, ["diagnose", str(path), "--box", "x:-3,4", "--shape", "x:2x8"])
    assert good.exit_code == 0, good.output
    assert "PROVEN: no input in this box overflows" in good.output
    assert "x 2x8 in [-3, 4]" in good.output
    bad = run(app, ["diagnose", str(path), "--box", "x:-3,6", "--shape", "x:2x8", "--json"])
    assert bad.exit_code == 1
    document = json.loads(bad.output)
    assert document["proven"] is False
    assert document["open"][0]["op"] == "Mul"
    wrong = run(app, ["diagnose", str(path), "--box", "x:low,high"])
    assert "expected name:low,high" in str(wrong.exception) or "expected name:low,high" in wrong.output
