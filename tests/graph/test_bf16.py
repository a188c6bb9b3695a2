"""Graphs typed BF16: what is BF16, what its schema or TensorRT keeps in FP32, and the opset that brings the forms."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest

from fp16fix.errors import UnraisableError
from fp16fix.graph.lone import BEYOND, guard, lone_products
from fp16fix.graph.lower import count_types, exits, lower
from fp16fix.graph.model import FLOATS, Constant, Model, element_type
from fp16fix.graph.opset import with_forms
from fp16fix.graph.session import Session, proto_of
from fp16fix.half import BF16, FP16, FP32
from fp16fix.strict.emulate import emulate
from tests.models import filled, model, normal

LAYER = "g (float[4,16] x, float[16,8] w) => (float[4,8] y) { [mm] h = MatMul (x, w) [act] r = Relu (h) [exp] y = Exp (r) }"
IMAGE = "g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4,6,6] y) { [conv] c = Conv (x, w) [act] y = Relu (c) }"


def types(typed: Model) -> dict[str, int]:
    """Element types of what every node makes."""
    return {node.name: element_type(node.outputs[0]) for node in typed.nodes() if element_type(node.outputs[0]) in FLOATS}


def test_everything_is_bf16_but_the_interface_and_the_islands() -> None:
    typed = lower(filled(LAYER, {"w": normal(16, 8)}, 22), {"exp": "fp32"}, narrow=BF16)
    found = types(typed)
    assert (found["mm"], found["act"], found["exp"]) == (BF16.onnx, BF16.onnx, FP32.onnx)
    assert FP16.onnx not in {element_type(tensor) for tensor in typed.tensors().values()}
    (weight,) = [tensor for tensor in typed.tensors().values() if isinstance(tensor, Constant)]
    np.testing.assert_array_equal(weight.values, normal(16, 8).astype(ml_dtypes.bfloat16))
    assert [element_type(tensor) for tensor in (*typed.graph.inputs, *typed.graph.outputs)] == [FP32.onnx, FP32.onnx]
    onnx.checker.check_model(proto_of(typed), full_check=True)
    inside = lower(filled(LAYER, {"w": normal(16, 8)}, 22), {}, io="bf16", narrow=BF16)
    assert [element_type(tensor) for tensor in (*inside.graph.inputs, *inside.graph.outputs)] == [BF16.onnx, BF16.onnx]
    assert count_types(inside) == {"float_nodes": 3, "fp32_nodes": 0, "bf16_nodes": 3, "casts": 0, "border_muls": 0}


def test_what_leaves_an_island_saturates_at_bf16s_largest() -> None:
    fp32 = model("g (float[4] x) => (float[4] y) { [wide] a = Neg (x) [out] y = Neg (a) }", 22)
    assert exits(fp32, {"wide": "fp32"}, None, BF16) == {"a"}
    assert exits(fp32, {"wide": "fp32"}, None) == {"a"}
    typed = lower(fp32, {"wide": "fp32"}, saturate={"a"}, narrow=BF16)
    x = np.array([3.4e38, -3.4e38, 1e30, 2.0], np.float32)
    np.testing.assert_array_equal(
        Session(emulate(typed)).run({"x": x})["y"], x.clip(-BF16.largest, BF16.largest).astype(ml_dtypes.bfloat16)
    )
    plain = lower(fp32, {"wide": "fp32"}, narrow=BF16)
    assert np.isinf(Session(emulate(plain)).run({"x": x})["y"]).tolist() == [True, True, False, False]


def test_operators_have_bf16_forms_from_the_opset_that_brings_them() -> None:
    assert types(lower(model(IMAGE, 17), {}, io="bf16", narrow=BF16))["conv"] == FP32.onnx, "ONNX gives Conv BF16 from 22 on"
    old = model(IMAGE, 17)
    old.narrow = BF16
    raised = with_forms(old, None)
    assert raised.opset == 22
    assert "from opset 17 to 22" in raised.notes[-1]
    assert types(lower(raised, {}, io="bf16", narrow=BF16)) == {"conv": BF16.onnx, "act": BF16.onnx}
    assert with_forms(raised, None) is raised
    assert with_forms(old, 17) is old, "no further than the user asked for"
    assert with_forms(model(IMAGE, 17), None).opset == 17, "FP16 has forms everywhere"


def test_a_model_too_old_for_bf16_says_so() -> None:
    old = model("g (float[4] x) => (float[4] y) { y = Neg (x) }", 11)
    old.narrow = BF16
    with pytest.raises(UnraisableError, match="opset 11 has no BF16, and nothing past opset 12 was asked for"):
        with_forms(old, 12)
    assert with_forms(old, None).opset == 22


def test_a_body_that_cannot_be_raised_stays_as_far_down_as_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    from fp16fix.graph import opset

    real = opset.raise_opset

    def stubborn(subject: Model, target: int) -> Model:
        if target > 18:
            raise UnraisableError("Pad 'p' has no conversion")
        return real(subject, target)

    monkeypatch.setattr(opset, "raise_opset", stubborn)
    old = model("g (float[4] x) => (float[4] y) { y = Neg (x) }", 13)
    old.narrow = BF16
    raised = with_forms(old, None)
    assert raised.opset == 18
    assert "Operators that have no BF16 there stay FP32: Pad 'p' has no conversion." in raised.notes[-1]
    old = model("g (float[4] x) => (float[4] y) { y = Neg (x) }", 18)
    old.narrow = BF16
    assert with_forms(old, None) is old
    assert old.notes[-1].startswith("Stays in opset 18: Pad 'p' has no conversion.")


@pytest.mark.parametrize("op", ["HardSwish", "Mish"])
def test_what_tensorrt_does_not_take_in_bf16_is_fp32(op: str) -> None:
    fp32 = model(f"g (float[4] x) => (float[4] y) {{ [op] a = {op} (x) [out] y = Neg (a) }}", 22)
    assert types(lower(fp32, {}, io="bf16", narrow=BF16))["op"] == FP32.onnx
    assert types(lower(fp32, {}, io="fp16"))["op"] == FP16.onnx
    assert types(lower(fp32, {"op": "bf16"}, io="fp16"))["op"] == FP32.onnx, "on an island too"


def test_a_transposed_convolution_stands_between_casts_with_weights_that_bf16_holds() -> None:
    text = "g (float[1,4,8,8] x, float[4,2,3,3] w) => (float[1,2,10,10] y) { [up] c = ConvTranspose (x, w) [act] y = Relu (c) }"
    typed = lower(filled(text, {"w": normal(4, 2, 3, 3)}, 22), {}, io="bf16", narrow=BF16)
    (lone,) = lone_products(typed)
    assert (lone.node.name, lone.low, lone.weights) == ("up", BF16, ())
    np.testing.assert_array_equal(lone.node.inputs[1].values, normal(4, 2, 3, 3).astype(ml_dtypes.bfloat16).astype(np.float32))
    assert count_types(typed)["fp32_nodes"] == 0
    half = lower(filled(text, {"w": normal(4, 2, 3, 3)}, 22), {}, io="fp16")
    assert types(half)["up"] == FP16.onnx


def test_the_guard_of_a_lone_product_changes_no_bf16_number() -> None:
    fp32 = filled(LAYER.replace("[mm]", "[pre] g = Relu (x) [mm]").replace("MatMul (x", "MatMul (g"), {"w": normal(16, 8)}, 22)
    typed = lower(fp32, {"mm": "fp32"}, io="bf16", narrow=BF16)
    assert list(lone_products(typed)) == [], "it is guarded"
    assert len(typed.border) == 1
    before = len(list(typed.nodes()))
    guard(typed)
    assert len(list(typed.nodes())) == before, "once"
    x = np.array([BEYOND[BF16], BF16.overflow, BF16.largest, np.inf, 3.4028235e38], np.float32)
    np.testing.assert_array_equal(x.clip(-BEYOND[BF16], BEYOND[BF16]).astype(ml_dtypes.bfloat16), x.astype(ml_dtypes.bfloat16))
