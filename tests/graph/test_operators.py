"""The operator table: what its rows say is what the operators do, and nobody keeps a table of operators beside it."""

from __future__ import annotations

import ast
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fp16fix.graph import operators
from fp16fix.graph.operators import MOVEMENT, OPERATORS, TABLE, Operator, Trait, having, operator
from fp16fix.passes.rescale.laws import TABLE as LAWS
from fp16fix.passes.rescale.laws import Law
from fp16fix.strict.insides import INSIDES, How
from tests.passes.test_laws import model, operand, outputs

ROOT = Path(operators.__file__).parents[1]
KNOWN = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
ELSEWHERE = {
    "graph/operators.py": "the table",
    "passes/rescale/laws.py": "laws of exponents, a row a law",
    "strict/interval.py": "laws of intervals, a row a law; which operators have one is tested against the rows of tests/strict/test_box.py",
    "strict/insides.py": "what TensorRT's parser makes of each operator",
    "strict/steps.py": "the functions that write the steps of an operator: no facts but those of strict/insides.py, which its test compares",
}
"""Files that may name three or more operators in one literal, and why."""
EXCLUDING = (
    (Trait.REORDERS, Trait.REPEATS, Trait.TAKES, Trait.MIXES, Trait.CHOOSES, Trait.ADDS, Trait.PRODUCT, Trait.SUMS, Trait.SATURATES),
    (Trait.SATURATES, Trait.RISES, Trait.COMPARES, Trait.ANGLES),
    (Trait.TYPED, Trait.CHOOSES, Trait.BODIES),
    (Trait.WRITTEN_OUT, Trait.CHOOSES, Trait.PRODUCT, Trait.BODIES),
)
"""Of each group an operator has one trait at most."""
MORE = (
    Law("ThresholdedRelu Sum Mean", "", ("2x3", "3")),
    Law("OneHot", "", ([0, 2], 3, "2")),
)
"""Examples for what has no law, or one under which it computes more than it moves."""


def example(op: str) -> Law:
    return next(law for law in (*MORE, *LAWS) if op in law.ops.split())


def run(op: str, *values: Any, **attributes: Any) -> list[np.ndarray]:
    """The operator's own example; values that are given take the place of the example's."""
    law, rng = example(op), np.random.default_rng(3)
    taken = [operand(spec, rng) for spec in law.example]
    for index, value in enumerate(values):
        if value is not None:
            taken[index] = np.asarray(value, np.float64)
    kept = {key: value for key, value in law.attributes.items() if key != "reduction"} | attributes
    return [np.asarray(found) for found in outputs(model(op, law, taken, kept), taken)]


def first(op: str) -> np.ndarray:
    """Input 0 of the example."""
    value = operand(example(op).example[0], np.random.default_rng(3))
    assert value is not None
    return value


def floats(op: str) -> set[float]:
    """Every float that the example holds, and its negation."""
    rng = np.random.default_rng(3)
    held = [operand(spec, rng) for spec in example(op).example]
    values = {float(v) for each in held if each is not None and each.dtype.kind == "f" for v in each.reshape(-1)}
    return values | {-value for value in values} | {0.0}


def each(*traits: Trait, without: str = "") -> list[str]:
    return sorted(having(*traits) - set(without.split()))


def test_every_row_is_an_operator_and_stands_once() -> None:
    assert {row.name for row in TABLE} <= KNOWN
    assert len(OPERATORS) == len(TABLE)
    assert operator("NoSuchOperator") == Operator("")


@pytest.mark.parametrize("group", EXCLUDING)
def test_traits_that_exclude_each_other_do(group: tuple[Trait, ...]) -> None:
    for one, other in combinations(group, 2):
        assert not having(one) & having(other), (one, other)


def literals(tree: ast.AST) -> list[tuple[int, set[str]]]:
    """Line and operators of every set, list, tuple, dict and sentence that names some."""
    found = []
    for node in ast.walk(tree):
        parts = node.keys if isinstance(node, ast.Dict) else node.elts if isinstance(node, (ast.Set, ast.Tuple, ast.List)) else []
        words = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and set(node.value.split()) <= KNOWN:
            words = node.value.split()
        found.append((getattr(node, "lineno", 0), set(words) & KNOWN))
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_keeps_a_table(path: Path) -> None:
    tables = [(line, names) for line, names in literals(ast.parse(path.read_text())) if len(names) >= 3]
    if str(path.relative_to(ROOT)) in ELSEWHERE:
        assert tables, "no exception is needed"
    else:
        assert not tables


@pytest.mark.parametrize("op", each(Trait.REORDERS))
def test_reorders(op: str) -> None:
    assert sorted(run(op)[0].reshape(-1)) == sorted(first(op).reshape(-1))


@pytest.mark.parametrize("op", each(Trait.REPEATS))
def test_repeats(op: str) -> None:
    found = run(op)[0]
    assert set(found.reshape(-1)) == set(first(op).reshape(-1))


@pytest.mark.parametrize("op", each(Trait.TAKES))
def test_takes(op: str) -> None:
    found = run(op)
    assert len(found) == 1
    assert set(found[0].reshape(-1)) <= set(first(op).reshape(-1)) | {0.0}


@pytest.mark.parametrize("op", each(Trait.MIXES, Trait.CHOOSES, without="ConcatFromSequence Scatter"))
def test_mixes_and_chooses(op: str) -> None:
    """What joins a sequence, and the old name of ScatterElements, the reference does not run."""
    literal = {0.75, -0.5, 0.5}
    assert {float(v) for found in run(op)[:1] for v in found.reshape(-1)} <= floats(op) | literal


@pytest.mark.parametrize("op", each(Trait.COMMUTES))
def test_commutes(op: str) -> None:
    a, b = np.array([1.5, -2.0, 3.0]), np.array([0.25, 5.0, -4.0])
    law = Law(op, "", ("3", "3"))
    there, back = (outputs(model(op, law, list(pair), {}), list(pair))[0] for pair in ((a, b), (b, a)))
    np.testing.assert_array_equal(there, back)


@pytest.mark.parametrize("op", each(Trait.SATURATES))
def test_saturates(op: str) -> None:
    with np.errstate(invalid="ignore"):
        edge, beyond = (run(op, np.array([[-1.0, 1.0]]) * size)[0] for size in (65504.0, np.inf))
    np.testing.assert_array_equal(edge, beyond)


@pytest.mark.parametrize("op", each(Trait.RISES))
def test_rises(op: str) -> None:
    assert run(op, [[np.inf]])[0] == np.inf


@pytest.mark.parametrize("op", each(Trait.COMPARES))
def test_compares(op: str) -> None:
    sides = np.array([[-1.0, 1.0]])
    np.testing.assert_array_equal(run(op, sides * 65504.0, [7.0])[0], run(op, sides * np.inf, [7.0])[0])


@pytest.mark.parametrize("op", each(Trait.EXPONENTIATES))
def test_exponentiates(op: str) -> None:
    shifted = np.array([[1.0, 2.0], [1.0, 2.5]])
    rows = run(op, shifted, axis=-1)[0] if op != "Exp" else run(op, shifted)[0]
    ratios = rows[:, 1] / rows[:, 0] if op != "LogSoftmax" else np.exp(rows[:, 1] - rows[:, 0])
    np.testing.assert_allclose(ratios[1] / ratios[0], np.exp(0.5), rtol=1e-5)


@pytest.mark.parametrize("op", each(Trait.STEPS))
def test_steps(op: str) -> None:
    found = run(op, [[0.2, 0.9, 1.6, 2.4]])[0]
    assert set(found.reshape(-1)) <= {0.0, 1.0, 2.0, 3.0}
    assert len(set(found.reshape(-1))) == 3


@pytest.mark.parametrize("op", each(Trait.RECURS))
def test_recurs(op: str) -> None:
    schema = onnx.defs.get_schema(op)
    assert {"hidden_size", "direction"} <= set(schema.attributes)
    assert {"R", "initial_h"} <= {each.name for each in schema.inputs}


@pytest.mark.parametrize("op", each(Trait.PICKS))
def test_picks(op: str) -> None:
    values = [[3.0, 9.0, 1.0]]
    given: list[np.ndarray | None] = [np.asarray(values, np.float32), *([np.array([1])] if op == "TopK" else [])]
    found = outputs(model(op, Law(op, "", ("1x3", "1")[: len(given)]), given, {"axis": 1}), given)[0]
    assert found.reshape(-1).tolist() == [{"ArgMax": 1, "ArgMin": 2, "TopK": 9.0}[op]]


@pytest.mark.parametrize("op", each(Trait.GUARDS))
def test_guards(op: str) -> None:
    assert run(op, [[0.0]], [1e-9] if op != "Clip" else 1e-9)[0] > 0.0


@pytest.mark.parametrize("op", each(Trait.KEEPS_SMALL))
def test_keeps_small(op: str) -> None:
    assert 0.0 < abs(run(op, [[1e-12]])[0]) < 1e-5


@pytest.mark.parametrize("row", [row for row in TABLE if row.small is not None], ids=lambda row: row.name)
def test_small_values_matter(row: Operator) -> None:
    """Twice a tiny value moves the result by far more than the value; a pole makes infinity of zero."""
    port = row.small
    assert port is not None
    law = example(row.name)
    attributes = {"epsilon": 0.0} if row.name == "BatchNormalization" else {}

    def at(value: float) -> float:
        given: list[Any] = [None] * len(law.example)
        given[port] = np.full_like(operand(law.example[port], np.random.default_rng(3)), value)
        if row.name == "Pow":
            given[1] = 0.5
        return float(np.asarray(run(row.name, *given, **attributes)[0]).reshape(-1)[0])

    with np.errstate(divide="ignore"):
        assert abs(at(2e-8) - at(1e-8)) > 1e3 * 1e-8
        assert np.isinf(at(0.0)) == (row.pole or row.name == "BatchNormalization")


@pytest.mark.parametrize("row", [row for row in TABLE if row.bias is not None], ids=lambda row: row.name)
def test_biases_are_added_last(row: Operator) -> None:
    bias = operand(example(row.name).example[2], np.random.default_rng(3))
    assert bias is not None
    attributes = {"beta": 1.0} if row.name == "Gemm" else {}
    low, high = (run(row.name, None, None, np.full(bias.shape, value), **attributes)[0] for value in (0.0, 3.0))
    np.testing.assert_allclose(high - low, 3.0, rtol=1e-6)


@pytest.mark.parametrize("row", [row for row in TABLE if row.extreme], ids=lambda row: row.name)
def test_extremes(row: Operator) -> None:
    found = run(row.name)[0]
    assert (found.max() == first(row.name).max()) if row.extreme == 1 else (found.min() == first(row.name).min())


@pytest.mark.parametrize("op", each(Trait.AVERAGES))
def test_averages_and_sums(op: str) -> None:
    np.testing.assert_allclose(run(op, np.full(first(op).shape, 3.0))[0], 3.0, rtol=1e-6)
    assert operator(op).power == 1
    assert Trait.SUMS in operator(op).traits


@pytest.mark.parametrize("row", [row for row in TABLE if row.power and Trait.AVERAGES not in row.traits], ids=lambda row: row.name)
def test_sums_grow_with_the_power(row: Operator) -> None:
    """Of tenfold values the sum inside is 10^power as large; norms take the root of it, or divide by that."""
    grown = {"ReduceL2": 1, "LpNormalization": 0}.get(row.name, row.power)
    np.testing.assert_allclose(run(row.name, 10.0 * first(row.name))[0], 10.0**grown * run(row.name)[0], rtol=1e-6)


@pytest.mark.parametrize("op", each(Trait.PRODUCT))
def test_products_are_bilinear(op: str) -> None:
    rng = np.random.default_rng(3)
    left, right, *rest = [np.asarray(operand(spec, rng)) for spec in example(op).example]
    rest = [np.zeros_like(each) for each in rest] if operator(op).bias is not None else rest
    once, four = (run(op, factor * left, factor * right, *rest)[0] for factor in (1.0, 2.0))
    np.testing.assert_allclose(four, 4.0 * once, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("op", each(Trait.WRITTEN_OUT))
def test_written_out_operators_have_a_body(op: str) -> None:
    schema: Any = onnx.defs.get_schema(op)
    assert schema.has_function or schema.has_context_dependent_function


def test_what_holds_graphs() -> None:
    graphs = {
        schema.name
        for schema in onnx.defs.get_all_schemas()
        if schema.domain == "" and any(each.type == onnx.defs.OpSchema.AttrType.GRAPH for each in schema.attributes.values())
    }
    assert having(Trait.BODIES) == graphs - {"SequenceMap"}, "SequenceMap is a function that is inlined, of sequences at that"


@pytest.mark.parametrize("row", [row for row in TABLE if row.shape is not None or row.index is not None], ids=lambda row: row.name)
def test_shapes_and_indices_are_whole_numbers(row: Operator) -> None:
    schema = onnx.defs.get_schema(row.name, 21)
    allowed = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}
    for port in (row.shape, row.index):
        if port is not None:
            kind = schema.inputs[port].type_str
            assert "tensor(int64)" in allowed.get(kind, [kind])


def test_insides_agree_on_what_moves() -> None:
    moves = {op for op, inside in INSIDES.items() if inside.how is How.MOVES}
    assert moves == (MOVEMENT | having(Trait.CHOOSES)) & set(INSIDES)


@pytest.mark.parametrize("op", each(Trait.ALONG, without="Slice GatherElements Concat Split Dropout Pad Swish ThresholdedRelu"))
def test_keeps_axes(op: str) -> None:
    rng = np.random.default_rng(3)
    shapes = [value.shape for spec in example(op).example if (value := operand(spec, rng)) is not None]
    assert run(op)[0].shape == np.broadcast_shapes(*shapes)


@pytest.mark.parametrize("op", each(Trait.SHARES))
def test_shares_lie_between_zero_and_one(op: str) -> None:
    found = run(op)[0]
    assert found.min() >= 0.0
    assert found.max() <= 1.0
