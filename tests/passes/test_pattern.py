"""The matcher binds what it should, tries what it must, and says how near a miss was."""

from __future__ import annotations

import pytest

from fp16fix.graph.model import Model
from fp16fix.passes.rewrite.found import leaking
from fp16fix.passes.rewrite.pattern import Any, As, Number, Op, Pattern, Reduce, Square, Tensor, Weight, find, search
from fp16fix.passes.rewrite.rules._match import Wiring
from tests.models import model


def graph(body: str, inputs: str = "float[2,4] x, float[2,4] z", outputs: str = "y", opset: int = 17) -> Model:
    typed = ", ".join(f"float{'[2,1]' if 'Reduce' in body and name == 'y' else '[2,4]'} {name}" for name in outputs.split())
    return model(f"g ({inputs}) => ({typed}) <float two = {{2}}, float eps = {{1e-5}}, float[4] w = {{1, 2, 3, 4}}> {{ {body} }}", opset)


def matched(pattern: Pattern, text: str) -> dict[str, object] | None:
    here = graph(text)
    found = find(pattern, here.tensors()["y"])
    return None if found is None else {name: getattr(value, "name", value) for name, value in found.values.items()}


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (Op("Add", Tensor("a"), Number("n")), "y = Add (x, eps)", {"a": "x", "n": pytest.approx(1e-5)}),
        (Op("Add", Tensor("a"), Number("n")), "y = Add (eps, x)", {"a": "x", "n": pytest.approx(1e-5)}),
        (Op("Sub", Tensor("a"), Number("n")), "y = Sub (eps, x)", None),
        (Op("Mul", Tensor("a"), Weight("w")), "y = Mul (w, x)", {"a": "x", "w": "w"}),
        (Op("Mul", Tensor("a"), Tensor("a")), "y = Mul (x, z)", None),
        (Op("Mul", Tensor("a"), Tensor("a")), "y = Mul (x, x)", {"a": "x"}),
        (Square(Tensor("a")), "y = Mul (x, x)", {"a": "x"}),
        (Square(Tensor("a")), "y = Pow (x, two)", {"a": "x"}),
        (Square(Tensor("a")), "y = Pow (x, eps)", None),
        (Op("Add", Tensor("a"), Op("Mul", Tensor("a"), Tensor("b"))), "m = Mul (z, x) y = Add (m, x)", {"a": "x", "b": "z"}),
        (Any(Op("Sub", Tensor("a"), Tensor()), Op("Div", Tensor("b"), Tensor())), "y = Div (x, z)", {"b": "x"}),
        (Op("Add", As("r", Op("Relu", Tensor("a"))), Tensor("r")), "r = Relu (x) y = Add (r, r)", {"r": "r", "a": "x"}),
        (Op("Add", As("r", Op("Relu", Tensor("a"))), Tensor("r")), "r = Relu (x) y = Add (r, x)", None),
        (Reduce("ReduceMean", Tensor("a")), "y = ReduceMean <axes = [-1]> (x)", {"a": "x", "axes": (1,)}),
        (Number("n"), "y = Add (x, eps)", None),
    ],
)
def test_match(pattern: Pattern, text: str, expected: dict[str, object] | None) -> None:
    assert matched(pattern, text) == expected


def test_axes_of_two_reductions_must_agree() -> None:
    both = Op("Sub", Reduce("ReduceMax", Tensor("a")), Reduce("ReduceMin", Tensor("a")))
    same = "a = ReduceMax <axes = [1]> (x) b = ReduceMin <axes = [-1]> (x) y = Sub (a, b)"
    other = "a = ReduceMax <axes = [1]> (x) b = ReduceMin <axes = [0]> (x) c = Sub (a, b) y = ReduceMax <axes = [1]> (c)"
    assert matched(both, same) == {"a": "x", "axes": (1,)}
    here = graph(other)
    assert "unlike another reduction" in str(search(both, here.tensors()["c"], 2))


def test_dropped_dimensions_are_a_near_miss_unless_allowed() -> None:
    text = "g (float[2,4] x) => (float[2] y) { y = ReduceMax <axes = [1], keepdims = 0> (x) }"
    tensor = model(text).tensors()["y"]
    assert "drops the reduced dimensions" in str(search(Reduce("ReduceMax", Tensor("a")), tensor, 1))
    found = find(Reduce("ReduceMax", Tensor("a"), kept="kept"), tensor)
    assert found is not None
    assert found.number("kept", 1.0) == 0.0


def test_near_miss_tells_the_deepest_failure_and_far_ones_stay_silent() -> None:
    pattern = Op("Div", Tensor("a"), Op("Sqrt", Op("Add", Square(Tensor("a")), Number())))
    tensor = graph("q = Mul (x, z) e = Add (q, eps) d = Sqrt (e) y = Div (x, d)").tensors()["y"]
    assert "by 'z', not by itself" in str(search(pattern, tensor, 4))
    assert search(pattern, tensor, 5) is None
    far = graph("d = Sqrt (z) y = Div (x, d)").tensors()["y"]
    assert "not from Add" in str(search(pattern, far, 2))
    assert search(pattern, far, 3) is None


def test_absent_names_have_defaults() -> None:
    found = find(Any(Op("Add", Tensor("a"), Number("eps")), Tensor("a")), graph("y = Relu (x)").tensors()["x"])
    assert found is not None
    assert found.number("eps") == 0.0
    assert found.number("eps", 3.0) == 3.0
    assert not found.has("eps")
    assert found.names == ()


@pytest.mark.parametrize(
    ("text", "outputs", "leak"),
    [
        ("r = Relu (x) s = Sqrt (r) y = Neg (s)", "y", ""),
        ("r = Relu (x) s = Sqrt (r) y = Neg (s)", "y s", "Sqrt_s"),
        ("r = Relu (x) s = Sqrt (r) n = Neg (s) y = Add (n, r)", "y", "Relu_r"),
    ],
)
def test_results_read_outside_the_match_leak(text: str, outputs: str, leak: str) -> None:
    here = graph(text, outputs=outputs)
    last = here.node_map()["Neg_n" if "n = Neg" in text else "Neg_y"]
    found = find(Op("Neg", Op("Sqrt", Op("Relu", Tensor("a")))), last.outputs[0])
    assert found is not None
    assert leaking(Wiring(here).is_output, found, last) == leak
    assert leaking(Wiring(here).is_output, found, last, frozenset({leak})) == ""
