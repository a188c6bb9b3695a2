"""Typed graphs: what is FP16, where casts stand, and that nothing else changed."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference
import pytest

from fp16fix.graph.load import model_from_proto
from fp16fix.graph.lower import count_types, lower
from fp16fix.graph.model import element_type
from fp16fix.graph.session import Session, proto_of
from fp16fix.half import FP16, FP32
from fp16fix.passes.apply import apply
from fp16fix.strict.emulate import emulate
from tests.models import model, normal, sqnr_db
from tests.recipes import exponents

CHAIN = "g (float[4,8] x) => (float[4,8] y) { a = Neg (x) b = Exp (a) c = Abs (b) y = Sqrt (c) }"


def checked(typed: object) -> onnx.ModelProto:
    proto = proto_of(typed)  # type: ignore[arg-type]
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True, check_type=True)
    return proto


def test_everything_is_fp16_between_fp32_ends() -> None:
    typed = lower(model(CHAIN), {})
    proto = checked(typed)
    assert count_types(typed) == {"float_nodes": 4, "fp32_nodes": 0, "bf16_nodes": 0, "casts": 2, "border_muls": 0}
    assert [(v.name, v.type.tensor_type.elem_type) for v in (*proto.graph.input, *proto.graph.output)] == [("x", 1), ("y", 1)]


def test_half_interface_needs_no_cast() -> None:
    typed = lower(model(CHAIN), {}, io="fp16")
    checked(typed)
    assert count_types(typed)["casts"] == 0
    assert element_type(typed.graph.inputs[0]) == FP16.onnx


def test_a_pin_costs_one_cast_each_way() -> None:
    typed = lower(model(CHAIN), {"Exp_b": "fp32"})
    checked(typed)
    assert count_types(typed) == {"float_nodes": 4, "fp32_nodes": 1, "bf16_nodes": 0, "casts": 4, "border_muls": 0}
    by_op = {node.op: element_type(node.outputs[0]) for node in typed.graph.nodes if node.op != "Cast"}
    assert by_op == {"Neg": FP16.onnx, "Exp": FP32.onnx, "Abs": FP16.onnx, "Sqrt": FP16.onnx}


def test_readers_share_a_cast() -> None:
    text = "g (float[4] x) => (float[4] y) { a = Exp (x) b = Neg (a) c = Abs (a) y = Add (b, c) }"
    typed = lower(model(text), {"Exp_a": "fp32"})
    checked(typed)
    assert count_types(typed)["casts"] == 2, "one for both readers of a, one at the output; the input is FP32 already"


def test_an_exit_not_proven_in_range_saturates() -> None:
    text = "g (float[4] x) => (float[4] y) <float k = {1000.0}> { a = Mul (x, k) y = Neg (a) }"
    fp32 = model(text)
    inputs = {"x": np.array([100.0, -100.0, 1.0, 0.0], np.float32)}
    plain = Session(emulate(lower(fp32, {"Mul_a": "fp32"}))).run(inputs)["y"]
    assert np.isinf(plain[:2]).all()
    typed = lower(fp32, {"Mul_a": "fp32"}, saturate={"a"})
    checked(typed)
    np.testing.assert_array_equal(Session(emulate(typed)).run(inputs)["y"], [-65504.0, 65504.0, -1000.0, 0.0])


def test_shared_weights_stay_shared_per_type() -> None:
    text = (
        "g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1.0, 2.0, 3.0, 4.0}> { a = MatMul (x, w) b = MatMul (a, w) y = MatMul (b, w) }"
    )
    typed = lower(model(text), {"MatMul_b": "fp32"})
    checked(typed)
    weights = {id(node.inputs[1]) for node in typed.graph.nodes if node.op == "MatMul"}
    assert len(weights) == 2


def test_operators_without_an_fp16_schema_stay_fp32() -> None:
    text = "g (float[4] x) => (float[10] y) <float a = {0.0}, float b = {10.0}, float d = {1.0}> { r = Range (a, b, d) s = ReduceSum <keepdims = 0> (x) y = Mul (r, s) }"
    typed = lower(model(text), {})
    checked(typed)
    assert {node.op: element_type(node.outputs[0]) for node in typed.graph.nodes if node.op in {"Range", "Mul"}} == {
        "Range": FP32.onnx,
        "Mul": FP16.onnx,
    }


def test_mean_and_deviation_of_a_fused_norm_are_fp32() -> None:
    text = """g (float[2,8] x) => (float[2,8] y, float[2,1] m) <float[8] s = {1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0}> {
        y, m, d = LayerNormalization <axis = -1> (x, s)
    }"""
    checked(lower(model(text), {}))


def test_outputs_that_are_inputs_of_other_nodes_keep_their_names() -> None:
    text = "g (float[4] x) => (float[4] a, float[4] y) { a = Exp (x) y = Neg (a) }"
    typed = lower(model(text), {})
    proto = checked(typed)
    assert [v.name for v in proto.graph.output] == ["a", "y"]
    inputs = {"x": normal(4)}
    truth, found = Session(model(text)).run(inputs), Session(emulate(typed)).run(inputs)
    assert all(sqnr_db(truth[name], found[name]) > 60 for name in truth)


LOOP = """g (float[4] x) => (float[4] y, float[N,4] all) <float half = {0.5}> {
    n = Constant <value = int64 {3}> () go = Constant <value = bool {1}> ()
    y, all = Loop (n, go, x) <
        body = b (int64 i, bool c, float[4] s) => (bool d, float[4] t, float[4] u) { d = Identity (c) t = Add (s, x) u = Mul (t, half) }
    >
}"""


@pytest.mark.parametrize("wide", [{}, {"Loop_y": "fp32"}, {"Add_t": "fp32"}, {"Loop_y": "fp32", "Add_t": "fp32", "Mul_u": "fp32"}])
def test_loops_carry_one_type(wide: dict[str, str]) -> None:
    fp32 = model(LOOP)
    typed = lower(fp32, wide)
    checked(typed)
    inputs = {"x": normal(4)}
    truth, found = Session(fp32).run(inputs), Session(emulate(typed)).run(inputs)
    assert all(sqnr_db(truth[name], found[name]) > 60 for name in truth)


def test_the_model_given_is_not_changed() -> None:
    fp32 = model(CHAIN)
    before = proto_of(fp32).SerializeToString()
    lower(fp32, {"Exp_b": "fp32"})
    assert proto_of(fp32).SerializeToString() == before


def test_cast_like_of_integers_becomes_a_cast() -> None:
    text = "g (float[4] x) => (float[4] y) <int64 two = {2}> { t = CastLike (two, x) y = Pow (x, t) }"
    typed = lower(model(text, 18), {})
    checked(typed)
    inputs = {"x": normal(4)}
    assert sqnr_db(Session(model(text, 18)).run(inputs)["y"], Session(emulate(typed)).run(inputs)["y"]) > 60


@pytest.mark.parametrize("opset", [10, 17])
def test_a_saturating_exit_holds_its_bounds_as_attributes_or_inputs(opset: int) -> None:
    text = "g (float[4] x) => (float[4] y) <float k = {1000.0}> { a = Mul (x, k) y = Neg (a) }"
    typed = lower(model(text, opset), {"Mul_a": "fp32"}, saturate={"a"})
    checked(typed)
    found = Session(emulate(typed)).run({"x": np.array([100.0, -100.0, 1.0, 0.0], np.float32)})["y"]
    np.testing.assert_array_equal(found, [-65504.0, 65504.0, -1000.0, 0.0])


def test_multiplications_at_the_interface_are_counted_apart() -> None:
    text = "g (float[4] x) => (float[4] y) <float k = {1000.0}> { a = Mul (x, k) y = Neg (a) }"
    typed = apply(model(text), exponents(x=3, a=3, y=3))
    assert {count: found for count, found in count_types(typed).items() if found} == {"float_nodes": 2, "casts": 2, "border_muls": 2}


QUANTISED = """g (float[4,8] x) => (float[4,8] y) <float s = {0.02}, int8 z = {0}, int8[8,8] wq = {WQ}, float ws = {0.05}> {
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) w = DequantizeLinear (wq, ws, z) m = MatMul (d, w)
    r = QuantizeLinear (m, s, z) e = DequantizeLinear (r, s, z) y = Add (e, e) }""".replace("WQ", ",".join(["3"] * 64))


def types(wide: dict[str, str], text: str = QUANTISED) -> dict[str, int]:
    """Types of what each node quantises, makes or computes."""
    typed = lower(model(text, opset=19), wide)
    checked(typed)
    floats = {node.name: node.inputs[0] if node.op == "QuantizeLinear" else node.outputs[0] for node in typed.nodes()}
    return {name: element_type(tensor) for name, tensor in floats.items()}


def test_quantising_takes_what_there_is_and_dequantising_makes_what_is_read() -> None:
    plain = types({})
    assert plain["QuantizeLinear_q"] == FP32.onnx, "the input before anybody rounds it"
    assert plain["QuantizeLinear_r"] == FP16.onnx
    assert {plain[f"DequantizeLinear_{name}"] for name in "dwe"} == {FP16.onnx}
    pinned = types({"MatMul_m": "fp32"})
    assert {pinned[f"DequantizeLinear_{name}"] for name in "dw"} == {FP32.onnx}
    assert pinned["QuantizeLinear_r"] == FP32.onnx
    assert pinned["DequantizeLinear_e"] == FP16.onnx
    assert "Cast" not in {node.op for node in lower(model(QUANTISED, opset=19), {"MatMul_m": "fp32"}).nodes() if "to_io" not in node.name}


def test_readers_that_disagree_have_a_dequantiser_each() -> None:
    text = QUANTISED.replace("y = Add (e, e)", "a = Neg (e) b = Exp (e) y = Add (a, b)")
    typed = lower(model(text, opset=19), {"Exp_b": "fp32"})
    checked(typed)
    (wide,) = [node for node in typed.nodes() if node.op == "Exp"]
    maker = wide.inputs[0].inputs[0]
    assert maker.op == "DequantizeLinear"
    assert element_type(maker.inputs[1]) == FP32.onnx
    x = normal(4, 8)
    exact, found = (Session(graph).run({"x": x})["y"] for graph in (model(text, opset=19), emulate(typed)))
    assert sqnr_db(exact, found) > 40


def test_a_contributed_operator_computes_in_half_where_it_can() -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { z = com.microsoft.FastGelu (x) y = Neg (z) }"
    made = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17, "com.microsoft" : 1]> {text}')
    typed = lower(model_from_proto(made), {})
    assert {node.op: element_type(node.outputs[0]) for node in typed.nodes() if node.op != "Cast"} == {"FastGelu": 10, "Neg": 10}
