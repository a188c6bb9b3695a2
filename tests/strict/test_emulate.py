"""Strict emulation against an independent judge: ``onnx.reference`` really computes in numpy float16."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from fp16fix.graph.load import model_from_proto
from fp16fix.graph.lower import lower
from fp16fix.graph.session import Session, proto_of
from fp16fix.strict.emulate import emulate
from tests.models import filled, model, normal, proto, sqnr_db

ELEMENTWISE = {
    "Add": "y = Add (x, w)",
    "Sub": "y = Sub (x, w)",
    "Mul": "y = Mul (x, w)",
    "Div": "y = Div (x, w)",
    "Max": "y = Max (x, w)",
    "Neg": "y = Neg (x)",
    "Abs": "y = Abs (x)",
    "Relu": "y = Relu (x)",
    "LeakyRelu": "y = LeakyRelu <alpha = 0.25> (x)",
    "Sqrt": "a = Abs (x) y = Sqrt (a)",
    "Reciprocal": "y = Reciprocal (x)",
    "Floor": "y = Floor (x)",
    "Clip": "lo = Constant <value = float {-0.5}> () hi = Constant <value = float {0.5}> () y = Clip (x, lo, hi)",
    "Where": "z = Constant <value = float {0.0}> () c = Greater (x, z) y = Where (c, x, w)",
    "Transpose": "t = Transpose <perm = [1, 0]> (x) y = Transpose <perm = [1, 0]> (t)",
    "Concat": "c = Concat <axis = 0> (x, w) i = Constant <value = int64[4] {0, 1, 2, 3}> () y = Gather <axis = 0> (c, i)",
}
CLOSE = {
    "Exp": "y = Exp (x)",
    "Log": "a = Abs (x) y = Log (a)",
    "Sigmoid": "y = Sigmoid (x)",
    "Tanh": "y = Tanh (x)",
    "Erf": "y = Erf (x)",
    "Sin": "y = Sin (x)",
    "Softplus": "y = Softplus (x)",
    "Pow": "two = Constant <value = float {2.0}> () y = Pow (x, two)",
    "MatMul": "t = Transpose <perm = [1, 0]> (w) y0 = MatMul (x, t) y = MatMul (y0, x)",
    "Gemm": "y0 = Gemm <transB = 1> (x, w) y = MatMul (y0, x)",
    "Softmax": "y = Softmax <axis = 1> (x)",
    "LogSoftmax": "y = LogSoftmax <axis = 1> (x)",
    "ReduceMean": "m = ReduceMean <axes = [1], keepdims = 1> (x) y = Sub (x, m)",
    "ReduceMax": "m = ReduceMax <axes = [1], keepdims = 1> (x) y = Sub (x, m)",
    "ReduceL2": "m = ReduceL2 <axes = [1], keepdims = 1> (x) y = Div (x, m)",
    "CumSum": "a = Constant <value = int64 {1}> () y = CumSum (x, a)",
    "Einsum": 't = Einsum <equation = "ij,kj->ik"> (x, w) y = MatMul (t, x)',
}


def by_reference(proto_: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The one output of a graph as ``onnx.reference`` computes it, in the types the graph has."""
    outputs: Any = ReferenceEvaluator(proto_).run(None, inputs)
    return np.asarray(outputs[0])


def graph(body: str) -> str:
    return f"g (float[4,8] x, float[4,8] w) => (float[4,8] y) {{ {body} }}"


def both(body: str, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """FP32 reference, numpy-float16 reference, strict emulation."""
    inputs = {"x": normal(4, 8, scale=scale, seed=1), "w": normal(4, 8, scale=scale, seed=2)}
    fp32 = model(graph(body))
    typed = lower(fp32, {}, io="fp16")
    halves = {name: array.astype(np.float16) for name, array in inputs.items()}
    expected = by_reference(proto_of(typed), halves)
    assert expected.dtype == np.float16
    found = Session(emulate(typed)).run(inputs)["y"]
    return by_reference(proto(graph(body)), inputs), expected.astype(np.float32), found


@pytest.mark.parametrize("op", sorted(ELEMENTWISE))
def test_correctly_rounded_operators_agree_bit_for_bit(op: str) -> None:
    _, expected, found = both(ELEMENTWISE[op])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("op", sorted(CLOSE))
def test_other_operators_agree_to_half_precision(op: str) -> None:
    truth, expected, found = both(CLOSE[op])
    # The judge also rounds inside operators, so it may be a little worse than the engine profile, never better by much.
    assert sqnr_db(expected, found) > 48.0
    assert sqnr_db(truth, found) > sqnr_db(truth, expected) - 3.0
    assert sqnr_db(truth, found) < 90.0, "nothing was rounded at all"


def test_overflow_is_seen_where_onnx_runtime_is_blind() -> None:
    """ORT's CPU provider computes FP16 nodes in FP32 and drops the casts between them: 300·300·1e-3 gives 90 there."""
    body = "s = Constant <value = float {0.001}> () a = Mul (x, w) y = Mul (a, s)"
    fp32 = model(graph(body))
    typed = lower(fp32, {}, io="fp16")
    three_hundred = np.full((4, 8), 300.0, np.float32)
    strict = Session(emulate(typed)).run({"x": three_hundred, "w": three_hundred})["y"]
    assert np.isinf(strict).all()
    session = ort.InferenceSession(proto_of(typed).SerializeToString(), providers=["CPUExecutionProvider"])
    half = three_hundred.astype(np.float16)
    np.testing.assert_allclose(session.run(None, {"x": half, "w": half})[0].astype(np.float32), 90.0, rtol=1e-2)
    reference = by_reference(proto_of(typed), {"x": half, "w": half})
    assert np.isinf(reference).all()


def test_subnormals_and_ties_round_as_binary16() -> None:
    body = "one = Constant <value = float {1.0}> () a = Mul (x, one) y = Add (a, w)"
    typed = lower(model(graph(body)), {}, io="fp16")
    values = np.zeros((4, 8), np.float32)
    values[0, :4] = [2.0**-25, 2.0**-24 * 1.5, 2049.0, 65519.9]
    found = Session(emulate(typed)).run({"x": values, "w": np.zeros_like(values)})["y"]
    np.testing.assert_array_equal(found[0, :4], [0.0, 2.0**-23, 2048.0, 65504.0])


def test_fp32_nodes_are_not_rounded() -> None:
    body = "a = Mul (x, w) y = Exp (a)"
    fp32 = model(graph(body))
    wide = {node.name: "fp32" for node in fp32.nodes()}
    inputs = {"x": normal(4, 8, seed=1), "w": normal(4, 8, seed=2)}
    found = Session(emulate(lower(fp32, wide))).run(inputs)["y"]
    np.testing.assert_array_equal(found, Session(fp32).run(inputs)["y"])


def test_bfloat16_islands_round_to_eight_bits() -> None:
    fp32 = model(graph("a = Mul (x, w) y = Neg (a)"))
    wide = {node.name: "bf16" for node in fp32.nodes()}
    inputs = {"x": normal(4, 8, scale=1e4, seed=1), "w": normal(4, 8, scale=1e4, seed=2)}
    truth, found = Session(fp32).run(inputs)["y"], Session(emulate(lower(fp32, wide))).run(inputs)["y"]
    assert np.isfinite(found).all()
    assert 40.0 < sqnr_db(truth, found) < 60.0


def test_bodies_of_if_are_rounded_too() -> None:
    text = """g (float[4,8] x, float[4,8] w) => (float[4,8] y) {
        z = Constant <value = bool {1}> ()
        y = If (z) <
            then_branch = t () => (float[4,8] a) { b = Mul (x, x) a = Sqrt (b) },
            else_branch = e () => (float[4,8] c) { c = Neg (w) }
        >
    }"""
    fp32 = model(text)
    inputs = {"x": np.full((4, 8), 300.0, np.float32), "w": normal(4, 8)}
    assert np.isinf(Session(emulate(lower(fp32, {}))).run(inputs)["y"]).all()
    assert np.isfinite(Session(fp32).run(inputs)["y"]).all()


def test_pessimistic_sums_overflow_where_the_engine_has_a_wide_accumulator() -> None:
    fp32 = model("g (float[1,4096] x) => (float[1,1] y) { y = ReduceMean <axes = [1], keepdims = 1> (x) }")
    inputs = {"x": np.full((1, 4096), 100.0, np.float32)}
    typed = lower(fp32, {})
    np.testing.assert_array_equal(Session(emulate(typed)).run(inputs)["y"], 100.0)
    assert np.isinf(Session(emulate(typed, "pessimistic")).run(inputs)["y"]).all()


def test_pessimistic_products_are_held_to_the_bound_of_any_order() -> None:
    fp32 = model(
        "g (float[1,64] x) => (float[1,1] y) <float[64,1] w> { y = MatMul (x, w) }".replace(
            "<float[64,1] w>", f"<float[64,1] w = {{{', '.join(['1.0', '-1.0'] * 32)}}}>"
        )
    )
    inputs = {"x": np.full((1, 64), 2000.0, np.float32)}
    typed = lower(fp32, {})
    np.testing.assert_array_equal(Session(emulate(typed)).run(inputs)["y"], 0.0)
    assert np.isinf(Session(emulate(typed, "pessimistic")).run(inputs)["y"]).all()


def test_pessimistic_gemm_of_old_opsets_keeps_the_operand_it_must_have() -> None:
    """Before opset 11 Gemm could not do without C, nor can the bound on its sums."""
    text = """<ir_version: 4, opset_import: ["" : 9]> g (float[2,4] x) => (float[2,3] y)
        <float[4,3] w = {30000.0, 1.0, 1.0, -30000.0, 1.0, 1.0, 30000.0, 1.0, 1.0, -30000.0, 1.0, 1.0}, float[3] c = {1.0, 2.0, 3.0}>
        { y = Gemm (x, w, c) }"""
    old = model_from_proto(onnx.parser.parse_model(text))
    found = Session(emulate(lower(old, {}), "pessimistic")).run({"x": np.ones((2, 4), np.float32)})["y"]
    assert np.isinf(found[:, 0]).all(), "4 · 30000 passes 65504 whatever its signs"
    np.testing.assert_array_equal(found[:, 1:], [[6.0, 7.0]] * 2)


def test_pessimistic_writes_function_bodies_out() -> None:
    fp32 = model("g (float[4,64] x) => (float[4,64] y) { y = Softmax <axis = 1> (x) }")
    inputs = {"x": normal(4, 64, scale=3.0)}
    truth = Session(fp32).run(inputs)["y"]
    typed = lower(fp32, {})
    engine = sqnr_db(truth, Session(emulate(typed)).run(inputs)["y"])
    written_out = sqnr_db(truth, Session(emulate(typed, "pessimistic")).run(inputs)["y"])
    assert engine > 60.0
    assert 40.0 < written_out < engine


@pytest.mark.parametrize(("opset", "body"), [
    (10, "y = Clip <min = 0.1, max = 0.7> (x)"),
    (17, "lo = Constant <value = float {0.1}> () hi = Constant <value = float {0.7}> () y = Clip (x, lo, hi)"),
])  # fmt: skip
def test_a_clips_bound_is_rounded_wherever_it_stands(opset: int, body: str) -> None:
    """0.1 and 0.7 are no FP16 numbers; what is clipped to them is stored in FP16 all the same."""
    found = Session(emulate(lower(model(graph(body).replace(", float[4,8] w", ""), opset), {}))).run({"x": normal(4, 8)})["y"]
    np.testing.assert_array_equal(found, found.astype(np.float16).astype(np.float32))
    assert {float(found.min()), float(found.max())} == {float(np.float16(0.1)), float(np.float16(0.7))}


def test_each_weight_is_widened_right_before_its_first_reader() -> None:
    """All of them at once would be the FP32 model again; a reader in a body counts, and one weight is widened once."""
    text = """g (float[4,256] x, bool p, float[256,256] v, float[256,256] w, float[256,256] u) => (float[4,256] y) {
        a = MatMul (x, v) b = MatMul (a, w)
        c = If (p) < then_branch = t () => (float[4,256] r) { r = MatMul (b, u) }, else_branch = e () => (float[4,256] s) { s = Neg (b) } >
        y = MatMul (c, w)
    }"""
    found = model(text)
    for name in "vwu":
        tensor = found.tensors()[name]
        found.graph.inputs.remove(tensor)
        tensor.to_constant(normal(256, 256, scale=0.06))
    graph = emulate(lower(found, {})).graph
    heavy = [(node.op, node.name) for node in graph.nodes if node.op in {"MatMul", "If"} or "/widen" in node.name]
    assert [op if op != "Cast" else name[0] for op, name in heavy] == ["v", "MatMul", "w", "MatMul", "u", "If", "MatMul"]


@pytest.mark.parametrize("text", ["y = Gather (w, i)", "y = Gather <axis = 1> (w, i)", "j = Unsqueeze (i, last) y = GatherND (w, j)"])
def test_a_table_is_never_fp32_as_a_whole(text: str) -> None:
    """What is looked up is widened; a product that reads the table too has a copy of its own."""
    table, x, picked = normal(512, 128), normal(4, 512), np.asarray([3, 0, 7], np.int64)
    given = {"w": table, "last": np.asarray([-1], np.int64)}
    shape = "float[512,3]" if "axis" in text else "float[3,128]"
    both = f"g (int64[3] i, float[4,512] x, float[512,128] w, int64[1] last) => ({shape} y, float[4,128] z) {{ {text} [also] z = MatMul (x, w) }}"
    found = emulate(lower(filled(both, given), {}))
    tables = [node for node in found.graph.nodes if any(list(t.shape or ()) == [512, 128] for t in node.outputs)]
    assert [node.op for node in tables] == ["Cast"]
    assert [reader.op for reader in tables[0].outputs[0].outputs] == ["MatMul"]
    answers = Session(found).run({"i": picked, "x": x})
    expected = np.take(table, picked, axis=1 if "axis" in text else 0).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(answers["y"], expected)
    assert sqnr_db(x @ table, answers["z"]) > 55.0


def test_a_table_that_a_branch_looks_into_is_widened() -> None:
    text = """g (bool c, int64[3] i, float[512,128] w) => (float[3,128] y) { y = If (c) <
        then_branch = a () => (float[3,128] t) { t = Gather (w, i) }, else_branch = b () => (float[3,128] u) { p = Gather (w, i) u = Neg (p) }> }"""
    table, picked = normal(512, 128), np.asarray([3, 0, 7], np.int64)
    answers = Session(emulate(lower(filled(text, {"w": table}), {}))).run({"c": np.asarray(False), "i": picked})
    np.testing.assert_array_equal(answers["y"], -table[picked].astype(np.float16).astype(np.float32))
