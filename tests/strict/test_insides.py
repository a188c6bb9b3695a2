"""The table of insides against the networks TensorRT-RTX parses, and the steps against numpy's float16."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from fp16fix.engines import check
from fp16fix.engines.backend import RTX
from fp16fix.engines.proof import FLOATS, PASSIVE, NodeTypes
from fp16fix.errors import BuildError
from fp16fix.graph.load import model_from_proto
from fp16fix.graph.lower import lower
from fp16fix.graph.save import save_model
from fp16fix.graph.session import Session
from fp16fix.half import FP16, Format
from fp16fix.passes.rescale.laws import TABLE
from fp16fix.strict.emulate import emulate
from fp16fix.strict.insides import INSIDES, How, table
from fp16fix.strict.profiles.compiled import Compiled
from fp16fix.strict.steps import WRITERS
from tests.models import HEADER, model, normal

INPUTS = {
    "x": "float[2,8]", "w": "float[2,8]", "wt": "float[8,3]", "i": "float[1,4,8,8]", "q": "float[1,2,8,16]", "k": "float[1,2,8,16]",
    "grid": "float[1,3,3,2]", "seq": "float[3,1,4]", "pid": "int64[1,8]", "rois": "float[2,4]", "lab": "int64[2]", "col": "float[1,4,9]",
}  # fmt: skip
LITERALS = {
    "lo": ("float", [], -0.5), "hi": ("float", [], 0.5), "ax": ("int64", [1], 1), "axis": ("int64", [], 1), "s8": ("float", [8], 1.5),
    "s4": ("float", [4], 1.5), "b2": ("float", [2], 0.5), "s2": ("float", [2], 2), "f": ("float", [4, 4, 3, 3], 0.1),
    "sc": ("float", [4], 1), "cos": ("float", [16, 8], 0.5), "lstm": ("float", [1, 16, 4], 0.1), "gru": ("float", [1, 12, 4], 0.1),
    "rnn": ("float", [1, 4, 4], 0.1), "two": ("int64", [2], 2), "pads": ("int64", [4], 1), "one": ("int64", [1], 1),
    "ids": ("int64", [2, 2], 1), "nd": ("int64", [1, 1], 1), "len": ("int64", [8], 2), "four": ("int64", [], 4),
    "u8": ("float", [1, 8], 0.5), "u2": ("float", [2, 2], 0.5), "fours": ("int64", [2], 4), "shape": ("int64", [2], 8),
    "zero": ("float", [], 0), "eight": ("float", [], 8), "unit": ("float", [], 1), "first": ("int64", [1], 0), "last": ("int64", [1], 1),
}  # fmt: skip
"""Initializers, filled with one value."""
PLAIN = (
    "Relu Sigmoid Tanh Exp Log Sqrt Abs Neg Reciprocal Erf Sign Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Floor Ceil Round "
    "Softplus Softsign HardSwish Mish LeakyRelu Elu Selu Celu ThresholdedRelu HardSigmoid Shrink Gelu Swish LpNormalization "
    "Softmax LogSoftmax Transpose Flatten Identity Dropout Trilu"
)
BINARY = "PRelu Add Sub Mul Div Max Min Pow"
REDUCTIONS = "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"
IMAGE = "LRN GlobalAveragePool GlobalMaxPool GlobalLpPool"
WINDOWS = "AveragePool MaxPool LpPool"
CASES = {
    **{op: f"{op}(x)" for op in PLAIN.split()},
    **{op: f"{op}(x, w)" for op in BINARY.split()},
    **{op: f"{op}(x, ax)" for op in REDUCTIONS.split()},
    **{op: f"{op}(i)" if op != "LRN" else "LRN<size = 3>(i)" for op in IMAGE.split()},
    **{op: f"{op}<kernel_shape = [2,2]>(i)" for op in WINDOWS.split()},
    "Clip": "Clip(x, lo, hi)",
    "Sum": "Sum(x, w, x)",
    "Mean": "Mean(x, w, x)",
    "Mod": "Mod<fmod = 1>(x, w)",
    "Where": "Where(c, x, w)",
    "LayerNormalization": "LayerNormalization(x, s8, s8)",
    "RMSNormalization": "RMSNormalization(x, s8)",
    "InstanceNormalization": "InstanceNormalization(i, s4, s4)",
    "GroupNormalization": "GroupNormalization<num_groups = 2>(i, s4, s4)",
    "BatchNormalization": "BatchNormalization(i, s4, s4, s4, s4)",
    "MatMul": "MatMul(x, wt)",
    "Gemm": "Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, b2)",
    "Einsum": 'Einsum<equation = "ij,kj->ik">(x, w)',
    "Conv": "Conv<pads = [1,1,1,1]>(i, f, s4)",
    "ConvTranspose": "ConvTranspose(i, f, s4)",
    "Resize": 'Resize<mode = "linear">(i, , sc)',
    "GridSample": "GridSample(i, grid)",
    "CumSum": "CumSum(x, axis)",
    "TopK": "TopK(x, one)",
    "Reshape": "Reshape(x, fours)",
    "Squeeze": "Squeeze(i, first)",
    "Unsqueeze": "Unsqueeze(x, ax)",
    "Slice": "Slice(x, first, last, first)",
    "Split": "Split<num_outputs = 2>(x)",
    "Expand": "Expand(u8, shape)",
    "Tile": "Tile(x, two)",
    "Pad": "Pad(x, pads)",
    "Concat": "Concat<axis = 0>(x, w)",
    "Gather": "Gather(x, ids)",
    "GatherElements": "GatherElements(x, ids)",
    "GatherND": "GatherND(x, nd)",
    "ScatterElements": "ScatterElements(x, ids, u2)",
    "ScatterND": "ScatterND(x, nd, u8)",
    "ReverseSequence": "ReverseSequence<time_axis = 0, batch_axis = 1>(x, len)",
    "DepthToSpace": "DepthToSpace<blocksize = 2>(i)",
    "SpaceToDepth": "SpaceToDepth<blocksize = 2>(i)",
    "OneHot": "OneHot(ids, four, s2)",
    "Range": "Range(zero, eight, unit)",
    "RotaryEmbedding": "RotaryEmbedding(q, cos, cos, pid)",
    "Attention": "Attention(q, k, q)",
    "LSTM": "LSTM<hidden_size = 4>(seq, lstm, lstm)",
    "GRU": "GRU<hidden_size = 4>(seq, gru, gru)",
    "RNN": "RNN<hidden_size = 4>(seq, rnn, rnn)",
}
REFUSED = {
    "MeanVarianceNormalization": "MeanVarianceNormalization<axes = [0,2,3]>(i)",
    "Det": "Det(u2)",
    "Col2Im": "Col2Im(col, fours, two)",
    "Bernoulli": "Bernoulli(x)",
    "SoftmaxCrossEntropyLoss": "SoftmaxCrossEntropyLoss(x, lab)",
    "NegativeLogLikelihoodLoss": "NegativeLogLikelihoodLoss(x, lab)",
    "RoiAlign": "RoiAlign(i, rois, lab)",
}


def text_of(cases: dict[str, str]) -> str:
    """One graph with one node for each case, named after its operator."""
    inputs = ", ".join(f"{dtype} {name}" for name, dtype in INPUTS.items())
    outputs = ", ".join(f"float y_{op}" for op in cases)
    literals = []
    for name, (dtype, shape, value) in LITERALS.items():
        dims = f"[{','.join(map(str, shape))}]" if shape else ""
        literals.append(f"{dtype}{dims} {name} = {{{', '.join([str(value)] * int(np.prod(shape)))}}}")
    more = {"TopK": ", i_TopK", "Split": ", z_Split", "LSTM": ", h_LSTM, c_LSTM", "GRU": ", h_GRU", "RNN": ", h_RNN"}
    nodes = " ".join(f"[{op}] y_{op}{more.get(op, '')} = {body}" for op, body in cases.items())
    return f"g ({inputs}) => ({outputs}) <{', '.join(literals)}> {{ [c] c = Greater(x, w) {nodes} }}"


def parsed(folder: Path, cases: dict[str, str], opset: int = 24, narrow: Format = FP16) -> dict[str, NodeTypes]:
    """What TensorRT-RTX makes of the cases in FP16, or BF16, by operator."""
    proto = parser.parse_model(HEADER.format(opset=opset) + text_of(cases))
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")  # the text has no way to leave a shape open
    save_model(lower(model_from_proto(proto), {}, io=narrow.name, narrow=narrow), folder / "cases.onnx")
    return check(folder / "cases.onnx").proof.by_node()


def computing(found: NodeTypes | None) -> frozenset[str]:
    """Layers that are no casts or shuffles."""
    return frozenset(found.layers) - PASSIVE if found is not None else frozenset()


needs_rtx = pytest.mark.skipif(not RTX.importable(), reason="TensorRT-RTX is not installed")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NodeTypes]:
    folder = tmp_path_factory.mktemp("insides")
    return {**parsed(folder, CASES), **parsed(folder, {"Upsample": "Upsample(i, sc)"}, 9)}


@needs_rtx
@pytest.mark.parametrize("op", sorted(op for op, inside in INSIDES.items() if inside.how is not How.REFUSED))
def test_the_parsed_network_computes_as_the_table_says(op: str, network: dict[str, NodeTypes]) -> None:
    inside, found = INSIDES[op], network.get(op)
    assert computing(found) == inside.layers
    floats = set(found.dtypes) & set(FLOATS) if found is not None and inside.layers else set()
    if inside.how is How.WIDE:
        assert "fp32" in floats
    elif op == "RMSNormalization":
        assert floats == {"fp16", "fp32"}, "x / rms(x) in FP32, the scale in FP16"
    else:
        assert floats <= {"fp16"}


@needs_rtx
@pytest.mark.parametrize("op", sorted(REFUSED))
def test_what_the_table_calls_refused_is_refused(op: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="refuses the graph"):
        parsed(tmp_path, {op: REFUSED[op]}, 22)


def test_every_operator_of_the_table_has_a_case_and_every_step_a_writer() -> None:
    assert set(INSIDES) == {*CASES, *REFUSED, "Upsample"}
    assert set(WRITERS) == {op for op, inside in INSIDES.items() if How.STEPS in {inside.how, inside.in_bf16}}


QUANTISING = ("QuantizeLinear", "DequantizeLinear")
"""They have types of their own, and are kept next to what they feed (``graph.quantised``)."""


def test_every_operator_that_exponents_know_is_in_the_table_or_passes_values_on() -> None:
    known = {op for law in TABLE for op in law.ops.split()}
    integers = set("Equal Greater Less GreaterOrEqual LessOrEqual IsNaN IsInf Shape Size NonZero ArgMax ArgMin".split())
    passing = {"Cast", "CastLike", "ConstantOfShape", "Compress", "Unique", "CenterCropPad", "Hardmax", "MaxUnpool", *QUANTISING}
    assert known - set(INSIDES) - integers - passing == {"DeformConv"}


def test_the_note_holds_the_table() -> None:
    note = Path(__file__).parents[2] / "notes" / "insides.md"
    assert table() in note.read_text(encoding="utf-8"), "run python -m tools.bench.insides"


def h(values: object) -> np.ndarray:
    """Rounded to FP16, as numpy does it."""
    return np.asarray(values, np.float64).astype(np.float16).astype(np.float64)


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def shifted(x: np.ndarray) -> np.ndarray:
    peak = x.max(1, keepdims=True)
    return h(h(np.log(h(h(np.exp(h(x - peak))).sum(1, keepdims=True)))) + peak)


def rms(x: np.ndarray) -> np.ndarray:
    return h(h(x / np.sqrt(np.square(x).mean(1, keepdims=True) + 1e-5)) * h(1.7))


def trunc_mod(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return h(x - h(np.trunc(h(x / w)) * w))


def dense(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return h(h(h(x @ w.T) * h(0.3)) + h(h(0.7) * h(1.3)))


STEPS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "LogSoftmax": ("LogSoftmax<axis = 1>(x)", lambda x, _: h(np.log(h(softmax(x))))),
    "ReduceSumSquare": ("ReduceSumSquare<axes = [1]>(x)", lambda x, _: h(h(x * x).sum(1, keepdims=True))),
    "ReduceLogSumExp": ("ReduceLogSumExp<axes = [1]>(x)", lambda x, _: shifted(x)),
    "Mish": ("Mish(x)", lambda x, _: h(x * h(np.tanh(h(np.logaddexp(0, x)))))),
    "HardSwish": ("HardSwish(x)", lambda x, _: h(x * h(np.clip(x / 6 + 0.5, 0, 1)))),
    "Swish": ("Swish<alpha = 1.5>(x)", lambda x, _: h(x * h(1 / (1 + np.exp(-h(1.5 * x)))))),
    "Gemm": ("Gemm<transB = 1, alpha = 0.3, beta = 0.7>(x, w, c)", dense),
    "Sum": ("Sum(x, w, x)", lambda x, w: h(h(x + w) + x)),
    "Mean": ("Mean(x, w, x)", lambda x, w: h(h(h(x + w) + x) * h(1 / 3))),
    "Mod": ("Mod<fmod = 1>(x, w)", trunc_mod),
    "RMSNormalization": ("RMSNormalization(x, g)", lambda x, _: rms(x)),
}
OPSETS = {"Mish": 18, "Swish": 24, "RMSNormalization": 23}


@pytest.mark.parametrize("op", sorted(STEPS))
def test_steps_round_where_the_engine_stores(op: str) -> None:
    body, expected = STEPS[op]
    literals = f"float[1] c = {{1.3}}, float[8] g = {{{', '.join(['1.7'] * 8)}}}"
    text = f"g (float[16,8] x, float[16,8] w) => (float[16,N] y) <{literals}> {{ y = {body} }}"
    x, w = h(normal(16, 8, scale=3.0, seed=1)), h(normal(16, 8, scale=3.0, seed=2))
    typed = lower(model(text, OPSETS.get(op, 17)), {}, io="fp16")
    profile = "pessimistic" if op in Compiled.one_step else "compiled"
    found = Session(emulate(typed, profile)).run({"x": x.astype(np.float32), "w": w.astype(np.float32)})["y"]
    # FP32 arithmetic between the roundings may fall on the other side of a tie now and then.
    same = found == expected(x, w)
    assert same.mean() > 0.95
    np.testing.assert_allclose(found, expected(x, w), rtol=2.0**-9, atol=2.0**-9)


def strict(body: str, x: np.ndarray, opset: int = 17) -> np.ndarray:
    typed = lower(model(f"g (float[1,4] x) => (float[1,N] y) {{ y = {body} }}", opset), {})
    return np.asarray(Session(emulate(typed)).run({"x": x.astype(np.float32).reshape(1, 4)})["y"])


def test_log_softmax_loses_what_softmax_cannot_hold() -> None:
    found = strict("LogSoftmax<axis = 1>(x)", np.array([0.0, -5.0, -16.0, -30.0]))
    assert found[0, 2] == pytest.approx(-16.0, abs=0.3)
    assert found[0, 3] == -np.inf


def test_sums_of_squares_overflow_at_the_square_and_vanish_there() -> None:
    assert np.isinf(strict("ReduceSumSquare<axes = [1]>(x)", np.array([300.0, 0, 0, 0]))).all()
    assert (strict("ReduceSumSquare<axes = [1]>(x)", np.full(4, 1e-4)) == 0).all()


@pytest.mark.parametrize("opset", [11, 17])
def test_logsumexp_is_shifted_and_minds_infinities_like_fp32(opset: int) -> None:
    body = "ReduceLogSumExp<axes = [1], keepdims = 0>(x)"
    text = f"g (float[1,4] x) => (float[1] y) {{ y = {body} }}"
    typed = lower(model(text, opset), {})
    for values, expected in (([1000.0, 1000, -np.inf, 0], 1000.5), ([-np.inf] * 4, -np.inf), ([np.inf, 0, 0, 0], np.inf)):
        found = Session(emulate(typed)).run({"x": np.array([values], np.float32)})["y"]
        np.testing.assert_array_equal(found, [np.float32(expected)])


def test_wide_nodes_are_left_whole() -> None:
    fp32 = model("g (float[1,4] x) => (float[1,N] y) { y = ReduceSumSquare<axes = [1]>(x) }")
    wide = {node.name: "fp32" for node in fp32.nodes()}
    found = Session(emulate(lower(fp32, wide))).run({"x": np.full((1, 4), 300.0, np.float32)})["y"]
    assert found == 360000.0
