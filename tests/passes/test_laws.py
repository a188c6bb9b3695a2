"""Every row of the operator table, on random float64 data: scaling the operands as the law says scales the results as it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from fp16fix.passes.rescale.equations import Equation, equations, is_wall
from fp16fix.passes.rescale.laws import TABLE, Law

ROWS = [(law, op) for law in TABLE for op in law.ops.split()]


def operand(spec: Any, rng: np.random.Generator) -> np.ndarray | None:
    """The value of one example operand."""
    if isinstance(spec, np.ndarray):
        return spec
    if not isinstance(spec, str):
        array = np.asarray(spec)
        return array.astype(np.float64) if array.dtype.kind == "f" else array
    if not spec:
        return None
    values = rng.standard_normal([int(d) for d in spec.lstrip("+").split("x")])
    return np.abs(values) + 0.1 if spec.startswith("+") else values


def model(op: str, law: Law, values: list[np.ndarray | None], attributes: dict[str, Any]) -> onnx.ModelProto:
    """A model of one node whose operands are all graph inputs."""
    names = [f"x{i}" if value is not None else "" for i, value in enumerate(values)]
    outputs = [f"y{i}" for i in range(law.outputs)]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in zip(names, values, strict=True)
        if value is not None
    ]
    node = helper.make_node(op, names, outputs, name="node", **attributes)
    results = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs]
    return helper.make_model(helper.make_graph([node], "g", inputs, results), opset_imports=[helper.make_opsetid("", law.opset)])


def surgeon_node(op: str, values: list[np.ndarray | None], results: list[Any], attributes: dict[str, Any]) -> gs.Node:
    """The same node as the table's reader sees it; operands are constants, so that Pow knows its exponent."""
    inputs = [gs.Constant(f"x{i}", v) if v is not None else gs.Variable.empty() for i, v in enumerate(values)]
    outputs = [gs.Variable(f"y{i}", dtype=np.asarray(r).dtype) for i, r in enumerate(results)]
    return gs.Node(op, "node", attrs=attributes, inputs=inputs, outputs=outputs)


def draw(found: tuple[Equation, ...], rng: np.random.Generator) -> dict[str, int]:
    """Random exponents that satisfy every equation."""
    for _ in range(500):
        chosen = attempt(found, rng)
        if all(sum(k * chosen[port] for port, k in equation) == 0 for equation in found):
            return chosen
    raise AssertionError(f"no exponents satisfy {found}")


def attempt(found: tuple[Equation, ...], rng: np.random.Generator) -> dict[str, int]:
    """Ports in random order at random, each followed by what an equation then settles (rounded: the caller checks)."""
    chosen: dict[str, int] = {}
    for port in rng.permutation(sorted({port for equation in found for port, _ in equation})):
        chosen.setdefault(str(port), int(rng.integers(-6, 7)))
        for _ in found:
            for equation in found:
                unknown = [(port, k) for port, k in equation if port not in chosen]
                if len(unknown) == 1:
                    name, factor = unknown[0]
                    chosen[name] = -sum(k * chosen[port] for port, k in equation if port in chosen) // factor
    return chosen


def outputs(proto: onnx.ModelProto, values: list[np.ndarray | None]) -> list[Any]:
    feeds = {f"x{i}": value for i, value in enumerate(values) if value is not None}
    return list(ReferenceEvaluator(proto).run(None, feeds))


def scaled(value: Any, exponent: int) -> Any:
    return np.ldexp(np.asarray(value), -exponent) if exponent else value


@pytest.mark.parametrize(("law", "op"), ROWS, ids=[f"{op}-{law.opset}-{index}" for index, (law, op) in enumerate(ROWS)])
def test_law_holds(law: Law, op: str) -> None:
    rng = np.random.default_rng(5)
    values = [operand(spec, rng) for spec in law.example]
    attributes = dict(law.attributes)
    if op == "ConstantOfShape":
        attributes["value"] = helper.make_tensor("value", TensorProto.DOUBLE, [1], [0.75])
    truth = outputs(model(op, law, values, attributes), values)
    found = equations(surgeon_node(op, values, truth, attributes))
    for _ in range(3):
        e = draw(found, rng)
        moved = [
            v if v is None or v.dtype.kind != "f" else scaled(v, e.get(f"x{i}", int(rng.integers(-6, 7)))) for i, v in enumerate(values)
        ]
        changed = {
            name: float(scaled(v, e[f"@{name}"])) if f"@{name}" in e and isinstance(v, float) else v for name, v in attributes.items()
        }
        if op == "ConstantOfShape":
            changed["value"] = helper.make_tensor("value", TensorProto.DOUBLE, [1], [0.75 * 2.0 ** -e["@value"]])
        got = outputs(model(op, law, moved, changed), moved)
        for i, (mine, theirs) in enumerate(zip(got, truth, strict=True)):
            expected = scaled(theirs, e.get(f"y{i}", 0)) if np.asarray(theirs).dtype.kind == "f" else theirs
            np.testing.assert_allclose(mine, expected, rtol=1e-6, atol=0.0)


def node(op: str, inputs: list[Any], **attributes: Any) -> gs.Node:
    return gs.Node(op, "n", attrs=attributes, inputs=inputs, outputs=[gs.Variable("y", np.float32)])


def test_operators_outside_the_table_are_walls() -> None:
    x = gs.Variable("x", np.float32)
    assert equations(node("LSTM", [x])) == ((("x0", 1),), (("y0", 1),))
    assert equations(gs.Node("Relu", "n", domain="custom", inputs=[x], outputs=[gs.Variable("y", np.float32)])) == equations(
        node("LSTM", [x])
    )


def test_attributes_outside_the_law_make_a_wall() -> None:
    x, indices = gs.Variable("x", np.float32), gs.Variable("i", np.int64)
    product = node("ScatterND", [x, indices, x], reduction="mul")
    assert all(is_wall(equation) for equation in equations(product))
    assert not any(is_wall(equation) for equation in equations(node("ScatterND", [x, indices, x])))
    to_integer = gs.Node("Cast", "n", attrs={"to": 7}, inputs=[x], outputs=[gs.Variable("y", np.int64)])
    assert equations(to_integer) == ((("x0", 1),),)


def test_power_needs_a_constant_small_fraction() -> None:
    x = gs.Variable("x", np.float32)
    assert (("y0", 1), ("x0", -2)) in equations(node("Pow", [x, gs.Constant("c", np.asarray(2, np.int64))]))
    for exponent in (x, gs.Constant("c", np.asarray(2.2, np.float32)), gs.Constant("c", np.ones(3, np.float32))):
        assert all(is_wall(equation) for equation in equations(node("Pow", [x, exponent])))


def test_integers_become_floats_at_exponent_zero() -> None:
    ids = gs.Variable("ids", np.int64)
    assert equations(node("Cast", [ids], to=1)) == ((("y0", 1),),)
    assert equations(node("Add", [ids, ids])) == ((("y0", 1),),)
